//! Unsent drafts: what a member of staff was writing when the page was left or the session ended. For the writer alone,
//! encrypted in the local store, forgotten when it is sent or after two weeks.

use serde::{Deserialize, Serialize};
use stele_core::time::Timestamp;

use crate::{
    Service,
    error::{Error, Result},
    session::Actor,
};

/// How long a draft is kept after its last change, in milliseconds: 14 days.
pub const UNSENT_MS: u64 = 14 * 24 * 3600 * 1000;
/// Drafts of one writer.
const UNSENT_MAX: usize = 50;
/// Longest draft, in bytes: a long note, encoded.
const DRAFT_MAX: usize = 64 * 1024;

/// A form that was not sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Unsent {
    /// Path of the page that the form is on.
    pub place: String,
    /// What it holds, as the form encodes it.
    pub form: String,
    /// When it was last kept.
    pub saved: Timestamp,
}

impl std::fmt::Debug for Unsent {
    /// What is written is clinical.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Unsent({} bytes of {})", self.form.len(), self.saved)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    form: String,
    saved: Timestamp,
}

impl Service {
    /// Keeps what the actor is writing at a place, in place of what was kept before.
    ///
    /// # Errors
    /// [`Error::TooLarge`]; [`Error::Conflict`] where the actor has too many drafts.
    pub fn keep_unsent(&self, actor: &Actor, place: &str, form: &str) -> Result<Timestamp> {
        const WHAT: &str = "keeping a draft";
        let saved = self.clock.now();
        if form.len().saturating_add(place.len()) > DRAFT_MAX {
            return Err(Error::TooLarge {
                message: "The draft is too long to be kept. Send it, or shorten it.".into(),
            });
        }
        let all = self.all_unsent(actor)?;
        if all.len() >= UNSENT_MAX && !all.iter().any(|one| one.place == place) {
            return Err(Error::Conflict {
                message: format!("You have {UNSENT_MAX} drafts. Send or discard some first."),
            });
        }
        let kept = Kept {
            form: form.to_owned(),
            saved,
        };
        let document = serde_json::to_vec(&kept).map_err(|e| Error::internal(WHAT, e))?;
        self.index
            .local()
            .put_draft(actor.account, place, &document, saved.plus_ms(UNSENT_MS))
            .map_err(Error::index(WHAT))?;
        Ok(saved)
    }

    /// What the actor was writing at a place.
    ///
    /// # Errors
    /// The index fails.
    pub fn unsent(&self, actor: &Actor, place: &str) -> Result<Option<Unsent>> {
        let found = self
            .index
            .local()
            .draft(actor.account, place, self.clock.now())
            .map_err(Error::index("reading a draft"))?;
        found
            .map(|document| parse(place.to_owned(), &document))
            .transpose()
    }

    /// All that the actor was writing, the newest first.
    ///
    /// # Errors
    /// The index fails.
    pub fn all_unsent(&self, actor: &Actor) -> Result<Vec<Unsent>> {
        let found = self
            .index
            .local()
            .drafts_of(actor.account, self.clock.now())
            .map_err(Error::index("listing drafts"))?;
        let mut list = found
            .into_iter()
            .map(|(place, document)| parse(place, &document))
            .collect::<Result<Vec<_>>>()?;
        list.sort_by_key(|one| std::cmp::Reverse(one.saved));
        Ok(list)
    }

    /// Forgets a draft: it was sent, or is not wanted.
    ///
    /// # Errors
    /// The index fails.
    pub fn drop_unsent(&self, actor: &Actor, place: &str) -> Result<()> {
        self.index
            .local()
            .end_draft(actor.account, place)
            .map(drop)
            .map_err(Error::index("forgetting a draft"))
    }
}

fn parse(place: String, document: &[u8]) -> Result<Unsent> {
    let kept: Kept = serde_json::from_slice(document)
        .map_err(|error| Error::internal("reading a draft", error))?;
    Ok(Unsent {
        place,
        form: kept.form,
        saved: kept.saved,
    })
}
