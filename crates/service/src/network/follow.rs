//! Bringing records here that patients of other members let somebody of this node read.
//!
//! For every live grant to an account of this node over a log kept elsewhere: the keys sealed to the account, metas and
//! ciphertexts (each held against the ledger and its CID), and rows in the search index, opened with the account's own
//! keys and peppers that the other custodian released. When the last such grant of a patient ends the rows go.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use alloy_primitives::Address;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use stele_core::{
    consent::{Permissions, Purpose},
    id::{OrganizationId, PatientId, RecordId},
    receipt::AccessAction,
    time::Timestamp,
};
use stele_vault::{RecordMeta, envelope::Encapsulation, keys::Grant};

use super::{Ask, RecordsPage, SharedRecord, copies::CopiesPage, written::Written};
use crate::{
    Service,
    error::{Error, Result},
    network::rules::LiveConsent,
    records::{JournalVersion, LeafPlace},
    session::{Actor, ActorKind},
};

/// What was brought here so far.
#[derive(Debug, Default)]
struct Followed {
    /// By reader and patient: the live grants it was done for, and the leaf to go on from.
    done: BTreeMap<(Address, Address), (BTreeSet<u32>, u64)>,
    /// The same for what was brought from copies, while the patient's member was away.
    copied: BTreeMap<(Address, Address), (BTreeSet<u32>, u64)>,
    /// Patients without a live grant whose rows are gone.
    forgotten: BTreeSet<Address>,
}

/// A reader of this node, a patient, and the other member that gives the patient's records.
pub(super) struct Shared {
    pub(super) organization: OrganizationId,
    pub(super) reader: Address,
    pub(super) patient: PatientId,
    pub(super) host: OrganizationId,
    /// Live grants by number, each with a purpose it allows.
    pub(super) grants: BTreeMap<u32, Purpose>,
}

impl Shared {
    fn actor(&self, purpose: Purpose) -> Actor {
        Actor {
            kind: if self.reader == self.organization.0 {
                ActorKind::System
            } else {
                ActorKind::Practitioner
            },
            account: self.reader,
            organization: self.organization,
            purposes: vec![purpose],
            client: "grants of other members' patients".into(),
        }
    }
}

impl Service {
    /// Brings records of other members here as patients grant them, looking for changes every `pause` in which a block
    /// became final. Runs until dropped.
    pub async fn run_foreign_records(self: Arc<Self>, pause: Duration) {
        let mut followed = Followed::default();
        let mut written = Written::default();
        let mut seen = None;
        loop {
            tokio::time::sleep(pause).await;
            let height = self.ledger.height();
            let is_moved = self.released.take_moved();
            if is_moved {
                followed.done.clear();
                followed.copied.clear();
            }
            if seen == Some(height) && !is_moved {
                continue;
            }
            let brought = self.bring_written(&mut written).await;
            match self.follow(&mut followed).await.and(brought) {
                Ok(()) => seen = Some(height),
                Err(error) => {
                    tracing::warn!(%error, "records of other members can't be brought here now");
                    tokio::time::sleep(pause.saturating_mul(8)).await;
                }
            }
        }
    }

    async fn follow(self: &Arc<Self>, followed: &mut Followed) -> Result<()> {
        const WHAT: &str = "following grants";
        let mut failed = None;
        let mut live = BTreeSet::new();
        let mut ended = BTreeSet::new();
        for shared in self.shared_with_us(&mut ended)? {
            live.insert(shared.patient.0);
            followed.forgotten.remove(&shared.patient.0);
            let at = (shared.reader, shared.patient.0);
            let ids: BTreeSet<u32> = shared.grants.keys().copied().collect();
            let size = self
                .index
                .chain()
                .log_size(shared.patient.0)
                .map_err(Error::index(WHAT))?;
            let from = match followed.done.get(&at) {
                Some((known, next)) if *known == ids => *next,
                _ => 0,
            };
            if from == size && followed.done.contains_key(&at) {
                continue;
            }
            match self.bring(&shared, from).await {
                Ok(pending) => {
                    let next = pending.map_or(size, |leaf| leaf.min(size));
                    followed.done.insert(at, (ids, next));
                }
                // One member that is away holds up nobody else.
                Err(error) => {
                    let copied = followed.copied.get(&at).cloned();
                    match self.bring_copies(&shared, (&ids, size), copied).await {
                        Ok(next) => drop(followed.copied.insert(at, (ids, next))),
                        Err(error) => {
                            tracing::debug!(%error, "copies give no records of a member that is away");
                        }
                    }
                    failed = Some(error);
                }
            }
        }
        for patient in ended {
            if !live.contains(&patient) && !followed.forgotten.contains(&patient) {
                self.forget_foreign(patient)?;
                followed.done.retain(|(_, of), _| *of != patient);
                followed.copied.retain(|(_, of), _| *of != patient);
                followed.forgotten.insert(patient);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Whom patients of other members let read; into `ended` goes who let somebody once.
    fn shared_with_us(&self, ended: &mut BTreeSet<Address>) -> Result<Vec<Shared>> {
        const WHAT: &str = "following grants";
        let now = self.clock.now();
        let chain = self.index.chain();
        let mut shared: BTreeMap<(Address, Address), Shared> = BTreeMap::new();
        for organization in self.hosted_organizations()? {
            let staff = chain
                .accounts_of(organization.0, 2)
                .map_err(Error::index(WHAT))?;
            let active = staff.into_iter().filter(|account| account.status == 1);
            let readers = active.map(|account| account.address);
            for reader in readers.chain([organization.0]) {
                for grant in chain.grants_to(reader).map_err(Error::index(WHAT))? {
                    let host = self.organization_of(grant.patient.0)?;
                    if !grant.terms.permissions.contains(Permissions::READ)
                        || host.0.is_zero()
                        || self.is_hosted(host)?
                    {
                        continue;
                    }
                    let Some(purpose) = grant.terms.purposes.first().copied() else {
                        continue;
                    };
                    if !grant.is_live(now) {
                        ended.insert(grant.patient.0);
                        continue;
                    }
                    let entry = shared.entry((reader, grant.patient.0));
                    let entry = entry.or_insert_with(|| Shared {
                        organization,
                        reader,
                        patient: grant.patient,
                        host,
                        grants: BTreeMap::new(),
                    });
                    entry.grants.insert(grant.id, purpose);
                }
            }
        }
        Ok(shared.into_values().collect())
    }

    /// Brings what a patient shares, from a leaf on; gives the first leaf that the patient's member does not have itself yet.
    async fn bring(self: &Arc<Self>, shared: &Shared, from: u64) -> Result<Option<u64>> {
        let mut pending: Option<u64> = None;
        let purposes: BTreeSet<u16> = shared.grants.values().map(|one| one.bit()).collect();
        for purpose in Purpose::ALL
            .into_iter()
            .filter(|one| purposes.contains(&one.bit()))
        {
            let actor = shared.actor(purpose);
            let mut next = Some(from);
            while let Some(from) = next {
                let ask = Ask::Records {
                    reader: shared.reader,
                    log: shared.patient.0,
                    purposes: purpose.bit(),
                    from,
                };
                let answer = self.ask(shared.organization, shared.host, ask).await?;
                let page: RecordsPage =
                    serde_json::from_slice(&answer).map_err(|_| unreadable(shared.host))?;
                next = page.next.filter(|next| *next > from);
                pending = [pending, page.pending].into_iter().flatten().min();
                self.take_in(shared, &actor, page, &[shared.host]).await?;
            }
        }
        Ok(pending)
    }

    /// Brings records from copies that other members keep, as far as they reach; gives the leaf to go on from.
    async fn bring_copies(
        self: &Arc<Self>,
        shared: &Shared,
        (ids, size): (&BTreeSet<u32>, u64),
        before: Option<(BTreeSet<u32>, u64)>,
    ) -> Result<u64> {
        let mut from = match before {
            Some((known, next)) if known == *ids => next,
            _ => 0,
        };
        let log = shared.patient.0;
        let members = self.active_members()?;
        let mut sources = self.sources(log, shared.host.0, &members);
        sources.retain(|one| *one != shared.host);
        while from < size {
            let page = self.any_copies(&sources, log, from).await?;
            if page.owner != shared.host.0 || page.next <= from {
                break;
            }
            self.take_copies(shared, &page, &sources).await?;
            // The other's ledger may be ahead: what this one has not heard of can't be held against it yet.
            from = page.next.min(size);
        }
        Ok(from)
    }

    /// A page of copies that are held here, else of the first member that gives one.
    async fn any_copies(
        self: &Arc<Self>,
        sources: &[OrganizationId],
        log: Address,
        from: u64,
    ) -> Result<CopiesPage> {
        const WHAT: &str = "reading copies that are held here";
        let own = self.read_blocking(WHAT, move |service| service.copies_page(log, from));
        if let Ok(page) = own.await
            && page.next > from
        {
            return Ok(page);
        }
        let mut failed = None;
        for source in sources {
            match self.ask_copies(*source, log, from).await {
                Ok(page) if page.next > from => return Ok(page),
                Ok(_) => {}
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| Error::not_found("copy of the log", &log.to_string())))
    }

    /// Takes in what the reader's keys open of a page of copies.
    async fn take_copies(
        self: &Arc<Self>,
        shared: &Shared,
        page: &CopiesPage,
        sources: &[OrganizationId],
    ) -> Result<()> {
        const WHAT: &str = "opening copies for a reader";
        let given = page.read().ok_or_else(|| unreadable(shared.host))?;
        let grants: Vec<Grant> = given
            .grants
            .into_iter()
            .filter(|(to, grant)| *to == shared.reader && grant.log == shared.patient.0)
            .map(|(_, grant)| grant)
            .collect();
        let keys = self.vault.keys().add_grants(shared.reader, &grants);
        keys.await.map_err(Error::vault(WHAT))?;
        let kept = self.vault.keep_encapsulations(&given.encapsulations);
        kept.await.map_err(Error::vault(WHAT))?;
        for purpose in shared.grants.values().collect::<BTreeSet<_>>() {
            let actor = shared.actor(*purpose);
            let open = self.open_slots(&actor, shared.patient.0, Permissions::READ)?;
            let mut records = Vec::new();
            for parcel in &given.parcels {
                let leaf = self.index.chain().leaf(shared.patient.0, parcel.leaf);
                let slot = leaf.map_err(Error::index(WHAT))?;
                let slot = slot.and_then(|leaf| leaf.category_slot);
                if slot.is_none_or(|slot| open >> slot & 1 == 0) {
                    continue;
                }
                let opened = self
                    .vault
                    .open_shared(shared.reader, shared.patient.0, parcel);
                if let Some(text) = opened.map_err(Error::vault(WHAT))? {
                    let record: SharedRecord =
                        serde_json::from_slice(&text).map_err(|_| unreadable(shared.host))?;
                    if record.leaf == parcel.leaf {
                        records.push(record);
                    }
                }
            }
            tracing::debug!(member = %shared.host, from = page.as_of, grants = grants.len(), parcels = given.parcels.len(),
                opened = records.len(), "copies were looked through for a reader");
            let page = RecordsPage {
                grants: Vec::new(),
                records,
                encapsulations: Vec::new(),
                custodies: page.custodies.clone(),
                next: None,
                pending: None,
            };
            self.take_in(shared, &actor, page, sources).await?;
        }
        Ok(())
    }

    /// Keeps one page: keys, metas, ciphertexts; then opens and indexes what is new.
    pub(super) async fn take_in(
        self: &Arc<Self>,
        shared: &Shared,
        actor: &Actor,
        page: RecordsPage,
        sources: &[OrganizationId],
    ) -> Result<()> {
        const WHAT: &str = "keeping a record of another member";
        let bad = || unreadable(shared.host);
        let mut grants = Vec::with_capacity(page.grants.len());
        for grant in &page.grants {
            let bytes = STANDARD.decode(grant).map_err(|_| bad())?;
            let grant = Grant::decode(&bytes).map_err(|_| bad())?;
            if grant.log != shared.patient.0 {
                return Err(bad());
            }
            grants.push(grant);
        }
        self.vault
            .keys()
            .add_grants(shared.reader, &grants)
            .await
            .map_err(Error::vault(WHAT))?;
        let encapsulations = page
            .encapsulations
            .iter()
            .map(|text| {
                let bytes = STANDARD.decode(text).ok()?;
                Encapsulation::decode(&bytes).ok()
            })
            .collect::<Option<Vec<_>>>()
            .ok_or_else(bad)?;
        let keepers: BTreeSet<Address> = page
            .records
            .iter()
            .filter_map(|one| one.custodian)
            .collect();
        for custody in &page.custodies {
            if custody.owner != shared.host.0 && !keepers.contains(&custody.owner) {
                return Err(bad());
            }
            self.accept_custody(custody).await?;
        }
        let copies: Vec<RecordMeta> = page
            .records
            .iter()
            .filter_map(|record| given_meta(shared, record))
            .collect();
        self.vault
            .follow_shared(&copies)
            .await
            .map_err(Error::vault(WHAT))?;
        let mut taken = Vec::new();
        for record in page.records {
            if let Some(one) = self.checked_record(shared, record)? {
                if let Some(cid) = one.1.cid().map_err(Error::vault(WHAT))? {
                    self.fetch_ciphertext(sources, cid).await?;
                }
                taken.push(one);
            }
        }
        let metas: Vec<RecordMeta> = taken.iter().map(|one| one.1.clone()).collect();
        self.vault
            .adopt(&metas, &encapsulations)
            .await
            .map_err(Error::vault(WHAT))?;
        self.open_taken(shared, actor, taken).await
    }

    /// A record of a page as this node keeps it; `None` for one that is known already, or that can't be told from one
    /// of this node's own.
    fn checked_record(
        &self,
        shared: &Shared,
        record: SharedRecord,
    ) -> Result<Option<(JournalVersion, RecordMeta, LeafPlace)>> {
        const WHAT: &str = "checking a record of another member";
        let bad = || unreadable(shared.host);
        let meta = given_meta(shared, &record).ok_or_else(bad)?;
        let leaf = self
            .index
            .chain()
            .leaf(shared.patient.0, record.leaf)
            .map_err(Error::index(WHAT))?;
        let is_anchored = leaf.as_ref().is_some_and(|leaf| leaf.leaf == meta.leaf());
        let (true, Some(leaf)) = (is_anchored && meta.log == shared.patient.0, leaf) else {
            tracing::error!(record = %record.record, member = %shared.host,
                "a record given by another member is not the one on the ledger; it is left out");
            return Ok(None);
        };
        let indexed = self
            .index
            .search()
            .leaf_of(record.record, record.version)
            .map_err(Error::index(WHAT))?;
        if indexed.is_some() {
            return Ok(None);
        }
        let namesake = self.locate(&record.resource_type, &record.id)?;
        if namesake.is_some_and(|found| found.placement.record != record.record) {
            tracing::warn!(record = %record.record, member = %shared.host,
                "a record of another member has the id of one kept here; it is left out");
            return Ok(None);
        }
        let version = JournalVersion {
            record: record.record,
            version: record.version,
            resource_type: record.resource_type,
            id: record.id,
            patient: Some(shared.patient),
            category: record.category,
            last_updated: Timestamp(record.last_updated_ms),
        };
        let place = LeafPlace {
            index: record.leaf,
            height: leaf.anchored.height,
        };
        Ok(Some((version, meta, place)))
    }

    /// Opens what was taken in with the reader's own keys, and puts it into the index.
    async fn open_taken(
        self: &Arc<Self>,
        shared: &Shared,
        actor: &Actor,
        taken: Vec<(JournalVersion, RecordMeta, LeafPlace)>,
    ) -> Result<()> {
        const WHAT: &str = "opening records of another member";
        if taken.is_empty() {
            return Ok(());
        }
        if actor.kind == ActorKind::Patient && self.holds_own_keys(shared.patient)? {
            // The patient opens them in the browser, which finds them by these rows.
            let outlined = taken.into_iter().map(|(version, meta, place)| {
                let text = version.outline();
                (version, meta, place, text)
            });
            return self.index_opened(outlined.collect()).await;
        }
        let records: Vec<(RecordId, u32)> = taken
            .iter()
            .map(|one| (one.0.record, one.0.version))
            .collect();
        let slots = taken.iter().fold(0_u64, |slots, one| {
            let slot = one.1.preimage.category_slot;
            slots | 1_u64.checked_shl(slot.into()).unwrap_or(0)
        });
        let log = shared.patient.0;
        let receipt = self.receipt(actor, log, AccessAction::Maintenance, slots, &records);
        let receipt = self.write_receipt(receipt, &records).await?;
        let actor = actor.clone();
        let opened = self
            .read_blocking(WHAT, move |service| {
                let consent = LiveConsent::new(&**service, &actor)?;
                let mut opened = Vec::with_capacity(taken.len());
                for (version, meta, place) in taken {
                    use stele_vault::Error as Vault;
                    match service.open_meta(&actor, &meta, &consent, &receipt) {
                        Ok(text) => opened.push((version, meta, place, text.to_string())),
                        // Not open to this reader after all: revoked or erased meanwhile.
                        Err(Vault::Refused { .. } | Vault::Erased { .. } | Vault::NoKey { .. }) => {
                        }
                        Err(error) => return Err(Error::vault(WHAT)(error)),
                    }
                }
                service.released.forget(std::iter::once(&receipt));
                Ok(opened)
            })
            .await?;
        let count = opened.len();
        self.index_opened(opened).await?;
        tracing::info!(member = %shared.host, versions = count, "brought records of another member");
        Ok(())
    }

    /// Takes the rows of another member's patient out of the search index. Metas and ciphertexts stay; they open
    /// nothing without the custodian.
    fn forget_foreign(&self, patient: Address) -> Result<()> {
        const WHAT: &str = "forgetting records of another member";
        let mut records = BTreeSet::new();
        for meta in self.vault.all_metas() {
            let meta = meta.map_err(Error::vault(WHAT))?;
            if meta.log == patient && meta.custodian.is_some() {
                records.insert(meta.record());
            }
        }
        let records: Vec<RecordId> = records.into_iter().collect();
        if !records.is_empty() {
            let gone = self.index.search().erase(&records);
            let gone = gone.map_err(Error::index(WHAT))?;
            tracing::info!(gone, "records of another member are no longer found here");
        }
        Ok(())
    }
}

/// The meta of a record that another member gave, as it is kept here. `None` if it can't be read.
fn given_meta(shared: &Shared, given: &SharedRecord) -> Option<RecordMeta> {
    let bytes = STANDARD.decode(&given.meta).ok()?;
    let mut meta = RecordMeta::from_bytes(&bytes, given.record, given.version).ok()?;
    meta.custodian = Some(given.custodian.unwrap_or(shared.host.0));
    Some(meta)
}

pub(super) fn unreadable(host: OrganizationId) -> Error {
    Error::Member {
        message: format!("the answer of organisation {host} can't be read"),
    }
}
