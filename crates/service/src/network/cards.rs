//! Where members are reached: each says it of itself, signed with its organisation's on-chain key, and hands on what
//! the others say, so that a newcomer needs to know one gateway only.

use alloy_primitives::B256;
use serde::{Deserialize, Serialize};
use stele_core::{crypto::jws, id::OrganizationId, time::Timestamp};
use zeroize::Zeroizing;

use super::Ask;
use crate::{
    Service,
    error::{Error, Result},
};

/// Where a member is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MemberCard {
    /// Its organisation.
    pub organization: OrganizationId,
    /// Its validator's ed25519 keys, 32 bytes each: the one in use, and the next or the last while it is replaced.
    pub validators: Vec<B256>,
    /// Where its validator listens: host and port.
    pub address: String,
    /// Base URL of its gateway.
    pub gateway: String,
}

/// A card as its organisation signed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignedCard {
    /// The JSON text of a [`MemberCard`].
    pub card: String,
    /// Detached ES256K signature of the organisation over that text.
    pub signature: String,
}

/// A card whose signature is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownCard {
    /// What it says.
    pub card: MemberCard,
    /// When it was signed; a newer one takes its place.
    pub at: Timestamp,
    /// As it was signed.
    pub signed: SignedCard,
}

/// Cards of one message: there are at most 50 validators, and some members without a seat.
const CARDS_MAX: usize = 200;
/// Most keys that a validator has had.
const KEYS_MAX: usize = 64;
/// Longest address or URL in bytes.
const ADDRESS_BYTES_MAX: usize = 300;

impl Service {
    /// Signs where this node is reached.
    ///
    /// # Errors
    /// This node has not the organisation's key.
    pub fn sign_card(&self, card: &MemberCard) -> Result<SignedCard> {
        const WHAT: &str = "signing where this member is";
        let text = serde_json::to_string(card).map_err(|error| Error::internal(WHAT, error))?;
        let account = card.organization.0;
        let key = self.transactions.key(account)?;
        let signature = jws::sign(&key, account, self.clock.now(), text.as_bytes());
        Ok(SignedCard {
            signature: signature.map_err(|error| Error::internal(WHAT, error))?,
            card: text,
        })
    }

    /// The cards among these that their organisations signed, of any organisation: whether it belongs to the
    /// consortium is for whoever uses them to ask.
    #[must_use]
    pub fn read_cards(&self, signed: Vec<SignedCard>) -> Vec<KnownCard> {
        let read = |signed: SignedCard| {
            let signer = jws::verify(&signed.signature, signed.card.as_bytes()).ok()?;
            let card: MemberCard = serde_json::from_str(&signed.card).ok()?;
            let organization = card.organization.0;
            let fits = (signer.account, signer.key) == (organization, organization)
                && card.address.len() <= ADDRESS_BYTES_MAX
                && card.gateway.len() <= ADDRESS_BYTES_MAX
                && card.validators.len() <= KEYS_MAX;
            fits.then_some(KnownCard {
                card,
                at: signer.signed,
                signed,
            })
        };
        signed
            .into_iter()
            .take(CARDS_MAX)
            .filter_map(read)
            .collect()
    }

    /// Whether an organisation is one of the consortium that acts now, as far as this node has followed the ledger.
    ///
    /// # Errors
    /// The ledger can't answer.
    pub fn is_member(&self, organization: OrganizationId) -> Result<bool> {
        let account = self.account(organization.0)?;
        Ok(account.is_some_and(|account| account.kind == 1 && account.active))
    }

    /// Takes the asker's cards and gives those known here.
    pub(super) fn swap_cards(&self, theirs: Vec<SignedCard>) -> Result<Zeroizing<Vec<u8>>> {
        let mut known = Vec::new();
        if let Some(peers) = self.peers.get() {
            let mut cards = self.read_cards(theirs);
            let mut members = Vec::new();
            for card in cards.drain(..) {
                if self.is_member(card.card.organization)? {
                    members.push(card);
                }
            }
            peers.learn(members);
            known = peers.cards();
        }
        let known = serde_json::to_vec(&known)
            .map_err(|error| Error::internal("giving out members' addresses", error))?;
        Ok(Zeroizing::new(known))
    }

    /// Tells another member the cards known here and learns those it knows.
    ///
    /// # Errors
    /// [`Error::Member`] if it does not answer.
    pub async fn exchange_cards(&self, with: OrganizationId) -> Result<()> {
        let Some(peers) = self.peers.get() else {
            return Ok(());
        };
        let cards = peers.cards();
        let answer = self
            .ask(self.organization, with, Ask::Members { cards })
            .await?;
        let theirs: Vec<SignedCard> =
            serde_json::from_slice(&answer).map_err(|_| Error::Member {
                message: format!("organisation {with} gave addresses that can't be read"),
            })?;
        // Somebody who joins follows the ledger only after this, so it can't ask it who belongs. It does not matter:
        // questions are sealed, what is fetched is proven, and validators are those that the ledger names.
        peers.learn(self.read_cards(theirs));
        Ok(())
    }
}
