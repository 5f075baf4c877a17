//! Parts of a record in the order in which people read it. The index says what stands on a page; only that is opened.

use std::{collections::HashMap, sync::Arc};

use stele_core::receipt::AccessAction;
pub use stele_index::{Ended, Listing};
use stele_index::{Page, ResourceVersion};

use crate::{
    Service, Stored,
    error::Result,
    records::{COUNT_MAX, index_error},
    session::Actor,
};

/// A page of one listing, opened.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    /// Entries in order. What does not match the ledger is there without its text.
    pub entries: Vec<Stored>,
    /// Encounters that the entries belong to.
    pub encounters: Vec<Stored>,
    /// Number of all entries listed, where it was asked for.
    pub total: Option<u64>,
    /// Cursor of the next page.
    pub next: Option<String>,
}

impl Service {
    /// Several parts of patients' records at one look, as far as the actor may see them: whatever stands in any of them is
    /// opened once, and all of it leaves one receipt a record.
    ///
    /// # Errors
    /// As for [`Service::search`].
    pub async fn list(
        self: &Arc<Self>,
        actor: &Actor,
        mut listings: Vec<Listing>,
    ) -> Result<Vec<Listed>> {
        const WHAT: &str = "listing a record";
        for listing in &mut listings {
            listing.limit = listing.limit.min(COUNT_MAX);
        }
        let viewer = actor.viewer();
        let pages: Vec<Page> = self
            .read_blocking(WHAT, move |service| {
                let now = service.clock.now();
                let search = service.index.search();
                listings
                    .iter()
                    .map(|listing| {
                        search
                            .list(listing, &viewer, now)
                            .map_err(index_error(WHAT))
                    })
                    .collect()
            })
            .await?;
        let (opened, _) = self
            .fetch(actor, AccessAction::Search, each_once(&pages))
            .await?;
        let opened: HashMap<(String, String), Stored> = opened
            .into_iter()
            .map(|one| ((one.resource_type.clone(), one.id.clone()), one))
            .collect();
        // What was revoked or erased since the index was asked is in no list.
        let those = |versions: &[ResourceVersion]| -> Vec<Stored> {
            versions
                .iter()
                .filter_map(|one| opened.get(&(one.resource_type.to_owned(), one.id.clone())))
                .cloned()
                .collect()
        };
        Ok(pages
            .into_iter()
            .map(|page| Listed {
                entries: those(&page.matches),
                encounters: those(&page.includes),
                total: page.total,
                next: page.next,
            })
            .collect())
    }
}

fn each_once(pages: &[Page]) -> Vec<ResourceVersion> {
    let mut seen = std::collections::HashSet::new();
    pages
        .iter()
        .flat_map(|page| page.matches.iter().chain(&page.includes))
        .filter(|one| seen.insert((one.resource_type, one.id.as_str())))
        .cloned()
        .collect()
}
