//! What members ask each other: a grantee's public key, the records a grantee may read, their peppers or shares of
//! them, and what keeps custodians of one mind: trees, erasures, accesses.
//!
//! A question is signed with the asking organisation's on-chain key (ES256K over the exact bytes), names its addressee,
//! the chain and a key made for its answer, and is taken once. The answer is sealed to that key (X-Wing) and signed by
//! the organisation that gives it, so both hold without trust in what lies between. Whether it is given is decided by
//! the ledger's finalized state at the answering member alone.

mod answer;
mod blocks;
mod cards;
mod ciphertext;
mod copies;
mod custody;
mod follow;
mod peppers;
mod recover;
mod repair;
mod replicas;
pub mod rules;
mod shares;
mod snapshot;
mod succession;
mod trails;
mod written;

use std::sync::Arc;

use alloy_primitives::{Address, B128, B256};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rand_core::Rng as _;
use serde::{Deserialize, Serialize};
use stele_core::{
    crypto::{
        hpke::{self, KemPublic, KemSecret},
        jws, os_rng,
    },
    id::{OrganizationId, RecordId},
    receipt::AccessReceipt,
};
use stele_vault::custody::Custody;
use zeroize::Zeroizing;

use crate::{
    Service,
    error::{Error, Result},
    ports::{PeerError, Peers},
};

pub use cards::{KnownCard, MemberCard, SignedCard};
pub use custody::Sharing;
pub(crate) use peppers::{Keeper, Released};
pub use recover::Recovered;
pub use replicas::Replicas;
use rules::{PeppersAsked, SharesAsked};
pub(crate) use shares::Down;

/// How far a question's time may lie from this node's clock, in milliseconds.
const SKEW_MS: u64 = 60_000;
/// Longest question in bytes.
pub const QUESTION_BYTES_MAX: usize = 1 << 20;
const INFO: &[u8] = b"stele/members/v1";
const ANSWERING: &str = "answering a member";

/// A question of one member to another.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Question {
    /// Organisation that asks; the signature is its.
    from: Address,
    /// Organisation that is asked.
    to: Address,
    /// Digest of the chain's first block.
    genesis: B256,
    /// Random; a question is answered once.
    nonce: B256,
    /// X-Wing public key that the answer is sealed to, in base64.
    reply_to: String,
    ask: Ask,
}

/// What is asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(
    tag = "what",
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
enum Ask {
    /// The public key that records are opened to for an account of the asked organisation.
    Key { account: Address },
    /// The records of a log that an account of the asking organisation may read, from a leaf on.
    Records {
        reader: Address,
        log: Address,
        purposes: u16,
        from: u64,
    },
    /// Takes transactions of a member that proposes nothing itself, in base64.
    Transactions { transactions: Vec<String> },
    /// Where members are; the asker says what it knows.
    Members { cards: Vec<SignedCard> },
    /// Final blocks from a height on.
    Blocks { from: u64 },
    /// A final block whose state can be had, with what proves it.
    Snapshot {},
    /// Parts of the state after a block: its height, and what is lacking, in base64.
    State { height: u64, wants: String },
    /// Receipts of final blocks, from a height to another.
    Receipts { from: u64, to: u64 },
    /// Peppers of record versions that an access receipt of the asking organisation covers.
    Peppers(Box<PeppersAsked>),
    /// Shares of such peppers.
    Shares(Box<SharesAsked>),
    /// A tree that the asked organisation is to hold from now on: sealed to its key, in base64.
    Tree {
        custody: Custody,
        tree: u8,
        sealed: String,
    },
    /// Such a tree, sealed to another of its custodians for the asker to carry there.
    Pass {
        custody: Custody,
        tree: u8,
        to: Address,
    },
    /// Who the custodians of a custody are by now.
    Custody { id: B128 },
    /// The asker was made from a backup: it lacks what was dealt to it since, and has what was erased since.
    Again {},
    /// The asker has erased records: the shares are to be destroyed. Record, custody and period of each.
    Erased { places: Vec<(RecordId, B128, u32)> },
    /// Accesses to the asker's patients that stand in the asked organisation's sequence, from a receipt on.
    Accesses { from: u64 },
    /// The public keys that an account of the asking organisation is to seal to, which may add to a log.
    WritingKeys {
        writer: Address,
        log: Address,
        purposes: u16,
    },
    /// What the asked organisation wrote at some leaves of the log of a patient of the asker.
    Written { log: Address, leaves: Vec<u64> },
    /// What is kept of a log for its owner and its readers, from a leaf on; opaque to whoever asks.
    Copies { log: Address, from: u64 },
}

/// Receipts of accesses to the asker's patients, batch by batch as they are anchored.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AccessesPage {
    batches: Vec<AccessesAnchored>,
    /// Number of the receipt to go on from.
    next: u64,
}

/// Receipts of one anchored batch, and the digests of all in it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AccessesAnchored {
    first: u64,
    digests: Vec<B256>,
    receipts: Vec<AccessReceipt>,
}

/// An account's public key, signed by that account.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct KeyCard {
    public: String,
    signature: String,
}

/// Some records of a log.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RecordsPage {
    /// Grants of keys, sealed to the reader.
    grants: Vec<String>,
    records: Vec<SharedRecord>,
    encapsulations: Vec<String>,
    /// Who shares the records' peppers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    custodies: Vec<Custody>,
    /// The leaf to go on from; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
    /// The first leaf whose record the answering member does not have yet, but should have soon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pending: Option<u64>,
}

/// A record version as another member needs it. Byte strings are in base64.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SharedRecord {
    resource_type: String,
    id: String,
    version: u32,
    record: RecordId,
    category: u8,
    last_updated_ms: u64,
    leaf: u64,
    meta: String,
    /// The organisation that wrote and keeps it, where that is not the one that answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    custodian: Option<Address>,
}

/// A sealed answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Sealed {
    /// Detached ES256K signature of the answering organisation over nonce and sealed bytes.
    signature: String,
    sealed: String,
}

impl Service {
    /// Names the other members' gateways. Only the first call has an effect.
    pub fn set_peers(&self, peers: Arc<dyn Peers>) {
        drop(self.peers.set(peers));
    }

    /// Asks another member and gives its opened answer.
    async fn ask(
        &self,
        from: OrganizationId,
        to: OrganizationId,
        ask: Ask,
    ) -> Result<Zeroizing<Vec<u8>>> {
        const WHAT: &str = "asking another member";
        let peers = self
            .peers
            .get()
            .ok_or_else(|| away(to, &PeerError::Unknown))?;
        let internal = |error: &dyn std::fmt::Display| Error::internal(WHAT, error);
        let secret = KemSecret::random(&mut os_rng()).map_err(|error| internal(&error))?;
        let mut nonce = B256::ZERO;
        os_rng().fill_bytes(nonce.as_mut_slice());
        let question = Question {
            from: from.0,
            to: to.0,
            genesis: self.ledger.facts().genesis_hash,
            nonce,
            reply_to: STANDARD.encode(secret.public().to_bytes()),
            ask,
        };
        let body = serde_json::to_vec(&question).map_err(|error| internal(&error))?;
        let key = self.transactions.key(from.0)?;
        let signature =
            jws::sign(&key, from.0, self.clock.now(), &body).map_err(|error| internal(&error))?;
        let answer = peers
            .ask(to, signature, body.into())
            .await
            .map_err(|error| away(to, &error))?;
        let wrong = |problem: &str| Error::Member {
            message: format!("the answer of organisation {to} {problem}"),
        };
        let answer: Sealed = serde_json::from_slice(&answer).map_err(|_| wrong("can't be read"))?;
        let sealed = STANDARD
            .decode(&answer.sealed)
            .map_err(|_| wrong("can't be read"))?;
        let signer = jws::verify(&answer.signature, &signed_answer(&nonce, &sealed))
            .map_err(|_| wrong("is not signed"))?;
        if (signer.account, signer.key) != (to.0, to.0) {
            return Err(wrong("is signed by somebody else"));
        }
        hpke::open(&secret, INFO, nonce.as_slice(), &sealed).map_err(|_| wrong("does not open"))
    }

    /// Answers a question of another member: `signature` is detached, over exactly `body`.
    ///
    /// # Errors
    /// [`Error::NotPermitted`] for a question that is not signed by an active organisation, not meant for this node,
    /// too old or asked before; otherwise why it is not answered.
    pub async fn answer_member(self: &Arc<Self>, signature: &str, body: &[u8]) -> Result<Vec<u8>> {
        let internal = |error: &dyn std::fmt::Display| Error::internal(ANSWERING, error);
        let question = self.checked_question(signature, body)?;
        let reply_to = STANDARD
            .decode(&question.reply_to)
            .ok()
            .and_then(|bytes| KemPublic::from_bytes(&bytes).ok())
            .ok_or_else(|| Error::Conflict {
                message: "replyTo is no X-Wing public key".into(),
            })?;
        let answering = OrganizationId(question.to);
        let asker = OrganizationId(question.from);
        let plain = self.answer_to(asker, answering, question.ask).await?;
        let nonce = question.nonce;
        let sealed = hpke::seal(&reply_to, INFO, nonce.as_slice(), &plain, &mut os_rng())
            .map_err(|error| internal(&error))?;
        let key = self.transactions.key(answering.0)?;
        let signature = jws::sign(
            &key,
            answering.0,
            self.clock.now(),
            &signed_answer(&nonce, &sealed),
        )
        .map_err(|error| internal(&error))?;
        serde_json::to_vec(&Sealed {
            signature,
            sealed: STANDARD.encode(sealed),
        })
        .map_err(|error| internal(&error))
    }

    /// What a question of a member is answered with, before it is sealed.
    async fn answer_to(
        self: &Arc<Self>,
        asker: OrganizationId,
        answering: OrganizationId,
        ask: Ask,
    ) -> Result<Zeroizing<Vec<u8>>> {
        let internal = |error: &dyn std::fmt::Display| Error::internal(ANSWERING, error);
        Ok(match ask {
            Ask::Key { account } => {
                let card = self.key_card(account).await?;
                Zeroizing::new(serde_json::to_vec(&card).map_err(|error| internal(&error))?)
            }
            Ask::Records {
                reader,
                log,
                purposes,
                from,
            } => {
                let actor = self.reader(asker, reader, purposes, log)?;
                let page = self.share_records(asker, &actor, log, from).await?;
                Zeroizing::new(serde_json::to_vec(&page).map_err(|error| internal(&error))?)
            }
            Ask::Transactions { transactions } => {
                self.take_transactions(&transactions).await?;
                Zeroizing::new(b"{}".to_vec())
            }
            Ask::Members { cards } => self.swap_cards(cards)?,
            Ask::Blocks { from } => self.give_blocks(asker, from)?,
            Ask::Snapshot {} => self.offer_snapshot(asker).await?,
            Ask::State { height, wants } => self.give_state(asker, height, &wants).await?,
            Ask::Receipts { from, to } => self.give_receipts(from, to).await?,
            Ask::Peppers(asked) => self.release_peppers(asker, *asked).await?,
            Ask::Shares(asked) => self.release_shares(asker, answering, *asked).await?,
            Ask::Tree {
                custody,
                tree,
                sealed,
            } => {
                self.take_tree(asker, answering, custody, tree, &sealed)
                    .await?
            }
            Ask::Pass { custody, tree, to } => self.pass_tree(asker, &custody, tree, to).await?,
            Ask::Custody { id } => self.give_custody(id)?,
            Ask::Again {} => self.begin_again(asker).await?,
            Ask::Erased { places } => self.destroy_shares(asker, &places).await?,
            Ask::Accesses { from } => self.give_accesses(asker, answering, from).await?,
            Ask::WritingKeys {
                writer,
                log,
                purposes,
            } => self.give_writing_keys(asker, writer, log, purposes).await?,
            Ask::Written { log, leaves } => {
                self.give_written(asker, answering, log, leaves).await?
            }
            Ask::Copies { log, from } => self.give_copies(log, from).await?,
        })
    }

    /// A question, if this node has to consider it.
    fn checked_question(&self, signature: &str, body: &[u8]) -> Result<Question> {
        let refused = |message: &str| Error::NotPermitted {
            message: message.to_owned(),
        };
        let signer = jws::verify(signature, body)
            .map_err(|_| refused("the question is not signed by its sender"))?;
        let question: Question = serde_json::from_slice(body).map_err(|error| Error::Conflict {
            message: format!("the question can't be read: {error}"),
        })?;
        if (signer.account, signer.key) != (question.from, question.from) {
            return Err(refused("the question is signed by somebody else"));
        }
        if question.genesis != self.ledger.facts().genesis_hash {
            return Err(refused("the question is of another consortium"));
        }
        if !self.is_member(OrganizationId(question.from))?
            && !self.is_told_of_recovery(question.from, &question.ask)
        {
            return Err(refused(
                "the sender is no active organisation of the consortium",
            ));
        }
        if !self.is_hosted(OrganizationId(question.to))? {
            return Err(refused(
                "the organisation that is asked is not of this node",
            ));
        }
        let now = self.clock.now();
        if now.0.abs_diff(signer.signed.0) > SKEW_MS {
            return Err(refused(
                "the question is not of this minute: look at the clocks",
            ));
        }
        let is_new = self
            .index
            .local()
            .use_assertion(
                &format!("member {}", question.from),
                &question.nonce.to_string(),
                signer.signed.plus_ms(SKEW_MS.saturating_mul(2)),
                now,
            )
            .map_err(Error::index("marking a question as answered"))?;
        if !is_new {
            return Err(refused("the question was answered before"));
        }
        Ok(question)
    }

    /// Whether this node keeps the keys of an organisation.
    pub(crate) fn is_hosted(&self, organization: OrganizationId) -> Result<bool> {
        let keys = self.vault.keys();
        let key = keys.signing(organization.0);
        Ok(key.map_err(Error::vault("asking for a key"))?.is_some())
    }

    /// The public key that records are opened to for an account: of this node, or asked of its organisation's.
    pub(crate) async fn public_key_of(&self, account: Address) -> Result<KemPublic> {
        const WHAT: &str = "finding a grantee's key";
        let organization = match self.account(account)? {
            Some(found) if found.kind == 1 => OrganizationId(account),
            _ => self.organization_of(account)?,
        };
        if organization.0.is_zero() || self.is_hosted(organization)? {
            let keys = self.vault.keys();
            let public = keys.ensure_kem(account, &mut os_rng()).await;
            return public.map_err(Error::vault(WHAT));
        }
        let answer = self
            .ask(self.organization, organization, Ask::Key { account })
            .await?;
        let wrong = || Error::Member {
            message: format!("organisation {organization} gave no key of {account}"),
        };
        let card: KeyCard = serde_json::from_slice(&answer).map_err(|_| wrong())?;
        let public = STANDARD.decode(&card.public).map_err(|_| wrong())?;
        let signer = jws::verify(&card.signature, &self.signed_card(account, &public))
            .map_err(|_| wrong())?;
        // A key of the account itself: its organisation can't slip in another.
        if (signer.account, signer.key) != (account, account) {
            return Err(wrong());
        }
        KemPublic::from_bytes(&public).map_err(|_| wrong())
    }

    fn signed_card(&self, account: Address, public: &[u8]) -> Vec<u8> {
        let genesis = self.ledger.facts().genesis_hash;
        [
            &b"stele/member-key/v1"[..],
            genesis.as_slice(),
            account.as_slice(),
            public,
        ]
        .concat()
    }
}

fn signed_answer(nonce: &B256, sealed: &[u8]) -> Vec<u8> {
    [&b"stele/member-answer/v1"[..], nonce.as_slice(), sealed].concat()
}

/// A refusal keeps its meaning; whatever else went wrong may go right later.
fn away(organization: OrganizationId, error: &PeerError) -> Error {
    match error {
        PeerError::Refused {
            status: 403 | 404, ..
        } => Error::NotPermitted {
            message: format!("organisation {organization}: {error}"),
        },
        _ => Error::Member {
            message: format!("organisation {organization} did not answer: {error}"),
        },
    }
}
