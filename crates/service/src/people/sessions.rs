//! Sessions of the portal. A browser holds a random secret; its digest and what belongs to it stand in the local store.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, hex, keccak256};
use serde::{Deserialize, Serialize};
use stele_core::time::Timestamp;

use super::{WalletQuestion, random};
use crate::{
    Service,
    error::{Error, Result},
};

/// How long a session lives without a request, in milliseconds: half an hour.
pub const SESSION_IDLE_MS: u64 = 30 * 60 * 1000;
/// How long a session lives at all, in milliseconds: a working day.
pub const SESSION_MS: u64 = 12 * 3600 * 1000;
/// A session in use is written again when it has aged by this, in milliseconds, not at every request.
const KEEP_MS: u64 = 60 * 1000;

/// What belongs to a browser's session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Session {
    /// Who signed in; nobody yet where absent.
    pub account: Option<Address>,
    /// What every form of the session carries.
    pub csrf: B256,
    /// When it began.
    pub started: Timestamp,
    /// When it was last used, to the minute.
    pub seen: Timestamp,
    /// What the next passkey's challenge is made from; new after each use.
    pub challenge: B256,
    /// Digest of the invitation that is being accepted.
    pub invitation: Option<B256>,
    /// The request to be registered whose passkey signed in: somebody without an account, who may see that request alone.
    #[serde(default)]
    pub applicant: Option<B256>,
    /// What a wallet is asked to sign.
    #[serde(default)]
    pub wallet: Option<WalletQuestion>,
    /// What a form of several pages has gathered so far.
    #[serde(default)]
    pub answers: BTreeMap<String, Vec<String>>,
}

/// A session as its owner sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionView {
    /// When it began: the sign-in.
    pub started: Timestamp,
    /// When it was last used, to the minute.
    pub seen: Timestamp,
    /// Whether it is the one that asks.
    pub is_this: bool,
}

impl Service {
    /// Begins a session and gives the browser's secret, 64 hex digits. A sign-in always begins a new one, so that
    /// nobody can make somebody use a session known to them.
    ///
    /// # Errors
    /// The index fails.
    pub fn begin_session(&self, account: Option<Address>) -> Result<(String, Session)> {
        let now = self.clock.now();
        let secret = hex::encode(random());
        let session = Session {
            account,
            csrf: random().into(),
            started: now,
            seen: now,
            challenge: random().into(),
            invitation: None,
            applicant: None,
            wallet: None,
            answers: BTreeMap::new(),
        };
        self.keep_session(&secret, &session)?;
        Ok((secret, session))
    }

    /// A session that is still good; its use is noted.
    ///
    /// # Errors
    /// The index fails.
    pub fn session(&self, secret: &str) -> Result<Option<Session>> {
        const WHAT: &str = "reading a session";
        let now = self.clock.now();
        let found = self
            .index
            .local()
            .session(&digest(secret), now)
            .map_err(Error::index(WHAT))?;
        let Some(bytes) = found else { return Ok(None) };
        let mut session: Session =
            serde_json::from_slice(&bytes).map_err(|e| Error::internal(WHAT, e))?;
        if now.0.saturating_sub(session.seen.0) > KEEP_MS {
            session.seen = now;
            self.keep_session(secret, &session)?;
        }
        Ok(Some(session))
    }

    /// Keeps what changed in a session.
    ///
    /// # Errors
    /// The index fails.
    pub fn keep_session(&self, secret: &str, session: &Session) -> Result<()> {
        const WHAT: &str = "keeping a session";
        let document = serde_json::to_vec(session).map_err(|e| Error::internal(WHAT, e))?;
        let end = session
            .seen
            .plus_ms(SESSION_IDLE_MS)
            .min(session.started.plus_ms(SESSION_MS));
        let local = self.index.local();
        let id = digest(secret);
        match session.account {
            Some(account) => local.put_session_of(account, &id, &document, end),
            None => local.put_session(&id, &document, end),
        }
        .map_err(Error::index(WHAT))
    }

    /// Where an account is signed in, the latest use first. `secret` is that of the session that asks.
    ///
    /// # Errors
    /// The index fails.
    pub fn sessions_of(&self, account: Address, secret: &str) -> Result<Vec<SessionView>> {
        const WHAT: &str = "listing sessions";
        let own = digest(secret);
        let mut list = Vec::new();
        let found = self
            .index
            .local()
            .sessions_of(account, self.clock.now())
            .map_err(Error::index(WHAT))?;
        for (id, document) in found {
            let session: Session =
                serde_json::from_slice(&document).map_err(|e| Error::internal(WHAT, e))?;
            list.push(SessionView {
                started: session.started,
                seen: session.seen,
                is_this: id == own,
            });
        }
        list.sort_by_key(|one| std::cmp::Reverse((one.is_this, one.seen)));
        Ok(list)
    }

    /// Ends all sessions of an account but the one that asks. Gives the number ended.
    ///
    /// # Errors
    /// The index fails.
    pub fn end_other_sessions(&self, account: Address, secret: &str) -> Result<usize> {
        self.index
            .local()
            .end_sessions_of(account, &digest(secret))
            .map_err(Error::index("ending sessions"))
    }

    /// Takes the session's challenge: a new one stands in its place, so that no answer counts twice.
    ///
    /// # Errors
    /// The index fails.
    pub fn take_challenge(&self, secret: &str, session: &mut Session) -> Result<[u8; 32]> {
        let taken = session.challenge;
        session.challenge = random().into();
        self.keep_session(secret, session)?;
        Ok(taken.0)
    }

    /// Ends a session.
    ///
    /// # Errors
    /// The index fails.
    pub fn end_session(&self, secret: &str) -> Result<()> {
        self.index
            .local()
            .end_session(&digest(secret))
            .map_err(Error::index("ending a session"))
    }
}

fn digest(secret: &str) -> B256 {
    keccak256([b"stele/session/v1\0".as_slice(), secret.as_bytes()].concat())
}
