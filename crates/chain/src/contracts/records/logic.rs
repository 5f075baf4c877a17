//! Records' rules.

use std::cell::RefCell;

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_sol_types::SolValue;
use stele_core::{
    abi::records::IRecords::{self as abi, Entry, anchorCall, tombstoneCall},
    id::RECORDS,
    mmr,
};

use super::storage::{self, Log};
use crate::contracts::{
    consent::{self, Question},
    governance::{self, Parameter},
    host::{Fail, Host, Outcome},
    identity::{self, Kind, Standing},
    signature,
};

/// Who writes, and on whose behalf.
#[derive(Clone, Copy, Debug)]
struct Author {
    address: Address,
    standing: Standing,
}

pub(super) fn anchor(host: &mut Host<'_>, call: anchorCall) -> Outcome<()> {
    let anchorCall {
        entries,
        author,
        custodian,
        storageSignature: signature,
    } = call;
    check_shape(host, &entries)?;
    let author = self::author(host, author)?;
    check_custodian(host, &entries, author.address, custodian, &signature)?;
    for entry in entries {
        let Entry {
            log,
            categories,
            leaves,
        } = entry;
        let wanted = categories
            .iter()
            .fold(0, |set, category| set | 1_u64 << (category & 63));
        permit(host, log, author, wanted)?;
        let slot = storage::slot(host, log)?;
        let before = storage::log(host, slot)?;
        let after = append(host, slot, before, custodian, &leaves)?;
        let root = root(host, slot, after.size)?;
        let event = abi::Anchored {
            log,
            author: author.address,
            first: before.size,
            root,
            categories,
            leaves,
        };
        host.emit(RECORDS, &event)?;
    }
    Ok(())
}

/// What can be refused without looking at the state.
fn check_shape(host: &mut Host<'_>, entries: &[Entry]) -> Outcome<()> {
    if entries.is_empty() {
        return Err(abi::EmptyBatch {}.into());
    }
    let mut leaves = 0_u64;
    for (number, entry) in entries.iter().enumerate() {
        if entry.leaves.is_empty() {
            return Err(abi::EmptyBatch {}.into());
        }
        if entry.leaves.len() != entry.categories.len() {
            return Err(abi::LengthMismatch {
                entry: U256::from(number),
            }
            .into());
        }
        if let Some(category) = entry.categories.iter().find(|category| **category > 63) {
            let error = abi::InvalidCategory {
                entry: U256::from(number),
                category: *category,
            };
            return Err(error.into());
        }
        leaves = leaves.saturating_add(u64::try_from(entry.leaves.len()).unwrap_or(u64::MAX));
    }
    // The limit is never below this: most batches need not ask for it.
    if leaves > governance::storage::MIN_MAX_LEAVES {
        let max = governance::storage::parameter(host, Parameter::MaxLeaves)?;
        if leaves > max {
            let (leaves, max) = (U256::from(leaves), U256::from(max));
            return Err(abi::BatchTooLarge { leaves, max }.into());
        }
    }
    Ok(())
}

/// The author, who is the caller or an active member or device of the calling organisation.
fn author(host: &mut Host<'_>, address: Address) -> Outcome<Author> {
    let caller = host.caller();
    let standing = identity::storage::standing(host, address)?;
    let Standing::Active { kind, organization } = standing else {
        return Err(abi::NotActive { account: address }.into());
    };
    let employed = matches!(kind, Kind::Member | Kind::Device) && organization == caller;
    if address == caller || employed {
        Ok(Author { address, standing })
    } else {
        Err(abi::NotAuthor {
            author: address,
            caller,
        }
        .into())
    }
}

/// The custodian is an active organisation and is the caller, or has signed for the batch.
fn check_custodian(
    host: &mut Host<'_>,
    entries: &[Entry],
    author: Address,
    custodian: Address,
    signature: &Bytes,
) -> Outcome<()> {
    active_organization(host, custodian)?;
    if custodian == host.caller() {
        return Ok(());
    }
    let encoded = entries.abi_encoded_size();
    host.charge_hashes(1, encoded)?;
    host.charge_hashes(1, CUSTODY_MESSAGE_BYTES)?;
    let hash = custody_hash(host.chain_id(), author, entries);
    let Some(signer) = signature::recover(host, hash, signature)? else {
        return Err(abi::BadStorageSignature { custodian }.into());
    };
    let key = identity::storage::speaks_for(host, custodian, signer.into_word())?;
    if key == Some(identity::storage::Key::Secp256k1) {
        Ok(())
    } else {
        Err(abi::BadStorageSignature { custodian }.into())
    }
}

/// What a custodian signs to say that it stores the ciphertexts of a batch: 32 bytes,
/// `keccak256(abi.encode("stele/custody/1", chainid, records, author, keccak256(abi.encode(entries))))`.
#[must_use]
pub fn custody_hash(chain_id: u64, author: Address, entries: &[Entry]) -> B256 {
    let entries = keccak256(entries.abi_encode());
    let message = (
        "stele/custody/1",
        U256::from(chain_id),
        RECORDS,
        author,
        entries,
    );
    keccak256(message.abi_encode_params())
}

fn active_organization(host: &mut Host<'_>, who: Address) -> Outcome<()> {
    let account = identity::storage::account(host, who)?;
    if account.kind != Kind::Organization {
        return Err(abi::NotAnOrganization { account: who }.into());
    }
    if !account.is_active() {
        return Err(abi::NotActive { account: who }.into());
    }
    Ok(())
}

/// What kind of account a log belongs to.
enum Owner {
    Patient,
    Organization,
}

fn owner(host: &mut Host<'_>, log: Address) -> Outcome<Owner> {
    match identity::storage::account(host, log)?.kind {
        Kind::Patient => Ok(Owner::Patient),
        Kind::Organization => Ok(Owner::Organization),
        Kind::None | Kind::Member | Kind::Device => Err(abi::UnknownLog { log }.into()),
    }
}

/// Every category wanted is open to the author for writing.
fn permit(host: &mut Host<'_>, log: Address, author: Author, wanted: u64) -> Outcome<()> {
    let open = match owner(host, log)? {
        Owner::Organization => {
            let own = author.address == log || author.standing.member_of() == Some(log);
            if own { u64::MAX } else { 0 }
        }
        Owner::Patient => {
            let question = Question {
                permissions: consent::logic::WRITE,
                purposes: 0,
                month: None,
            };
            let now_s = host.now_s();
            let Author { address, standing } = author;
            consent::storage::open_to(host, log, address, standing, &question, now_s)?
        }
    };
    let missing = wanted & !open;
    if missing == 0 {
        return Ok(());
    }
    let category = u8::try_from(missing.trailing_zeros()).unwrap_or(NO_CATEGORY);
    Err(abi::NotPermitted {
        log,
        author: author.address,
        category,
    }
    .into())
}

/// Appends leaves and writes the log's word. A log without custodian gets this one.
fn append(
    host: &mut Host<'_>,
    slot: U256,
    before: Log,
    custodian: Address,
    leaves: &[B256],
) -> Outcome<Log> {
    let count = u64::try_from(leaves.len()).unwrap_or(u64::MAX);
    let size = before.size.saturating_add(count);
    if size >> mmr::MAX_HEIGHT != 0 {
        let max = U256::from((1_u64 << mmr::MAX_HEIGHT).saturating_sub(before.size));
        return Err(abi::BatchTooLarge {
            leaves: U256::from(count),
            max,
        }
        .into());
    }
    // As many nodes are joined as mountains vanish, counting each leaf as a new one.
    let mountains = u64::from(before.size.count_ones()).saturating_add(count);
    let joined = mountains.saturating_sub(size.count_ones().into());
    host.charge_hashes(count, LEAF_NODE_BYTES)?;
    host.charge_hashes(joined, INNER_NODE_BYTES)?;
    let shared = RefCell::new(&mut *host);
    let after = mmr::append::<Fail>(
        before.size,
        leaves.iter().copied(),
        |height| storage::peak(&mut **shared.borrow_mut(), slot, height),
        |height, peak| storage::set_peak(&mut **shared.borrow_mut(), slot, height, peak),
    )?;
    let custodian = if before.custodian.is_zero() {
        custodian
    } else {
        before.custodian
    };
    let log = Log {
        size: after,
        custodian,
    };
    storage::set_log(host, slot, log)?;
    Ok(log)
}

/// Root over size and peaks; zero for an empty log.
pub(super) fn root(host: &mut Host<'_>, slot: U256, size: u64) -> Outcome<B256> {
    let peaks = storage::peaks(host, slot, size)?;
    host.charge_hashes(1, peaks.len().saturating_mul(32).saturating_add(9))?;
    Ok(mmr::bag(size, &peaks))
}

pub(super) fn tombstone(host: &mut Host<'_>, call: &tombstoneCall) -> Outcome<()> {
    let tombstoneCall {
        log,
        index,
        category,
        leaf,
        reason,
        author,
    } = *call;
    if category > 63 {
        return Err(abi::InvalidCategory {
            entry: U256::ZERO,
            category,
        }
        .into());
    }
    let author = self::author(host, author)?;
    permit(host, log, author, 1 << category)?;
    let (slot, before) = known_record(host, log, index)?;
    append(host, slot, before, before.custodian, &[leaf])?;
    let author = author.address;
    host.emit(
        RECORDS,
        &abi::Tombstoned {
            log,
            index,
            at: before.size,
            reason,
            author,
            leaf,
        },
    )
}

/// The log's slot and word, if it has a leaf at the index.
fn known_record(host: &mut Host<'_>, log: Address, index: u64) -> Outcome<(U256, Log)> {
    let slot = storage::slot(host, log)?;
    let word = storage::log(host, slot)?;
    if index < word.size {
        Ok((slot, word))
    } else {
        Err(abi::UnknownRecord { log, index }.into())
    }
}

pub(super) fn dispute(host: &mut Host<'_>, log: Address, index: u64, reason: u8) -> Outcome<()> {
    let by = host.caller();
    let standing = identity::storage::standing(host, by)?;
    if standing == Standing::Barred {
        return Err(abi::NotActive { account: by }.into());
    }
    let owner = owner(host, log)?;
    let (_, word) = known_record(host, log, index)?;
    let employer = standing.member_of();
    let concerned = |party: Address| party == by || Some(party) == employer;
    let entitled = concerned(log)
        || concerned(word.custodian)
        || matches!(owner, Owner::Patient) && has_any_grant(host, log, by, standing)?;
    if !entitled {
        return Err(abi::NotPermitted {
            log,
            author: by,
            category: NO_CATEGORY,
        }
        .into());
    }
    host.emit(
        RECORDS,
        &abi::Disputed {
            log,
            index,
            by,
            reason,
        },
    )
}

/// Whether any live grant opens anything of the patient's to `who`.
fn has_any_grant(
    host: &mut Host<'_>,
    patient: Address,
    who: Address,
    standing: Standing,
) -> Outcome<bool> {
    let now_s = host.now_s();
    for permissions in [1, 2, 4] {
        let question = Question {
            permissions,
            purposes: 0,
            month: None,
        };
        if consent::storage::open_to(host, patient, who, standing, &question, now_s)? != 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn transfer_custody(host: &mut Host<'_>, log: Address, to: Address) -> Outcome<()> {
    let caller = host.caller();
    if !identity::storage::standing(host, caller)?.is_active() {
        return Err(abi::NotActive { account: caller }.into());
    }
    owner(host, log)?;
    let slot = storage::slot(host, log)?;
    let word = storage::log(host, slot)?;
    if caller != log && caller != word.custodian {
        return Err(abi::NotCustodian { log, caller }.into());
    }
    active_organization(host, to)?;
    let from = word.custodian;
    if from == to {
        return Err(abi::AlreadyCustodian { log, to }.into());
    }
    storage::set_log(
        host,
        slot,
        Log {
            custodian: to,
            ..word
        },
    )?;
    host.emit(RECORDS, &abi::CustodyTransferred { log, from, to })
}

/// Whether a leaf and its siblings lead to the log's peak.
pub(super) fn verify_inclusion(
    host: &mut Host<'_>,
    log: Address,
    index: u64,
    leaf: B256,
    path: &[B256],
) -> Outcome<bool> {
    let slot = storage::slot(host, log)?;
    let size = storage::log(host, slot)?.size;
    let Some((height, position)) = mmr::locate(size, index) else {
        return Ok(false);
    };
    if path.len() != usize::from(height) {
        return Ok(false);
    }
    host.charge_hashes(1, LEAF_NODE_BYTES)?;
    host.charge_hashes(height.into(), INNER_NODE_BYTES)?;
    Ok(storage::peak(host, slot, height)? == mmr::climb(leaf, position, path))
}

/// Stands for "no category" in errors.
const NO_CATEGORY: u8 = 255;
/// Bytes hashed for a leaf's node: tag and leaf.
const LEAF_NODE_BYTES: usize = 33;
/// Bytes hashed for an inner node: tag and two children.
const INNER_NODE_BYTES: usize = 65;
/// Bytes of what a custodian signs, before hashing.
const CUSTODY_MESSAGE_BYTES: usize = 7 * 32;
