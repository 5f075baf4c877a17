//! A patient's record taken out whole, and the report of who accessed it: collected here with consent and receipts,
//! signed with the organisation's key (or the managed patient's), checked anywhere by `stele_core::export`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use alloy_primitives::{Address, B256};
use stele_core::{
    account::AccountKey,
    export::{
        self, AUDIT_FORMAT, AuditReport, AuditSequence, ExportLog, ExportProofs, ExportRecord,
        FORMAT, MEMBER_AUDIT_FORMAT, MemberAuditReport, SignerProof, account_slot, key_slot,
    },
    id::{AUDIT, IDENTITY, OrganizationId, PatientId},
    mmr,
    proof::LogProof,
    receipt::{AccessAction, AccessReceipt},
    time::Timestamp,
};
use stele_index::ResourceVersion;

use crate::{
    Service,
    error::{Error, Result},
    records::{COUNT_MAX, Stored, Verification, index_error},
    session::Actor,
};

/// Most resources in one export, which is put together in memory.
pub const RESOURCES_MAX: usize = 50_000;
/// Most accesses in one report.
const RECEIPTS_MAX: u32 = 1_000_000;
/// Digests of an organisation's sequence that one report carries at most.
const DIGESTS_MAX: u64 = 4_000_000;
/// How often a log is proven again before the caller is asked to come back.
const WHOLE_LOG_TRIES: u32 = 500;
/// Receipts read at once.
const READ_MAX: u32 = 4096;

/// A patient's record, collected for one caller: what its signed file is made of.
#[derive(Clone, Debug)]
pub struct Collected {
    /// FHIR id of the Patient.
    pub patient_id: String,
    /// When it was collected.
    pub made: Timestamp,
    /// The resources, as stored.
    pub resources: Vec<Stored>,
    /// Their proofs; nothing is said of a page for people yet.
    pub proofs: ExportProofs,
}

/// A resource's name and version.
type Name = (String, String, u32);

impl Service {
    /// Collects a patient's record as far as the actor may see it, with the proofs. Writes receipts as any reading.
    ///
    /// # Errors
    /// As for [`Service::everything`]; [`Error::TooLarge`] above [`RESOURCES_MAX`].
    pub async fn collect(self: &Arc<Self>, actor: &Actor, patient_id: &str) -> Result<Collected> {
        const WHAT: &str = "collecting a record";
        let now = self.clock.now();
        let patient = self.visible_patient(actor, patient_id).await?;
        let (found, resources, withheld) = self.open_everything(actor, patient, now).await?;
        let service = Arc::clone(self);
        let (signer, patient_id) = (self.signer_of(actor)?, patient_id.to_owned());
        tokio::task::spawn_blocking(move || {
            let (logs, records) = service.prove_all(patient, &found, &resources)?;
            let proofs = ExportProofs {
                format: FORMAT.into(),
                organization: service.organization,
                patient: patient.0,
                signer: service.signer_proof(signer, None)?,
                logs,
                records,
                page: None,
                withheld,
            };
            Ok(Collected {
                patient_id,
                made: now,
                resources,
                proofs,
            })
        })
        .await
        .map_err(|error| Error::internal(WHAT, error))?
    }

    /// Everything of a patient that the actor may see, page by page: where each version stands, what was opened, and
    /// the names of what does not match.
    async fn open_everything(
        self: &Arc<Self>,
        actor: &Actor,
        patient: PatientId,
        now: Timestamp,
    ) -> Result<(BTreeMap<Name, ResourceVersion>, Vec<Stored>, Vec<String>)> {
        let mut found: BTreeMap<Name, ResourceVersion> = BTreeMap::new();
        let mut resources = Vec::new();
        let mut withheld = Vec::new();
        let mut cursor = None;
        loop {
            let page = self
                .index
                .search()
                .everything(
                    patient,
                    None,
                    cursor.as_deref(),
                    COUNT_MAX,
                    &actor.viewer(),
                    now,
                )
                .map_err(index_error("collecting a record"))?;
            let mut fresh = Vec::new();
            for version in page.matches.into_iter().chain(page.includes) {
                let name = name(version.resource_type, &version.id, version.version);
                if found.insert(name, version.clone()).is_none() {
                    fresh.push(version);
                }
            }
            if found.len() > RESOURCES_MAX {
                return Err(Error::TooLarge {
                    message: format!("the record has more than {RESOURCES_MAX} resources"),
                });
            }
            let (opened, _) = self.fetch(actor, AccessAction::Export, fresh).await?;
            for one in opened {
                match one.state {
                    Verification::Verified => resources.push(one),
                    Verification::DoesNotMatch => withheld.push(format!(
                        "{}/{}/_history/{}",
                        one.resource_type, one.id, one.version
                    )),
                }
            }
            cursor = page.next;
            if cursor.is_none() {
                return Ok((found, resources, withheld));
            }
        }
    }

    async fn visible_patient(&self, actor: &Actor, patient_id: &str) -> Result<PatientId> {
        let found = self
            .index
            .search()
            .read(
                "Patient",
                patient_id,
                None,
                &actor.viewer(),
                self.clock.now(),
            )
            .map_err(index_error("finding a patient"))?;
        if let Some(patient) = found.and_then(|version| version.placement.patient) {
            return Ok(patient);
        }
        self.refuse_hidden(actor, "Patient", patient_id).await?;
        Err(Error::not_found("Patient", patient_id))
    }

    /// Logs and records of what was opened. The patient's log comes with all its leaves, so that a record costs 32
    /// bytes; of the directories' long logs each record brings its path.
    fn prove_all(
        &self,
        patient: PatientId,
        found: &BTreeMap<Name, ResourceVersion>,
        resources: &[Stored],
    ) -> Result<(Vec<ExportLog>, Vec<ExportRecord>)> {
        let mut logs: Vec<ExportLog> = Vec::new();
        let mut leaves_of: Vec<(Address, Vec<B256>)> = Vec::new();
        let mut records = Vec::with_capacity(resources.len());
        for one in resources {
            let Some(version) = found.get(&name(&one.resource_type, &one.id, one.version)) else {
                continue;
            };
            let place = &version.placement;
            let log = match leaves_of.iter().position(|(log, _)| *log == place.log) {
                Some(known) => known,
                None => {
                    let (proof, leaves) = self.whole_log(place.log)?;
                    let all = if place.log == patient.0 {
                        leaves.clone()
                    } else {
                        Vec::new()
                    };
                    logs.push(ExportLog { proof, leaves: all });
                    leaves_of.push((place.log, leaves));
                    logs.len().saturating_sub(1)
                }
            };
            let path = match leaves_of.get(log) {
                Some((owner, leaves)) if *owner != patient.0 => {
                    mmr::path(leaves, place.leaf).unwrap_or_default()
                }
                _ => Vec::new(),
            };
            let meta = self.checked_meta(version)?;
            // A streamed Binary shows its head only; what was anchored is the whole.
            let whole =
                stele_core::leaf::content_digest(meta.element_salt.expose(), one.text.as_bytes())
                    == meta.preimage.content;
            records.push(ExportRecord {
                resource_type: one.resource_type.clone(),
                id: one.id.clone(),
                log,
                index: place.leaf,
                path,
                leaf: meta.preimage.clone(),
                leaf_salt: meta.leaf_salt.into(),
                element_salt: whole.then(|| B256::from(*meta.element_salt.expose())),
                around: export::trim(&one.text).1,
            });
        }
        Ok((logs, records))
    }

    /// A log's proof with all its leaves. A block that became final this moment may not be in the index yet, which
    /// follows within milliseconds; the proof is made again until the two agree.
    pub(crate) fn whole_log(&self, log: Address) -> Result<(LogProof, Vec<B256>)> {
        for _ in 0..WHOLE_LOG_TRIES {
            let (proof, leaves) = self.log_proof(log, None)?;
            if leaves.len() as u64 == proof.size {
                return Ok((proof, leaves));
            }
        }
        Err(Error::Conflict {
            message: "the index is behind the ledger; try again".into(),
        })
    }

    /// Who signs for an actor: a managed patient for themselves, else the actor's organisation.
    fn signer_of(&self, actor: &Actor) -> Result<Address> {
        let kept = |account| {
            self.vault
                .keys()
                .signing(account)
                .map(|key| key.is_some())
                .map_err(Error::vault("reading a signing key"))
        };
        if actor.is_patient(actor.account) && kept(actor.account)? {
            return Ok(actor.account);
        }
        if kept(actor.organization.0)? {
            return Ok(actor.organization.0);
        }
        Ok(self.organization.0)
    }

    /// What Identity says of a signer; `key` where another key than the account's own signs for it.
    ///
    /// # Errors
    /// The ledger can't answer.
    pub fn signer_proof(&self, account: Address, key: Option<Address>) -> Result<SignerProof> {
        let mut slots = vec![account_slot(account)];
        if let Some(key) = key.filter(|key| *key != account) {
            let word = self
                .ledger
                .storage(
                    IDENTITY,
                    account_slot(account),
                    crate::ports::BlockRef::Latest,
                )
                .map_err(Error::ledger("reading an account's keys"))?;
            // The two highest bytes say how often all keys were replaced.
            let [high, low, ..] = word.0;
            let generation = u16::from_be_bytes([high, low]);
            slots.push(key_slot(account, generation, key));
        }
        Ok(SignerProof {
            account,
            state: self.state_proof(IDENTITY, &slots)?,
        })
    }

    /// Signs an export or report with the key its proofs name.
    ///
    /// # Errors
    /// This node does not keep the signer's key.
    pub fn sign_export(&self, unsigned: &str, signer: &SignerProof) -> Result<String> {
        const WHAT: &str = "signing an export";
        let account = signer.account;
        let secret = self
            .vault
            .keys()
            .signing(account)
            .map_err(Error::vault(WHAT))?
            .ok_or_else(|| Error::NotPermitted {
                message: format!("this node does not keep the key of account {account}"),
            })?;
        let key = AccountKey::new(secret).map_err(|error| Error::internal(WHAT, error))?;
        export::sign(unsigned, &key, account, self.clock.now())
            .map_err(|error| Error::internal(WHAT, error))
    }

    /// The report of all accesses to a patient's record, with the organisations' sequences up to the heads that the
    /// ledger has. What waits to be anchored is anchored first.
    ///
    /// # Errors
    /// The actor may not see accesses to this record; [`Error::TooLarge`].
    pub async fn audit_report(
        self: &Arc<Self>,
        actor: &Actor,
        patient_id: &str,
    ) -> Result<AuditReport> {
        const WHAT: &str = "reporting accesses";
        let patient = self.patient_account(actor, patient_id)?;
        self.grants_of(actor, patient)?;
        self.anchor_receipts().await?;
        let service = Arc::clone(self);
        let (signer, patient_id) = (self.signer_of(actor)?, patient_id.to_owned());
        tokio::task::spawn_blocking(move || {
            let mut receipts: Vec<AccessReceipt> = service
                .index
                .local()
                .receipts_about(patient.0, None, RECEIPTS_MAX)
                .map_err(Error::index(WHAT))?
                .into_iter()
                .map(|one| one.receipt)
                .collect();
            // Of other members' sequences this node has no more than what concerns its patients.
            let hosted = service.hosted_organizations()?;
            receipts.retain(|one| hosted.contains(&OrganizationId(one.organization)));
            receipts.reverse();
            let organizations: BTreeSet<Address> =
                receipts.iter().map(|one| one.organization).collect();
            let mut sequences = Vec::with_capacity(organizations.len());
            for organization in organizations {
                let sequence = service.sequence_of(organization, &receipts)?;
                // What was written while the report was made is for the next one.
                let end = sequence.first.saturating_add(sequence.digests.len() as u64);
                receipts.retain(|one| one.organization != organization || one.sequence < end);
                sequences.push(sequence);
            }
            Ok(AuditReport {
                format: AUDIT_FORMAT.into(),
                made: service.clock.now().to_instant(),
                patient_id,
                patient: patient.0,
                signer: service.signer_proof(signer, None)?,
                sequences,
                receipts,
                page: None,
            })
        })
        .await
        .map_err(|error| Error::internal(WHAT, error))?
    }

    /// The report of whose records a member looked at, as the actor's organisation served or refused it, with that
    /// organisation's sequence up to the head that the ledger has. What waits to be anchored is anchored first.
    ///
    /// # Errors
    /// The actor is neither auditor nor administrator; the member looked at nothing here; [`Error::TooLarge`].
    pub async fn member_audit_report(
        self: &Arc<Self>,
        actor: &Actor,
        member: Address,
    ) -> Result<MemberAuditReport> {
        const WHAT: &str = "reporting a member's accesses";
        self.require_auditor(actor)?;
        self.anchor_receipts().await?;
        let service = Arc::clone(self);
        let (signer, organization) = (self.signer_of(actor)?, actor.organization.0);
        tokio::task::spawn_blocking(move || {
            let mut receipts = service.receipts_of_member(organization, member)?;
            if receipts.is_empty() {
                return Err(Error::Conflict {
                    message:
                        "This member has looked at nothing here, so there is nothing to report."
                            .into(),
                });
            }
            let sequence = service.sequence_of(organization, &receipts)?;
            // What was written while the report was made is for the next one.
            let end = sequence.first.saturating_add(sequence.digests.len() as u64);
            receipts.retain(|one| one.sequence < end);
            Ok(MemberAuditReport {
                format: MEMBER_AUDIT_FORMAT.into(),
                made: service.clock.now().to_instant(),
                member,
                signer: service.signer_proof(signer, None)?,
                sequence,
                receipts,
                page: None,
            })
        })
        .await
        .map_err(|error| Error::internal(WHAT, error))?
    }

    /// Every receipt of a member's accesses in an organisation's sequence, oldest first.
    fn receipts_of_member(
        &self,
        organization: Address,
        member: Address,
    ) -> Result<Vec<AccessReceipt>> {
        let mut found = Vec::new();
        let mut next = 0_u64;
        loop {
            let part = self
                .index
                .local()
                .receipts_from(organization, next, READ_MAX)
                .map_err(Error::index("reading a member's accesses"))?;
            let Some(last) = part.last() else {
                return Ok(found);
            };
            next = last.receipt.sequence.saturating_add(1);
            found.extend(
                part.into_iter()
                    .map(|one| one.receipt)
                    .filter(|one| one.actor == member),
            );
        }
    }

    /// An organisation's sequence from the first of these receipts to the end the ledger has.
    fn sequence_of(
        &self,
        organization: Address,
        receipts: &[AccessReceipt],
    ) -> Result<AuditSequence> {
        const WHAT: &str = "reading a sequence of receipts";
        let first = receipts
            .iter()
            .filter(|one| one.organization == organization)
            .map(|one| one.sequence)
            .min()
            .unwrap_or_default();
        let state = self.state_proof(AUDIT, &AuditSequence::slots(organization))?;
        let count = state
            .words
            .first()
            .and_then(|word| word.value.as_limbs().first().copied())
            .unwrap_or_default();
        if count.saturating_sub(first) > DIGESTS_MAX {
            return Err(Error::TooLarge {
                message: format!("more than {DIGESTS_MAX} accesses lie between the first and now"),
            });
        }
        let local = self.index.local();
        let head_before = match first.checked_sub(1) {
            None => B256::ZERO,
            Some(before) => local
                .receipts_from(organization, before, 1)
                .map_err(Error::index(WHAT))?
                .first()
                .map(|one| one.head)
                .ok_or_else(|| Error::internal(WHAT, "the sequence has a gap"))?,
        };
        let mut digests = Vec::new();
        let mut next = first;
        while next < count {
            let part = local
                .receipts_from(organization, next, READ_MAX)
                .map_err(Error::index(WHAT))?;
            if part.is_empty() {
                return Err(Error::internal(WHAT, "the sequence has a gap"));
            }
            let wanted = usize::try_from(count.saturating_sub(next)).unwrap_or(usize::MAX);
            digests.extend(part.iter().take(wanted).map(|one| one.digest));
            next = next.saturating_add(part.len() as u64);
        }
        Ok(AuditSequence {
            organization,
            first,
            head_before,
            digests,
            state,
        })
    }
}

fn name(resource_type: &str, id: &str, version: u32) -> Name {
    (resource_type.to_owned(), id.to_owned(), version)
}
