//! Which records damage in the vault costs: every version in the index, held against the vault and the ledger's leaf.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::Address;
use stele_index::ResourceVersion;
use stele_vault::store::{BadBlob, Report};

use crate::{
    Service,
    error::{Error, Result},
};

/// A version that a reader is refused because what is stored is not what was recorded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Damaged {
    /// `Type/id`.
    pub resource: String,
    /// Version, from 1.
    pub version: u32,
    /// What is wrong, in words.
    pub problem: String,
}

impl Service {
    /// Names the records that a report of the vault's blobs concerns, and those whose meta is gone, damaged, or not
    /// what the ledger has at its place. Erased versions are not looked for. The index must be complete.
    ///
    /// # Errors
    /// The index fails, or the vault for another reason than damage.
    pub fn inspect_vault(&self, report: &Report) -> Result<Vec<Damaged>> {
        const WHAT: &str = "listing the vault's records";
        let bad: BTreeMap<_, _> = report.bad.iter().map(|bad| (bad.cid, bad)).collect();
        let chain = self.index.chain();
        let mut damaged = BTreeSet::new();
        for log in chain.logs().map_err(Error::index(WHAT))? {
            let size = chain.log_size(log).map_err(Error::index(WHAT))?;
            for leaf in 0..size {
                damaged.extend(self.inspect_leaf(log, leaf, &bad)?);
            }
        }
        Ok(damaged.into_iter().collect())
    }

    fn inspect_leaf(
        &self,
        log: Address,
        leaf: u64,
        bad: &BTreeMap<cid::Cid, &BadBlob>,
    ) -> Result<Option<Damaged>> {
        const WHAT: &str = "finding a record by its leaf";
        let found = self.index.search().at_leaf(log, leaf);
        let Some(version) = found.map_err(Error::index(WHAT))? else {
            return Ok(None);
        };
        let problem = match self.checked_meta(&version) {
            Ok(meta) => match meta.cid().map_err(Error::vault(WHAT))? {
                None => None,
                Some(cid) => match bad.get(&cid) {
                    Some(bad) => Some(format!("{cid}: {}", bad.problem)),
                    None => (!self.has_blob(&cid)?).then(|| format!("{cid}: it is not stored")),
                },
            },
            Err(Error::DoesNotMatch { .. }) => {
                Some("its meta is gone or is not what the ledger has".to_owned())
            }
            Err(Error::Gone { .. }) => None,
            Err(error) => return Err(error),
        };
        Ok(problem.map(|problem| named(&version, problem)))
    }
}

fn named(version: &ResourceVersion, problem: String) -> Damaged {
    Damaged {
        resource: format!("{}/{}", version.resource_type, version.id),
        version: version.version,
        problem,
    }
}
