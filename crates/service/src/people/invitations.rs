//! Invitations: how a person whom an organisation registered makes the first passkey.

use alloy_primitives::{Address, B256, keccak256};
use stele_core::time::Timestamp;

use super::{NewPasskey, Person, Site, random};
use crate::{
    Service,
    error::{Error, Result},
};

/// How long an invitation lives, in milliseconds: a day, for somebody who goes home from the desk.
pub const INVITATION_MS: u64 = 24 * 3600 * 1000;

/// Symbols of a code: Crockford's base 32, which has no letters that are mistaken for digits.
const SYMBOLS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Symbols in a code: 60 bits, far more than can be tried in a day.
const LENGTH: usize = 12;

/// A code that lets its holder make a passkey for an account, once.
#[derive(Clone, PartialEq, Eq)]
pub struct Invitation {
    /// `XXXX-XXXX-XXXX`. Kept nowhere.
    pub code: String,
    /// Whose.
    pub account: Address,
    /// When it ends.
    pub expires: Timestamp,
}

impl std::fmt::Debug for Invitation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Invitation({} until {})", self.account, self.expires)
    }
}

impl Service {
    /// Makes an invitation for a person whose keys this node keeps. It is handed over in person: whoever has it can
    /// act as them.
    ///
    /// # Errors
    /// Nobody active has this account, or the keys are not here.
    pub fn invite(&self, account: Address) -> Result<Invitation> {
        const WHAT: &str = "inviting a person";
        if self.person(account)?.is_none() {
            return Err(Error::not_found(
                "person with account",
                &account.to_string(),
            ));
        }
        let key = self.vault.keys().signing(account);
        if key.map_err(Error::vault(WHAT))?.is_none() {
            return Err(Error::NotPermitted {
                message: format!(
                    "{account} keeps their own keys: only they can add a passkey to the account"
                ),
            });
        }
        let symbols: Vec<u8> = random()
            .iter()
            .take(LENGTH)
            .filter_map(|byte| SYMBOLS.get(usize::from(byte & 31)).copied())
            .collect();
        let code = symbols
            .chunks(4)
            .map(String::from_utf8_lossy)
            .collect::<Vec<_>>()
            .join("-");
        let expires = self.clock.now().plus_ms(INVITATION_MS);
        self.index
            .local()
            .put_session(&digest(&code), account.as_slice(), expires)
            .map_err(Error::index(WHAT))?;
        Ok(Invitation {
            code,
            account,
            expires,
        })
    }

    /// Whom a code invites. Gives a digest that stands for the code from now on.
    ///
    /// # Errors
    /// [`Error::NotPermitted`] for a code that is wrong, used or too old; nothing tells which.
    pub fn invited(&self, code: &str) -> Result<(B256, Person)> {
        let digest = digest(code);
        self.invited_by(&digest).map(|person| (digest, person))
    }

    /// As [`Self::invited`], by the digest.
    ///
    /// # Errors
    /// As for [`Self::invited`].
    pub fn invited_by(&self, digest: &B256) -> Result<Person> {
        const WHAT: &str = "looking up an invitation";
        let found = self
            .index
            .local()
            .session(digest, self.clock.now())
            .map_err(Error::index(WHAT))?;
        let account = found.and_then(|bytes| Address::try_from(bytes.as_slice()).ok());
        let person = match account {
            Some(account) => self.person(account)?,
            None => None,
        };
        person.ok_or_else(|| Error::NotPermitted {
            message: "This code is not valid. It may have been used, or be older than a day. \
                      Ask for a new one where you got it."
                .into(),
        })
    }

    /// Makes the first passkey of an invited person. The code is spent.
    ///
    /// # Errors
    /// The code is not valid any more, the passkey does not answer the challenge, or the ledger refuses.
    pub async fn accept_invitation(
        &self,
        site: &Site,
        digest: &B256,
        challenge: &[u8; 32],
        passkey: &NewPasskey,
    ) -> Result<Person> {
        // Two requests with one code: the second finds it spent.
        let name = digest.to_string();
        let _turn = self
            .turns
            .take([("Invitation", name.as_str())].into_iter())
            .await;
        let person = self.invited_by(digest)?;
        self.add_passkey(site, &person, challenge, passkey).await?;
        self.index
            .local()
            .end_session(digest)
            .map_err(Error::index("spending an invitation"))?;
        Ok(person)
    }
}

/// What stands for a code: people write small letters, blanks, and letters for digits.
fn digest(code: &str) -> B256 {
    let plain: String = code
        .chars()
        .filter(|c| c.is_ascii_alphanumeric())
        .map(|c| match c.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            other => other,
        })
        .collect();
    keccak256([b"stele/invitation/v1\0".as_slice(), plain.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_as_people_write_it() {
        assert_eq!(digest("ab01-CDEF-2345"), digest(" ABOl cdef2345"));
        assert_ne!(digest("AB01-CDEF-2345"), digest("AB01-CDEF-2346"));
    }
}
