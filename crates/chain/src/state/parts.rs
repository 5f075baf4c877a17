//! The state in parts that can be carried to another node: trie nodes, addresses and code, each verifiable by itself.
//!
//! Both sides walk the tries in the same order, a node before its children. Whoever receives knows at every moment
//! what must come next: a node with the hash that its parent holds, the code of an account, or the address behind a
//! hashed key. The walk begins with the state root of a header whose certificate was verified, so every part is proven
//! as it comes: nothing can be changed, left out or added without the very next part being refused. Range proofs over
//! leaves, as Ethereum's `snap` protocol has them, would save the inner nodes (about a third of the bytes) and cost
//! building the trie anew; here the nodes are what is stored.

use alloy_primitives::{Address, B256, Bytes, keccak256};
use alloy_rlp::{Decodable as _, RlpDecodable, RlpEncodable};
use alloy_trie::{EMPTY_ROOT_HASH, KECCAK_EMPTY, Nibbles};

use super::{
    Error, StateView,
    nodes::Owner,
    rows,
    store::{Batch, Table},
    trie::join,
    view::decode_account,
    walk::{self, Child, Parsed},
};

/// What comes next in the walk, with the hash that proves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// A trie node at a path.
    Node {
        owner: Owner,
        path: Nibbles,
        hash: B256,
    },
    /// The address whose keccak-256 is `key`: that of an account with storage, whose trie has this root.
    Address { key: B256, root: B256 },
    /// Code.
    Code { hash: B256 },
}

/// Why a part is not the one that has to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a part of the state is not {expected}, which has to come next")]
pub struct WrongPart {
    /// What has to come.
    expected: &'static str,
}

impl WrongPart {
    /// There is more than the state has.
    pub(crate) const TOO_MUCH: Self = Self {
        expected: "the end of the state",
    };
}

impl Want {
    /// The beginning of a walk.
    pub(crate) fn root(root: B256) -> Vec<Self> {
        Self::trie(Owner::Accounts, root).into_iter().collect()
    }

    fn trie(owner: Owner, root: B256) -> Option<Self> {
        (root != EMPTY_ROOT_HASH).then(|| Self::Node {
            owner,
            path: Nibbles::default(),
            hash: root,
        })
    }

    /// Takes the part that was wanted: writes it to `batch`, and puts what it leads to on top of `wants`, which ends
    /// with what comes next.
    pub(crate) fn take(
        self,
        part: &Bytes,
        wants: &mut Vec<Self>,
        batch: &mut Batch,
    ) -> Result<(), WrongPart> {
        let wrong = |expected| WrongPart { expected };
        match self {
            Self::Node { owner, path, hash } => {
                if keccak256(part) != hash {
                    return Err(wrong("the node with the hash that its parent holds"));
                }
                batch.put(owner.table(), owner.node_key(&path), part.clone());
                // With the right hash it is a node of the state, which every validator executed.
                below(owner, &path, part, wants).map_err(|_| wrong("a node"))
            }
            Self::Address { key, root } => {
                let address = Address::try_from(part.as_ref()).ok();
                let address = address.filter(|address| keccak256(address) == key);
                let address = address.ok_or(wrong("the address of an account with storage"))?;
                wants.extend(Self::trie(Owner::Storage(address), root));
                Ok(())
            }
            Self::Code { hash } => {
                if keccak256(part) != hash {
                    return Err(wrong("the code of an account"));
                }
                rows::put(batch, Table::Code, hash.as_slice(), part);
                Ok(())
            }
        }
    }
}

/// Puts the children of a node on top of `wants`, the first one last.
fn below(owner: Owner, path: &Nibbles, rlp: &[u8], wants: &mut Vec<Want>) -> Result<(), Error> {
    let node = |path: Nibbles, hash| Want::Node { owner, path, hash };
    // Whoever asks names paths, and a node may be found by its hash where it does not belong.
    let fits = |more: usize| match path.len().saturating_add(more) {
        0..=KEY_NIBBLES => Ok(()),
        _ => Err(TOO_DEEP),
    };
    match walk::parse(rlp)? {
        Parsed::Leaf { key, value } => {
            fits(key.len())?;
            if owner != Owner::Accounts {
                return Ok(());
            }
            let account = decode_account(value, 0)?;
            if account.storage_root != EMPTY_ROOT_HASH {
                let key =
                    B256::try_from(path.join(&key).pack().as_slice()).map_err(|_| TOO_DEEP)?;
                wants.push(Want::Address {
                    key,
                    root: account.storage_root,
                });
            }
            if account.code_hash != KECCAK_EMPTY {
                wants.push(Want::Code {
                    hash: account.code_hash,
                });
            }
        }
        Parsed::Extension { key, child } => {
            fits(key.len())?;
            if let Child::Hash(hash) = child {
                wants.push(node(path.join(&key), hash));
            }
        }
        Parsed::Branch(mut items) => {
            fits(1)?;
            let first = wants.len();
            for nibble in 0..16 {
                // A node that stands in its parent is shorter than a hash, so nothing hangs below it.
                if let Child::Hash(hash) = walk::reference(items.next_item()?)? {
                    wants.push(node(join(path, nibble), hash));
                }
            }
            wants.get_mut(first..).unwrap_or_default().reverse();
        }
    }
    Ok(())
}

/// A [`Want`] as it travels: kind, address of the storage's account or nothing, a nibble a byte, hash, storage root.
#[derive(RlpEncodable, RlpDecodable)]
struct Row {
    kind: u8,
    address: Bytes,
    path: Bytes,
    hash: B256,
    root: B256,
}

impl From<&Want> for Row {
    fn from(want: &Want) -> Self {
        let mut row = Self {
            kind: 0,
            address: Bytes::new(),
            path: Bytes::new(),
            hash: B256::ZERO,
            root: B256::ZERO,
        };
        match want {
            Want::Node { owner, path, hash } => {
                if let Owner::Storage(address) = owner {
                    row.address = Bytes::copy_from_slice(address.as_slice());
                }
                row.path = path.to_vec().into();
                row.hash = *hash;
            }
            Want::Address { key, root } => (row.kind, row.hash, row.root) = (1, *key, *root),
            Want::Code { hash } => (row.kind, row.hash) = (2, *hash),
        }
        row
    }
}

impl Row {
    fn want(&self) -> Option<Want> {
        let hash = self.hash;
        match self.kind {
            0 => {
                let owner = match self.address.as_ref() {
                    [] => Owner::Accounts,
                    address => Owner::Storage(Address::try_from(address).ok()?),
                };
                let good =
                    self.path.len() <= KEY_NIBBLES && self.path.iter().all(|nibble| *nibble < 16);
                good.then(|| Want::Node {
                    owner,
                    path: Nibbles::from_nibbles(&self.path),
                    hash,
                })
            }
            1 => Some(Want::Address {
                key: hash,
                root: self.root,
            }),
            2 => Some(Want::Code { hash }),
            _ => None,
        }
    }
}

/// Nibbles of a hashed key.
const KEY_NIBBLES: usize = 64;
const TOO_DEEP: Error = Error::Invariant("a trie is deeper than its keys are long");

/// Wants as they travel and are kept: the RLP list, what comes next last.
pub(crate) fn encode_wants<'a>(wants: impl IntoIterator<Item = &'a Want>) -> Bytes {
    let rows: Vec<Row> = wants.into_iter().map(Row::from).collect();
    alloy_rlp::encode(&rows).into()
}

/// Reads them; `None` for anything else.
pub(crate) fn decode_wants(mut bytes: &[u8]) -> Option<Vec<Want>> {
    let rows = Vec::<Row>::decode(&mut bytes).ok()?;
    if !bytes.is_empty() {
        return None;
    }
    rows.iter().map(Row::want).collect()
}

impl StateView {
    /// The parts that come next, as far as this view has them and until they are `limit` bytes or more. `address` gives
    /// the account behind a hashed key.
    ///
    /// # Errors
    /// Unreadable or damaged state.
    pub(crate) fn parts(
        &self,
        mut wants: Vec<Want>,
        address: &dyn Fn(&B256) -> Option<Address>,
        limit: usize,
    ) -> Result<Vec<Bytes>, Error> {
        let (mut parts, mut bytes) = (Vec::new(), 0_usize);
        while let Some(want) = wants.pop() {
            let found = match &want {
                Want::Node { owner, path, hash } => self.base().find_node(*owner, path, hash)?,
                Want::Address { key, .. } => {
                    address(key).map(|found| Bytes::copy_from_slice(found.as_slice()))
                }
                Want::Code { hash } => self.find_code(*hash)?,
            };
            let Some(part) = found else {
                break;
            };
            // The batch is of use to the receiver only.
            let taken = want.take(&part, &mut wants, &mut Batch::default());
            if taken.is_err() {
                break;
            }
            bytes = bytes.saturating_add(part.len());
            parts.push(part);
            if bytes >= limit {
                break;
            }
        }
        Ok(parts)
    }
}
