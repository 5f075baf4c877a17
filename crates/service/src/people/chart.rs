//! What a person looks at: where each entry stands on the ledger, and who has looked.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256};
use stele_core::{
    consent::{Permissions, Purpose},
    id::{OrganizationId, PatientId},
    receipt::AccessAction,
    time::Timestamp,
};
use stele_fhir::category::Category;
use stele_index::grants::{AccessRequest, Grant};

use crate::{
    Service,
    error::{Error, Result},
    session::Actor,
};

/// Most reads of an access history, and most entries written that it looks at.
const ACCESSES_MAX: u32 = 1000;
const LEAVES_MAX: usize = 5000;

/// Number of a record in its patient's log: `REC1`.
pub type RecordNumber = u64;

/// Where a version of a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Whose log.
    pub log: Address,
    /// Number of the record: the place of its first version in the log, from 1.
    pub number: RecordNumber,
    /// Who wrote the version.
    pub author: Address,
    /// The organisation the author acted for.
    pub organization: OrganizationId,
    /// When it became final.
    pub at: Timestamp,
    /// Its transaction.
    pub transaction: B256,
    /// Height of its block.
    pub height: u64,
}

/// One line of an access history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: Address,
    /// The organisation whose gateway served or refused.
    pub organization: Address,
    /// What was done or tried; absent for a kind this program does not know.
    pub action: Option<AccessAction>,
    /// Whether it was allowed.
    pub allowed: bool,
    /// Parts of the record concerned; empty where the patient's keys are not here.
    pub categories: Vec<Category>,
    /// Purposes claimed.
    pub purposes: Vec<Purpose>,
    /// Number of records concerned.
    pub records: u32,
}

impl Service {
    /// Where a version of a resource of this node stands on the ledger.
    ///
    /// # Errors
    /// The index fails.
    pub fn placed(&self, resource_type: &str, id: &str, version: u32) -> Result<Option<Placed>> {
        const WHAT: &str = "finding an entry's place";
        let Some(found) = self.locate(resource_type, id)? else {
            return Ok(None);
        };
        let record = found.placement.record;
        let search = self.index.search();
        let first = search.leaf_of(record, 1).map_err(Error::index(WHAT))?;
        let this = search
            .leaf_of(record, version)
            .map_err(Error::index(WHAT))?;
        let Some((log, index)) = this else {
            return Ok(None);
        };
        let leaf = self
            .index
            .chain()
            .leaf(log, index)
            .map_err(Error::index(WHAT))?;
        let Some(leaf) = leaf else { return Ok(None) };
        Ok(Some(Placed {
            log,
            number: first.map_or(index, |(_, index)| index).saturating_add(1),
            author: leaf.author,
            organization: self.organization_of(leaf.author)?,
            at: leaf.anchored.at,
            transaction: leaf.anchored.tx,
            height: leaf.anchored.height,
        }))
    }

    /// What was written to a patient's record, newest first: the ledger's own word, one line for each transaction. For
    /// the patient and those who may decide for them.
    ///
    /// # Errors
    /// The actor may not see it.
    pub fn additions(&self, actor: &Actor, patient: PatientId) -> Result<Vec<Access>> {
        const WHAT: &str = "listing what was written";
        self.require_decider(actor, patient)?;
        let chain = self.index.chain();
        let size = chain.log_size(patient.0).map_err(Error::index(WHAT))?;
        let from = size.saturating_sub(LEAVES_MAX as u64);
        let leaves = chain
            .leaves_of(patient.0, from, LEAVES_MAX)
            .map_err(Error::index(WHAT))?;
        let mut lines: Vec<(B256, u64, Access)> = Vec::new();
        for leaf in leaves {
            let slot = leaf
                .category_slot
                .map_or(0, |slot| 1_u64.checked_shl(slot.into()).unwrap_or(0));
            match lines.last_mut().filter(|(tx, ..)| *tx == leaf.anchored.tx) {
                Some((_, slots, access)) => {
                    *slots |= slot;
                    access.records = access.records.saturating_add(1);
                }
                None => lines.push((
                    leaf.anchored.tx,
                    slot,
                    Access {
                        at: leaf.anchored.at,
                        actor: leaf.author,
                        organization: self.organization_of(leaf.author)?.0,
                        action: Some(AccessAction::Write),
                        allowed: true,
                        categories: Vec::new(),
                        purposes: Vec::new(),
                        records: 1,
                    },
                )),
            }
        }
        let mut additions = Vec::with_capacity(lines.len());
        for (_, slots, mut access) in lines.into_iter().rev() {
            access.categories = self.categories_of(patient, slots).unwrap_or_default();
            additions.push(access);
        }
        Ok(additions)
    }

    /// Who read a patient's record, newest first, refused attempts too. For the patient and those who may decide for
    /// them.
    ///
    /// # Errors
    /// The actor may not see it.
    pub fn accesses(&self, actor: &Actor, patient: PatientId) -> Result<Vec<Access>> {
        self.require_decider(actor, patient)?;
        let found = self
            .index
            .local()
            .receipts_about(patient.0, None, ACCESSES_MAX)
            .map_err(Error::index("listing accesses"))?;
        let mut lines = Vec::with_capacity(found.len());
        // Most receipts concern one of a few sets of categories.
        let mut known: BTreeMap<u64, Vec<Category>> = BTreeMap::new();
        for one in found {
            let receipt = one.receipt;
            let categories = known.entry(receipt.categories).or_insert_with(|| {
                self.categories_of(patient, receipt.categories)
                    .unwrap_or_default()
            });
            lines.push(Access {
                at: Timestamp(receipt.at_ms),
                actor: receipt.actor,
                organization: receipt.organization,
                action: AccessAction::from_code(receipt.action),
                allowed: receipt.allowed,
                categories: categories.clone(),
                purposes: Purpose::ALL
                    .into_iter()
                    .filter(|purpose| receipt.purposes & purpose.bit() != 0)
                    .collect(),
                records: receipt.records,
            });
        }
        Ok(lines)
    }

    /// Parts of a patient's record that the actor may use now, as the ledger judges it.
    ///
    /// # Errors
    /// The ledger can't answer, or the patient's keys are not here.
    pub fn open_parts(
        &self,
        actor: &Actor,
        patient: PatientId,
        permission: Permissions,
    ) -> Result<Vec<Category>> {
        let slots = self.open_slots(actor, patient.0, permission)?;
        self.categories_of(patient, slots)
    }

    /// Grants that the actor's own account ever held, newest first.
    ///
    /// # Errors
    /// The index fails.
    pub fn grants_held(&self, actor: &Actor) -> Result<Vec<Grant>> {
        self.index
            .chain()
            .grants_to(actor.account)
            .map_err(Error::index("listing grants held"))
    }

    /// Requests that the actor's own account made, newest first.
    ///
    /// # Errors
    /// The index fails.
    pub fn requests_made(&self, actor: &Actor) -> Result<Vec<AccessRequest>> {
        self.index
            .chain()
            .requests_by(actor.account)
            .map_err(Error::index("listing requests made"))
    }
}
