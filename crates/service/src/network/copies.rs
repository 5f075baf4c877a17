//! Who keeps copies of a log, and what members give each other of it.
//!
//! A log's copies lie with its owner and with the members that come first in an order of its own (rendezvous hashing:
//! each member's place is a digest of log and member), so nobody has to agree on anything, and a change of members moves
//! only what must move. What is given is opaque to whoever holds it ([`stele_vault::replica`]).

use std::{collections::BTreeSet, sync::Arc};

use alloy_primitives::{Address, B256, keccak256};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use cid::Cid;
use serde::{Deserialize, Serialize};
use stele_core::id::OrganizationId;
use stele_vault::{
    RecordMeta,
    custody::Custody,
    envelope::Encapsulation,
    keys::{Grant, Holder},
    replica::{LogCopy, Parcel},
};
use zeroize::Zeroizing;

use super::{Ask, SharedRecord};
use crate::{
    Service,
    error::{Error, Result},
};

/// Leaves of one answer.
const LEAVES: u64 = 256;
/// Blocks after which a leaf that the index does not know is passed over: whatever was under way has ended by then.
const SETTLED: u64 = 64;

/// Copies of a log from a leaf on. Byte strings are in base64.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CopiesPage {
    pub(super) owner: Address,
    /// Height of the ledger at which the owner gave grants, keys and custodies.
    pub(super) as_of: u64,
    parcels: Vec<ParcelText>,
    encapsulations: Vec<String>,
    pub(super) custodies: Vec<Custody>,
    grants: Vec<(Address, String)>,
    keys: Vec<(Address, String)>,
    /// The leaf to go on from. The one asked for, where there is no more yet.
    pub(super) next: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ParcelText {
    leaf: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    encapsulation: Option<B256>,
    sealed: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    shared: String,
}

/// The byte strings of a page, read.
pub(super) struct Copies {
    pub(super) parcels: Vec<Parcel>,
    pub(super) encapsulations: Vec<Encapsulation>,
    pub(super) grants: Vec<(Address, Grant)>,
    pub(super) keys: Vec<(Address, Vec<u8>)>,
}

impl CopiesPage {
    /// `None` if something can't be read.
    pub(super) fn read(&self) -> Option<Copies> {
        let bytes = |text: &String| STANDARD.decode(text).ok();
        let parcel = |one: &ParcelText| {
            Some(Parcel {
                leaf: one.leaf,
                cid: match &one.cid {
                    Some(text) => Some(text.parse::<Cid>().ok()?),
                    None => None,
                },
                encapsulation: one.encapsulation.map(|digest| digest.0),
                sealed: bytes(&one.sealed)?,
                shared: bytes(&one.shared)?,
            })
        };
        let grant =
            |(to, text): &(Address, String)| Some((*to, Grant::decode(&bytes(text)?).ok()?));
        let encapsulation = |text| Encapsulation::decode(&bytes(text)?).ok();
        Some(Copies {
            parcels: self.parcels.iter().map(parcel).collect::<Option<_>>()?,
            encapsulations: self
                .encapsulations
                .iter()
                .map(encapsulation)
                .collect::<Option<_>>()?,
            grants: self.grants.iter().map(grant).collect::<Option<_>>()?,
            keys: self
                .keys
                .iter()
                .map(|(of, text)| Some((*of, bytes(text)?)))
                .collect::<Option<_>>()?,
        })
    }

    fn put(&mut self, parcel: &Parcel) {
        self.parcels.push(ParcelText {
            leaf: parcel.leaf,
            cid: parcel.cid.map(|cid| cid.to_string()),
            encapsulation: parcel.encapsulation.map(B256::from),
            sealed: STANDARD.encode(&parcel.sealed),
            shared: STANDARD.encode(&parcel.shared),
        });
    }
}

/// Members in the order in which they keep copies of a log, its owner left out.
pub(super) fn in_order(
    log: Address,
    owner: Address,
    members: &BTreeSet<Address>,
) -> Vec<OrganizationId> {
    let place = |member: &Address| {
        let parts = [&b"stele/replica/v1"[..], log.as_slice(), member.as_slice()];
        keccak256(parts.concat())
    };
    let mut order: Vec<_> = members
        .iter()
        .filter(|member| **member != owner)
        .map(|member| (place(member), OrganizationId(*member)))
        .collect();
    order.sort_unstable();
    order.into_iter().map(|(_, member)| member).collect()
}

impl Service {
    /// Organisation whose log it is; zero for one that nobody registered.
    pub(super) fn owner_of(&self, log: Address) -> Result<Address> {
        if self.is_directory(log)? {
            return Ok(log);
        }
        Ok(self.organization_of(log)?.0)
    }

    /// Organisations that act now.
    pub(super) fn active_members(&self) -> Result<BTreeSet<Address>> {
        let mut active = BTreeSet::new();
        for who in self.all_organizations()? {
            if self.account(who)?.is_some_and(|account| account.active) {
                active.insert(who);
            }
        }
        Ok(active)
    }

    /// Other members that may have copies of a log, the likeliest first: the owner, then all in the log's order.
    pub(super) fn sources(
        &self,
        log: Address,
        owner: Address,
        members: &BTreeSet<Address>,
    ) -> Vec<OrganizationId> {
        let mut sources = vec![OrganizationId(owner)];
        sources.extend(in_order(log, owner, members));
        sources.retain(|one| *one != self.organization && members.contains(&one.0));
        sources
    }

    /// Asks a member for copies of a log.
    pub(super) async fn ask_copies(
        &self,
        of: OrganizationId,
        log: Address,
        from: u64,
    ) -> Result<CopiesPage> {
        let answer = self
            .ask(self.organization, of, Ask::Copies { log, from })
            .await?;
        serde_json::from_slice(&answer).map_err(|_| Error::Member {
            message: format!("the copies that organisation {of} gave can't be read"),
        })
    }

    /// Gives another member copies of a log: this node's own, or as they are held here.
    pub(super) async fn give_copies(
        self: &Arc<Self>,
        log: Address,
        from: u64,
    ) -> Result<Zeroizing<Vec<u8>>> {
        const WHAT: &str = "giving copies to a member";
        let page = self
            .read_blocking(WHAT, move |service| service.copies_page(log, from))
            .await?;
        let bytes = serde_json::to_vec(&page).map_err(|error| Error::internal(WHAT, error))?;
        Ok(Zeroizing::new(bytes))
    }

    /// To be called on a thread that may block.
    pub(super) fn copies_page(&self, log: Address, from: u64) -> Result<CopiesPage> {
        let owner = self.owner_of(log)?;
        if self.is_hosted(OrganizationId(owner))? {
            self.own_copies(log, owner, from)
        } else {
            self.held_copies(log, from)
        }
    }

    /// Of a log of this node: parcels made now, of what stands on the ledger and in the index.
    fn own_copies(&self, log: Address, owner: Address, from: u64) -> Result<CopiesPage> {
        const WHAT: &str = "making copies for a member";
        let chain = self.index.chain();
        let size = chain.log_size(log).map_err(Error::index(WHAT))?;
        let end = from.saturating_add(LEAVES).min(size);
        let custodian = self.vault.custodian();
        let mut page = CopiesPage {
            owner,
            as_of: self.ledger.height(),
            parcels: Vec::new(),
            encapsulations: Vec::new(),
            custodies: custodian.custodies_of(owner),
            grants: self.grants_over(log)?,
            keys: self.keys_beside(log, owner)?,
            next: from,
        };
        // What a meta says of shares is about to change: a copy made now would lead nowhere later.
        if custodian.is_sharing_anew() || from >= size {
            return Ok(page);
        }
        let gone = self.erased_leaves(log)?;
        let holder = match self.vault.keys().manages(log) {
            Ok(true) => Holder::Root,
            Ok(false) => Holder::Grantee(owner),
            Err(error) => return Err(Error::vault(WHAT)(error)),
        };
        let mut given = BTreeSet::new();
        for leaf in from..end {
            if !gone.contains(&leaf) {
                let found = self.index.search().at_leaf(log, leaf);
                let Some(version) = found.map_err(Error::index(WHAT))? else {
                    if self.is_settled(log, leaf)? {
                        page.next = leaf.saturating_add(1);
                        continue;
                    }
                    // It is being written: its row comes a moment after its block.
                    return Ok(page);
                };
                let place = (leaf, &version.placement.record, version.version);
                let described = |meta: &RecordMeta| describe(&version, leaf, meta);
                match self.vault.parcel(place, holder, described) {
                    Ok(Some(parcel)) => {
                        page.put(&parcel);
                        given.extend(parcel.encapsulation);
                    }
                    Ok(None) | Err(stele_vault::Error::Erased { .. }) => {}
                    Err(error) => {
                        tracing::warn!(record = %version.placement.record, %error, "no copy of a record can be given");
                    }
                }
            }
            page.next = leaf.saturating_add(1);
        }
        page.encapsulations = self.encapsulations(given)?;
        Ok(page)
    }

    /// Of a log that is copied here.
    fn held_copies(&self, log: Address, from: u64) -> Result<CopiesPage> {
        const WHAT: &str = "giving copies that are held here";
        let copy = self.vault.log_copy(log).map_err(Error::vault(WHAT))?;
        let copy = copy.ok_or_else(|| Error::not_found("copy of the log", &log.to_string()))?;
        let limit = usize::try_from(LEAVES).unwrap_or(usize::MAX);
        let parcels = self.vault.parcels(log, from, limit);
        let parcels = parcels.map_err(Error::vault(WHAT))?;
        let next = match parcels.last() {
            Some(last) if parcels.len() == limit => last.leaf.saturating_add(1),
            _ => copy.next.max(from),
        };
        let text = |(account, bytes): (Address, Vec<u8>)| (account, STANDARD.encode(bytes));
        let mut page = CopiesPage {
            owner: copy.owner,
            as_of: copy.as_of,
            parcels: Vec::new(),
            encapsulations: Vec::new(),
            custodies: copy.custodies,
            grants: copy
                .grants
                .iter()
                .map(|(to, grant)| text((*to, grant.encode())))
                .collect(),
            keys: copy.keys.into_iter().map(text).collect(),
            next,
        };
        parcels.iter().for_each(|parcel| page.put(parcel));
        let digests = parcels.iter().filter_map(|parcel| parcel.encapsulation);
        page.encapsulations = self.encapsulations(digests.collect())?;
        Ok(page)
    }

    fn encapsulations(&self, digests: BTreeSet<[u8; 32]>) -> Result<Vec<String>> {
        let texts = digests.into_iter().map(|digest| {
            let found = self.vault.encapsulation(&digest);
            let found = found.map_err(Error::vault("reading an encapsulation"))?;
            Ok(STANDARD.encode(found.encode()))
        });
        texts.collect()
    }

    /// Keys over a log, each sealed to its grantee.
    fn grants_over(&self, log: Address) -> Result<Vec<(Address, String)>> {
        const WHAT: &str = "listing keys granted over a log";
        let grants = self.index.chain().grants_of(stele_core::id::PatientId(log));
        let grantees: BTreeSet<Address> = grants
            .map_err(Error::index(WHAT))?
            .iter()
            .map(|grant| grant.grantee)
            .collect();
        let mut found = Vec::new();
        for grantee in grantees {
            let grants = self.vault.keys().grants(grantee, log);
            for grant in grants.map_err(Error::vault(WHAT))? {
                found.push((grantee, STANDARD.encode(grant.encode())));
            }
        }
        Ok(found)
    }

    /// Sealed rows of the keys that are kept beside a log: the patient's, or those of an organisation and its staff.
    fn keys_beside(&self, log: Address, owner: Address) -> Result<Vec<(Address, String)>> {
        const WHAT: &str = "sealing keys for a copy";
        let mut accounts = vec![log];
        if log == owner {
            let staff = self.index.chain().accounts_of(owner, 2);
            let staff = staff.map_err(Error::index(WHAT))?;
            accounts.extend(staff.into_iter().map(|account| account.address));
        }
        let mut rows = Vec::new();
        for account in accounts {
            let sealed = self.vault.sealed_keys(account);
            for row in sealed.map_err(Error::vault(WHAT))? {
                rows.push((account, STANDARD.encode(row)));
            }
        }
        Ok(rows)
    }

    /// Leaves of a log that stand for nothing any more, and those that say so.
    pub(super) fn erased_leaves(&self, log: Address) -> Result<BTreeSet<u64>> {
        let tombstones = self.index.chain().tombstones_of(log);
        let tombstones = tombstones.map_err(Error::index("listing a log's tombstones"))?;
        Ok(tombstones
            .iter()
            .flat_map(|one| [one.index, one.at])
            .collect())
    }

    fn is_settled(&self, log: Address, leaf: u64) -> Result<bool> {
        let found = self.index.chain().leaf(log, leaf);
        let found = found.map_err(Error::index("looking for a leaf"))?;
        let settled = self.ledger.height().saturating_sub(SETTLED);
        Ok(found.is_some_and(|leaf| leaf.anchored.height < settled))
    }

    /// How far a page from a holder reaches without a gap: a holder, unlike the owner, may lack parcels.
    pub(super) fn reaches(&self, copy: &LogCopy, log: Address, page: &Copies) -> Result<u64> {
        let gone = self.erased_leaves(log)?;
        let given: BTreeSet<u64> = page.parcels.iter().map(|parcel| parcel.leaf).collect();
        let mut next = copy.next;
        while gone.contains(&next) || given.contains(&next) {
            next = next.saturating_add(1);
        }
        Ok(next)
    }
}

/// What a reader needs to know of a record version.
fn describe(
    version: &stele_index::ResourceVersion,
    leaf: u64,
    meta: &RecordMeta,
) -> Zeroizing<Vec<u8>> {
    let place = &version.placement;
    let record = SharedRecord {
        resource_type: version.resource_type.to_owned(),
        id: version.id.clone(),
        version: version.version,
        record: place.record,
        category: place.category,
        last_updated_ms: version.last_updated.0,
        leaf,
        meta: STANDARD.encode(&*RecordMeta::to_bytes(meta)),
        custodian: meta.custodian,
    };
    Zeroizing::new(serde_json::to_vec(&record).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(byte: u8) -> Address {
        Address::repeat_byte(byte)
    }

    /// NFR-GOV2: a change of members moves only what must move, and copies spread over all.
    #[test]
    fn a_change_of_members_moves_only_what_must_move() {
        let members: BTreeSet<_> = (1..=7).map(member).collect();
        let owner = member(1);
        let gone = member(4);
        let fewer: BTreeSet<_> = members.iter().copied().filter(|one| *one != gone).collect();
        let mut held = std::collections::BTreeMap::new();
        for number in 0..1_000_u64 {
            let log = Address::from_word(B256::from(alloy_primitives::U256::from(number)));
            let before = in_order(log, owner, &members);
            assert_eq!(before.len(), 6, "all but the owner");
            let mut after = before.clone();
            after.retain(|one| one.0 != gone);
            assert_eq!(
                in_order(log, owner, &fewer),
                after,
                "the others keep their order"
            );
            for holder in before.iter().take(2) {
                *held.entry(holder.0).or_insert(0_u32) += 1;
            }
        }
        assert_eq!(held.len(), 6);
        // A third of 1,000 each; far outside would be no spreading.
        assert!(
            held.values().all(|count| (200..470).contains(count)),
            "{held:?}"
        );
    }
}
