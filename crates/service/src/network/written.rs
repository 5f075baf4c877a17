//! Writing for patients of other members: a laboratory elsewhere adds to a record that it may not read.
//!
//! The writer's member seals to the public keys that the patient's member gives it for the categories the patient opened
//! to the writer, keeps the ciphertext, and anchors the leaf in the patient's log, where the ledger asks for the grant once
//! more. The patient's member sees the leaf, asks the writer's member for what belongs to it, holds it against the ledger,
//! and opens and indexes it as the patient. The writer needs no permission to read for any of this, and gets none.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use alloy_primitives::Address;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use stele_core::{
    consent::{Permissions, Purpose},
    id::{OrganizationId, PatientId},
    receipt::AccessAction,
};
use stele_vault::keys::Directory;
use zeroize::Zeroizing;

use super::{
    Ask, RecordsPage,
    follow::{Shared, unreadable},
    rules::acting_for,
};
use crate::{
    Service,
    error::{Error, Result},
    records::{NewPatients, Placement, not_allowed},
    session::{Actor, ActorKind},
};

/// Leaves of a log looked at in one go.
const LEAVES: usize = 256;
/// Months of keys given at once. A writer asks again at its next write.
const MONTHS: u16 = 1;
/// How often, once a block, a leaf is asked for that its writer does not give: it may not have found it itself yet.
const TRIES: u32 = 120;

/// Public keys to write with, in base64: a directory of the categories that are open to the writer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WritingKeys {
    directory: String,
}

/// How far the logs of this node's patients were looked through for what other members wrote.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// Last transaction whose grants were looked at.
    grants: i64,
    /// Patients whom somebody of another member may write for, or could once: the leaf to go on from.
    logs: BTreeMap<Address, u64>,
    /// Leaves that are still to be brought, by who wrote them and log; and how often they were asked for in vain.
    missing: BTreeMap<(OrganizationId, Address), BTreeMap<u64, u32>>,
}

impl Service {
    /// Makes sure that this node has the keys for writing into the records of other members' patients among what was
    /// placed. With the patient's member away the keys of the last time have to do.
    pub(crate) async fn learn_writing_keys(
        &self,
        actor: &Actor,
        placements: &[(usize, Placement)],
        new: &NewPatients,
    ) -> Result<()> {
        let mut learned = BTreeSet::new();
        for (_, placement) in placements {
            let Placement::Write(one) = placement else {
                continue;
            };
            let Some(patient) = one.patient else { continue };
            if new.by_id.values().any(|other| *other == patient) || !learned.insert(patient.0) {
                continue;
            }
            let Some(host) = self.host_elsewhere(patient)? else {
                continue;
            };
            if self.open_slots(actor, patient.0, Permissions::WRITE)? == 0 {
                let records = [(one.record, one.version)];
                self.refuse(actor, patient.0, AccessAction::Write, 0, &records)
                    .await?;
                return Err(not_allowed(&one.resource_type));
            }
            self.ask_writing_keys(actor, patient, host).await?;
        }
        Ok(())
    }

    /// The organisation of a patient whose keys another node keeps; nothing for one of this node.
    pub(crate) fn host_elsewhere(&self, patient: PatientId) -> Result<Option<OrganizationId>> {
        const WHAT: &str = "asking for a key";
        let keys = self.vault.keys();
        if keys.manages(patient.0).map_err(Error::vault(WHAT))? {
            return Ok(None);
        }
        let host = self.organization_of(patient.0)?;
        Ok((!host.0.is_zero() && !self.is_hosted(host)?).then_some(host))
    }

    async fn ask_writing_keys(
        &self,
        actor: &Actor,
        patient: PatientId,
        host: OrganizationId,
    ) -> Result<()> {
        const WHAT: &str = "keeping a patient's public keys";
        let keys = self.vault.keys();
        // Two that add to what is kept would each leave out what the other adds.
        let _turn = self.writing_keys.lock().await;
        let known = keys.directory(patient.0).map_err(Error::vault(WHAT))?;
        let ask = Ask::WritingKeys {
            writer: actor.account,
            log: patient.0,
            purposes: actor.purpose_bits(),
        };
        let answer = match self.ask(actor.organization, host, ask).await {
            Ok(answer) => answer,
            Err(error @ Error::Member { .. }) if known.is_some() => {
                tracing::info!(member = %host, %error, "a patient's public keys of the last time have to do");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let given = serde_json::from_slice::<WritingKeys>(&answer)
            .ok()
            .and_then(|given| STANDARD.decode(given.directory).ok())
            .and_then(|bytes| Directory::decode(&bytes).ok())
            .filter(|directory| directory.log() == patient.0)
            .ok_or_else(|| unreadable(host))?;
        let root = self.index.chain().directory_root(patient);
        let root = root.map_err(Error::index(WHAT))?.unwrap_or_default();
        // A patient who holds the keys has committed to them; of others their organisation's word is all there is.
        let directory = if root.is_zero() {
            match known {
                Some(known) => known.renewed(given),
                None => given,
            }
        } else if given.root() == root {
            given
        } else {
            return Err(Error::Member {
                message: format!(
                    "organisation {host} gave other public keys than the patient committed to"
                ),
            });
        };
        keys.add_directory(&directory)
            .await
            .map_err(Error::vault(WHAT))
    }

    /// Gives a writer of another member the public keys of what the patient opened to it.
    pub(super) async fn give_writing_keys(
        &self,
        asker: OrganizationId,
        writer: Address,
        log: Address,
        purposes: u16,
    ) -> Result<Zeroizing<Vec<u8>>> {
        const WHAT: &str = "giving out a patient's public keys";
        let actor = self.reader(asker, writer, purposes, log)?;
        let open = self.open_slots(&actor, log, Permissions::WRITE)?;
        if open == 0 || actor.purposes.is_empty() {
            self.refuse(&actor, log, AccessAction::Write, 0, &[])
                .await?;
            return Err(Error::NotPermitted {
                message: "no live grant opens this patient's record to adding for this purpose"
                    .into(),
            });
        }
        let patient = PatientId(log);
        let keys = self.vault.keys();
        let directory = match keys.root(log).map_err(Error::vault(WHAT))? {
            // Which slot is which category is told for those only that the patient opened.
            Some(root) => {
                let mut categories = Vec::new();
                for category in self.categories_of(patient, open)? {
                    let number = category.number();
                    let generation = keys.generation(log, number);
                    categories.push((number, generation.map_err(Error::vault(WHAT))?));
                }
                let month = self.clock.now().month();
                Directory::derive(&root, log, &categories, month, MONTHS)
                    .map_err(Error::vault(WHAT))?
            }
            None => self.own_directory(patient)?,
        };
        let answer = WritingKeys {
            directory: STANDARD.encode(directory.encode()),
        };
        serde_json::to_vec(&answer)
            .map(Zeroizing::new)
            .map_err(|error| Error::internal(WHAT, error))
    }

    /// Brings here what other members wrote into the records of this node's patients.
    pub(super) async fn bring_written(self: &Arc<Self>, written: &mut Written) -> Result<()> {
        self.note_writers(written)?;
        let logs: Vec<Address> = written.logs.keys().copied().collect();
        for log in logs {
            self.note_missing(written, log)?;
        }
        let mut failed = None;
        for ((host, log), mut leaves) in std::mem::take(&mut written.missing) {
            // One member that is away holds up nobody else.
            match self.bring_leaves(host, log, &leaves).await {
                Ok(given) => {
                    leaves.retain(|leaf, _| !given.contains(leaf));
                    leaves
                        .values_mut()
                        .for_each(|tries| *tries = tries.saturating_add(1));
                    let asked = leaves.len();
                    leaves.retain(|_, tries| *tries < TRIES);
                    if leaves.len() < asked {
                        tracing::error!(member = %host, records = asked.saturating_sub(leaves.len()),
                            "a member does not give what it anchored for a patient of this one; asked again after a restart");
                    }
                }
                Err(error) => failed = Some(error),
            }
            if !leaves.is_empty() {
                written.missing.insert((host, log), leaves);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Takes note of patients who let somebody of another member write.
    fn note_writers(&self, written: &mut Written) -> Result<()> {
        const WHAT: &str = "listing who may write";
        let chain = self.index.chain();
        let (writers, last) = chain
            .writers_elsewhere(written.grants)
            .map_err(Error::index(WHAT))?;
        for patient in writers {
            if !written.logs.contains_key(&patient.0) && self.host_elsewhere(patient)?.is_none() {
                written.logs.insert(patient.0, 0);
            }
        }
        written.grants = last;
        Ok(())
    }

    /// Takes note of the leaves of a log that others wrote and that are not here.
    fn note_missing(&self, written: &mut Written, log: Address) -> Result<()> {
        const WHAT: &str = "looking for what others wrote";
        let from = written.logs.entry(log).or_default();
        let chain = self.index.chain();
        while chain.log_size(log).map_err(Error::index(WHAT))? > *from {
            let leaves = chain.leaves_of(log, *from, LEAVES);
            for leaf in leaves.map_err(Error::index(WHAT))? {
                *from = leaf.index.saturating_add(1);
                let writer = self.organization_acting(leaf.author)?;
                // A tombstone has no category, and is the act of who keeps the record.
                if leaf.category_slot.is_none() || writer.0.is_zero() || self.is_hosted(writer)? {
                    continue;
                }
                let known = self.index.search().at_leaf(log, leaf.index);
                if known.map_err(Error::index(WHAT))?.is_none() {
                    let missing = written.missing.entry((writer, log)).or_default();
                    missing.insert(leaf.index, 0);
                }
            }
        }
        Ok(())
    }

    /// The organisation that an account acts for: itself, or the one that vouches for it.
    pub(super) fn organization_acting(&self, account: Address) -> Result<OrganizationId> {
        Ok(match self.account(account)? {
            Some(found) if found.kind == 1 => OrganizationId(account),
            Some(found) => found.sponsor,
            None => OrganizationId(Address::ZERO),
        })
    }

    async fn bring_leaves(
        self: &Arc<Self>,
        host: OrganizationId,
        log: Address,
        leaves: &BTreeMap<u64, u32>,
    ) -> Result<BTreeSet<u64>> {
        let organization = OrganizationId(self.organization_hosting(log));
        let shared = Shared {
            organization,
            reader: log,
            patient: PatientId(log),
            host,
            grants: BTreeMap::new(),
        };
        let actor = Actor {
            kind: ActorKind::Patient,
            account: log,
            organization,
            purposes: vec![Purpose::Treat],
            client: "records that other members wrote".into(),
        };
        let all: Vec<u64> = leaves.keys().copied().collect();
        let mut given = BTreeSet::new();
        for part in all.chunks(LEAVES) {
            let ask = Ask::Written {
                log,
                leaves: part.to_vec(),
            };
            let answer = self.ask(organization, host, ask).await?;
            let page: RecordsPage =
                serde_json::from_slice(&answer).map_err(|_| unreadable(host))?;
            let brought: Vec<u64> = page.records.iter().map(|one| one.leaf).collect();
            self.take_in(&shared, &actor, page, &[host]).await?;
            given.extend(brought);
        }
        Ok(given)
    }

    /// Gives the patient's member what this node wrote at some leaves of the patient's log.
    pub(super) async fn give_written(
        self: &Arc<Self>,
        asker: OrganizationId,
        answering: OrganizationId,
        log: Address,
        leaves: Vec<u64>,
    ) -> Result<Zeroizing<Vec<u8>>> {
        const WHAT: &str = "giving what was written for a member's patient";
        if self.organization_of(log)? != asker {
            return Err(Error::NotPermitted {
                message: format!("{log} is no patient of organisation {asker}"),
            });
        }
        let actor = acting_for(&**self, asker, log, Purpose::Treat.bit(), answering)?;
        let page = self
            .read_blocking(WHAT, move |service| {
                let mut page = RecordsPage::default();
                for leaf in leaves.into_iter().take(LEAVES) {
                    service.add_record(&mut page, log, leaf, asker, |_| true)?;
                }
                Ok(page)
            })
            .await?;
        let records: Vec<_> = page
            .records
            .iter()
            .map(|one| (one.record, one.version))
            .collect();
        if !records.is_empty() {
            let receipt = self.receipt(&actor, log, AccessAction::Maintenance, u64::MAX, &records);
            self.write_receipt(receipt, &records).await?;
        }
        serde_json::to_vec(&page)
            .map(Zeroizing::new)
            .map_err(|error| Error::internal(WHAT, error))
    }
}
