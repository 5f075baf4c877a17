//! Wallets: a key of secp256k1 that speaks for an account, held by an Ethereum wallet. Its owner proves it by signing a
//! message that says in words what it is for (EIP-4361, signed as EIP-191 has it).
//!
//! The message is written here and never read back: what the wallet returns is held against the text that was made for
//! this browser's session, so there is nothing to parse and nothing to forge in it.

use alloy_primitives::{Address, B256, Signature, eip191_hash_message, hex};
use alloy_sol_types::SolCall as _;
use serde::{Deserialize, Serialize};
use stele_core::{
    abi::identity::IIdentity::{addKeyCall, removeKeyCall, speaksForCall},
    id::IDENTITY,
    time::Timestamp,
};

use super::{Person, PersonKind, Session, Site};
use crate::{
    Service,
    error::{Error, Result},
    transactions::Order,
};

/// How long a message waits for its signature, in milliseconds.
const MESSAGE_MS: u64 = 5 * 60 * 1000;
/// Wallets of one account.
const WALLETS_MAX: usize = 8;

/// What a wallet signs for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum WalletUse {
    /// To sign in.
    SignIn,
    /// To become a key of the account that is signed in.
    Add,
}

impl WalletUse {
    /// The message's statement, which wallets show.
    const fn statement(self) -> &'static str {
        match self {
            Self::SignIn => "Sign in to your health record.",
            Self::Add => {
                "Let this wallet sign in to my health record and decide for my account on the ledger."
            }
        }
    }

    /// Path of the page that asks.
    const fn path(self) -> &'static str {
        match self {
            Self::SignIn => "/sign-in",
            Self::Add => "/account",
        }
    }
}

/// A message that waits for its signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WalletQuestion {
    wallet: Address,
    what: WalletUse,
    issued: Timestamp,
}

impl WalletQuestion {
    /// Whether it waited too long; also where the clock went back, so that nothing lives longer for it.
    fn is_stale(&self, now: Timestamp) -> bool {
        !(self.issued..=self.issued.plus_ms(MESSAGE_MS)).contains(&now)
    }

    /// The message by the grammar of EIP-4361.
    fn message(&self, site: &Site, chain_id: u64, nonce: &[u8; 32]) -> String {
        let origin = site.origin();
        let domain = origin
            .split_once("://")
            .map_or(origin, |(_, domain)| domain);
        format!(
            "{domain} wants you to sign in with your Ethereum account:\n{}\n\n{}\n\nURI: {origin}{}\nVersion: 1\n\
             Chain ID: {chain_id}\nNonce: {}\nIssued At: {}\nExpiration Time: {}",
            self.wallet,
            self.what.statement(),
            self.what.path(),
            hex::encode(nonce),
            self.issued.to_instant(),
            self.issued.plus_ms(MESSAGE_MS).to_instant()
        )
    }
}

impl Service {
    /// The message that a wallet is to sign in this session. A later one takes its place.
    ///
    /// # Errors
    /// The index fails.
    pub fn wallet_message(
        &self,
        site: &Site,
        secret: &str,
        session: &mut Session,
        wallet: Address,
        what: WalletUse,
    ) -> Result<String> {
        let question = WalletQuestion {
            wallet,
            what,
            issued: self.clock.now(),
        };
        let message = question.message(site, self.chain_id(), &session.challenge.0);
        session.wallet = Some(question);
        self.keep_session(secret, session)?;
        Ok(message)
    }

    /// Checks a wallet's sign-in and gives the person. The message is spent, whatever comes of it.
    ///
    /// # Errors
    /// [`Error::NotPermitted`] with what is wrong.
    pub fn sign_in_with_wallet(
        &self,
        site: &Site,
        secret: &str,
        session: &mut Session,
        signature: &[u8],
    ) -> Result<Person> {
        let wallet = self.signed_by(site, secret, session, WalletUse::SignIn, signature)?;
        let mut people = Vec::new();
        for account in self.accounts_of_wallet(wallet)? {
            people.extend(self.person(account)?);
        }
        match people.as_slice() {
            [person]
                if person.kind == PersonKind::Patient && !self.keeps_keys(person.account)? =>
            {
                Err(no(
                    "You keep the keys of your record yourself, so this site cannot open it. \
                     Use the program “stele” with your key file.",
                ))
            }
            [person] => Ok(*person),
            [] => Err(no(
                "This wallet is not known here, or its account is suspended. If you have a passkey, sign in with it and \
                 add the wallet under “Account”.",
            )),
            _ => Err(no(
                "This wallet belongs to several accounts. Sign in with the passkey of the one you want.",
            )),
        }
    }

    /// Makes a wallet a key of the person's account: on the ledger it speaks for the account from then on.
    ///
    /// # Errors
    /// The signature is not the wallet's over this session's message, or the ledger refuses.
    pub async fn add_wallet(
        &self,
        site: &Site,
        person: &Person,
        secret: &str,
        session: &mut Session,
        signature: &[u8],
    ) -> Result<()> {
        const WHAT: &str = "adding a wallet";
        let wallet = self.signed_by(site, secret, session, WalletUse::Add, signature)?;
        let conflict = |message: &str| {
            Err(Error::Conflict {
                message: message.to_owned(),
            })
        };
        if !self.accounts_of_wallet(wallet)?.is_empty() {
            return conflict("This wallet already belongs to an account.");
        }
        if self.wallets(person.account)?.len() >= WALLETS_MAX {
            return conflict("An account has at most 8 wallets. Remove one first.");
        }
        let add = addKeyCall {
            keyId: wallet.into_word(),
            kind: 0,
            rpIdHash: B256::ZERO,
        };
        self.transactions
            .settle(WHAT, person.account, Order::new(IDENTITY, &add, 300_000))
            .await
            .map(drop)
    }

    /// Wallets that were added to an account and speak for it.
    ///
    /// # Errors
    /// The index fails.
    pub fn wallets(&self, account: Address) -> Result<Vec<Address>> {
        let keys = self
            .index
            .chain()
            .keys_of(account)
            .map_err(Error::index("listing wallets"))?;
        Ok(keys
            .into_iter()
            .filter(|key| key.kind == 0 && !key.removed)
            .map(|key| Address::from_word(key.key))
            .filter(|wallet| *wallet != account)
            .collect())
    }

    /// Removes a wallet: from its block on it speaks for the account no more.
    ///
    /// # Errors
    /// It is not one of the person's, or the ledger refuses.
    pub async fn remove_wallet(&self, person: &Person, wallet: Address) -> Result<()> {
        const WHAT: &str = "removing a wallet";
        if !self.wallets(person.account)?.contains(&wallet) {
            return Err(Error::not_found("wallet", "of this account"));
        }
        let remove = removeKeyCall {
            keyId: wallet.into_word(),
        };
        self.transactions
            .settle(WHAT, person.account, Order::new(IDENTITY, &remove, 300_000))
            .await
            .map(drop)
    }

    /// The wallet that signed the message of this session, which is spent.
    fn signed_by(
        &self,
        site: &Site,
        secret: &str,
        session: &mut Session,
        what: WalletUse,
        signature: &[u8],
    ) -> Result<Address> {
        let question = session.wallet.take();
        let nonce = self.take_challenge(secret, session)?;
        let question = question.filter(|question| question.what == what).ok_or_else(|| {
            no("Nothing waits for a signature: it was used before, or asked for on another page. Try again.")
        })?;
        if question.is_stale(self.clock.now()) {
            return Err(no(
                "Your wallet took longer than 5 minutes to sign. Try again.",
            ));
        }
        let message = question.message(site, self.chain_id(), &nonce);
        let signer = Signature::from_raw(signature)
            .and_then(|signature| {
                signature.recover_address_from_prehash(&eip191_hash_message(&message))
            })
            .map_err(|_| no("What your wallet returned is not a signature. Try again."))?;
        if signer == question.wallet {
            return Ok(signer);
        }
        Err(no(
            "Your wallet signed with another account, or something else than this site asked for. Nothing was done.",
        ))
    }

    /// Accounts that a wallet's key speaks for now: the one of its own address, and those it was added to.
    fn accounts_of_wallet(&self, wallet: Address) -> Result<Vec<Address>> {
        const WHAT: &str = "finding the account of a wallet";
        let key = wallet.into_word();
        let mut accounts = self
            .index
            .chain()
            .accounts_with_key(key)
            .map_err(Error::index(WHAT))?;
        if self.account(wallet)?.is_some() && !accounts.contains(&wallet) {
            accounts.push(wallet);
        }
        let mut speaking = Vec::with_capacity(accounts.len());
        // The ledger has the last word.
        for who in accounts {
            let ask = speaksForCall { who, keyId: key };
            let output = self.view(WHAT, IDENTITY, ask.abi_encode())?;
            let speaks = speaksForCall::abi_decode_returns(&output)
                .map_err(|error| Error::internal(WHAT, error))?;
            if speaks.ok && speaks.kind == 0 {
                speaking.push(who);
            }
        }
        Ok(speaking)
    }

    /// Whether this node keeps the keys of an account.
    fn keeps_keys(&self, account: Address) -> Result<bool> {
        self.vault
            .keys()
            .signing(account)
            .map(|key| key.is_some())
            .map_err(Error::vault("looking for an account's keys"))
    }

    fn chain_id(&self) -> u64 {
        self.ledger.facts().chain_id
    }
}

fn no(message: &str) -> Error {
    Error::NotPermitted {
        message: message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::address;

    use super::*;

    /// The message by hand, from the grammar of EIP-4361.
    #[test]
    fn the_message_is_the_eips() {
        let question = WalletQuestion {
            wallet: address!("f39fd6e51aad88f6f4ce6ab8827279cfffb92266"),
            what: WalletUse::SignIn,
            issued: Timestamp(1_753_401_600_000),
        };
        let site = Site::new("https://records.example:8443");
        assert_eq!(
            question.message(&site, 57_831, &[0xab; 32]),
            format!(
                "records.example:8443 wants you to sign in with your Ethereum account:\n\
                 0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266\n\n\
                 Sign in to your health record.\n\n\
                 URI: https://records.example:8443/sign-in\n\
                 Version: 1\n\
                 Chain ID: 57831\n\
                 Nonce: {}\n\
                 Issued At: 2025-07-25T00:00:00.000Z\n\
                 Expiration Time: 2025-07-25T00:05:00.000Z",
                "ab".repeat(32)
            )
        );
    }

    #[test]
    fn a_message_waits_for_five_minutes() {
        let question = WalletQuestion {
            wallet: Address::ZERO,
            what: WalletUse::SignIn,
            issued: Timestamp(1_000_000),
        };
        for (now, stale) in [
            (1_000_000, false),
            (1_300_000, false),
            (1_300_001, true),
            (999_999, true),
        ] {
            assert_eq!(question.is_stale(Timestamp(now)), stale, "{now}");
        }
    }

    /// A signature for one purpose, site or session is of no use for another.
    #[test]
    fn every_part_of_the_message_counts() {
        let question = WalletQuestion {
            wallet: Address::repeat_byte(1),
            what: WalletUse::SignIn,
            issued: Timestamp(0),
        };
        let site = Site::new("https://records.example");
        let mut messages = vec![
            question.message(&site, 1, &[0; 32]),
            question.message(&site, 2, &[0; 32]),
            question.message(&site, 1, &[1; 32]),
            question.message(&Site::new("https://records.example.evil"), 1, &[0; 32]),
        ];
        let add = WalletQuestion {
            what: WalletUse::Add,
            ..question
        };
        messages.push(add.message(&site, 1, &[0; 32]));
        let later = WalletQuestion {
            what: WalletUse::SignIn,
            issued: Timestamp(1),
            ..add
        };
        messages.push(later.message(&site, 1, &[0; 32]));
        let count = messages.len();
        messages.sort();
        messages.dedup();
        assert_eq!(messages.len(), count);
    }
}
