//! The element tree: a salted Merkle tree over the values of a JSON resource.
//!
//! Its root is part of a record's leaf, so that one value can be disclosed and proven without
//! showing any other. A leaf is `SHA-256(0 ‖ salt (16) ‖ pointer length (u32) ‖ pointer ‖ literal)`:
//! the JSON pointer (RFC 6901) of a scalar, an empty array or an empty object, and its literal
//! exactly as written, since re-writing JSON changes what was signed (`6.30` becomes `6.3`). Leaves
//! are sorted by pointer, bytewise. Nodes are `SHA-256(1 ‖ left ‖ right)`, an odd one moves up as it
//! is, and the root is `SHA-256(2 ‖ leaf count (u32) ‖ top)`.
//!
//! Every leaf has its own salt, `HMAC-SHA-256(element salt, pointer)` cut to 16 bytes, so that a
//! disclosed value does not help to guess its neighbours. A proof holds the salts of what it
//! discloses and never the record's element salt.

use std::ops::Range;

use alloy_primitives::{B256, FixedBytes};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::crypto::Secret32;

mod scan;
mod tree;

pub use scan::DEPTH_MAX;

/// Why a tree could not be built or a proof does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is not one JSON value, is nested too deeply, or names a member twice.
    #[error("reading JSON at byte {at}: {problem}")]
    Json {
        /// Byte offset.
        at: usize,
        /// What is wrong there.
        problem: &'static str,
    },
    /// Nothing in the resource is at this pointer or under it.
    #[error("no element is at {pointer:?} or under it")]
    NoSuchElement {
        /// The JSON pointer asked for.
        pointer: String,
    },
    /// One element is not what was committed; the others may be.
    #[error("the element at {pointer:?} is not what was anchored")]
    Element {
        /// Its JSON pointer.
        pointer: String,
    },
    /// The disclosed elements do not lead to the root.
    #[error("the disclosed elements do not lead to the anchored root")]
    Root,
    /// The proof has too few or too many parts, or they are out of order.
    #[error("the element proof is malformed: {problem}")]
    Malformed {
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// A disclosed element.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Disclosed {
    /// Position among all leaves, from 0.
    pub index: u32,
    /// JSON pointer (RFC 6901).
    pub pointer: String,
    /// The literal as written: a number, a string with its quotes, `true`, `null`, `[]` or `{}`.
    pub literal: String,
    /// The leaf's own salt. 16 bytes.
    pub salt: FixedBytes<16>,
    /// The leaf's hash, given where several elements are disclosed, so that a changed one can be
    /// named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<B256>,
}

/// A proof that some elements belong to a resource whose element root is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ElementProof {
    /// How many leaves the resource has.
    pub leaf_count: u32,
    /// What is disclosed, in the order of the leaves.
    pub elements: Vec<Disclosed>,
    /// The hashes that complete the tree, level by level from the leaves, left to right.
    pub siblings: Vec<B256>,
}

/// The element tree of one resource.
pub struct ElementTree<'a> {
    text: &'a str,
    leaves: Vec<(String, Range<usize>)>,
    salts: Vec<FixedBytes<16>>,
    hashes: Vec<B256>,
}

impl<'a> ElementTree<'a> {
    /// Builds the tree of a JSON text.
    ///
    /// # Errors
    /// [`Error::Json`] if the text is not one JSON value.
    pub fn new(text: &'a str, element_salt: &Secret32) -> Result<Self, Error> {
        let mut leaves = scan::leaves(text)?;
        leaves.sort_unstable_by(|(first, _), (second, _)| first.cmp(second));
        if let Some([(_, _), (_, second)]) = leaves
            .array_windows::<2>()
            .find(|[(first, _), (second, _)]| first == second)
        {
            return Err(Error::Json {
                at: second.start,
                problem: "a member is named twice",
            });
        }
        let key = salting_key(element_salt);
        let salts: Vec<_> = leaves
            .iter()
            .map(|(pointer, _)| leaf_salt(&key, pointer))
            .collect();
        let hashes = leaves
            .iter()
            .zip(&salts)
            .map(|((pointer, range), salt)| {
                leaf_hash(salt, pointer, text.get(range.clone()).unwrap_or_default())
            })
            .collect();
        Ok(Self {
            text,
            leaves,
            salts,
            hashes,
        })
    }

    /// The root: what a record's leaf commits to.
    #[must_use]
    pub fn root(&self) -> B256 {
        tree::root(&self.hashes)
    }

    /// The hashes of all leaves, in order. Together with the root they name a changed element.
    #[must_use]
    pub fn leaf_hashes(&self) -> &[B256] {
        &self.hashes
    }

    /// JSON pointers of all leaves, in order.
    pub fn pointers(&self) -> impl Iterator<Item = &str> {
        self.leaves.iter().map(|(pointer, _)| pointer.as_str())
    }

    /// Proves the elements at the given JSON pointers, each with all that is under it.
    ///
    /// # Errors
    /// [`Error::NoSuchElement`] for a pointer nothing is at or under.
    pub fn prove(&self, pointers: &[&str]) -> Result<ElementProof, Error> {
        let mut chosen = vec![false; self.leaves.len()];
        for wanted in pointers {
            let mut found = false;
            for ((pointer, _), chosen) in self.leaves.iter().zip(&mut chosen) {
                if is_at_or_under(pointer, wanted) {
                    found = true;
                    *chosen = true;
                }
            }
            if !found {
                return Err(Error::NoSuchElement {
                    pointer: (*wanted).to_owned(),
                });
            }
        }
        let indices: Vec<usize> = chosen
            .iter()
            .enumerate()
            .filter(|(_, chosen)| **chosen)
            .map(|(at, _)| at)
            .collect();
        let several = indices.len() > 1;
        let elements = indices
            .iter()
            .filter_map(|&at| {
                let (pointer, range) = self.leaves.get(at)?;
                Some(Disclosed {
                    index: u32::try_from(at).ok()?,
                    pointer: pointer.clone(),
                    literal: self.text.get(range.clone())?.to_owned(),
                    salt: *self.salts.get(at)?,
                    hash: if several {
                        self.hashes.get(at).copied()
                    } else {
                        None
                    },
                })
            })
            .collect();
        Ok(ElementProof {
            leaf_count: count(&self.hashes),
            elements,
            siblings: tree::siblings(&self.hashes, &indices),
        })
    }
}

impl ElementProof {
    /// Checks the proof against an element root.
    ///
    /// # Errors
    /// [`Error::Element`] names the element that was changed, where that can be told;
    /// [`Error::Root`] if the proof as a whole is for another resource;
    /// [`Error::Malformed`] if it is no proof.
    pub fn verify(&self, root: &B256) -> Result<(), Error> {
        let mut leaves = Vec::with_capacity(self.elements.len());
        for element in &self.elements {
            let hash = leaf_hash(&element.salt, &element.pointer, &element.literal);
            if element.hash.is_some_and(|claimed| claimed != hash) {
                return Err(Error::Element {
                    pointer: element.pointer.clone(),
                });
            }
            leaves.push((element.index, hash));
        }
        let found = tree::root_of_proof(self.leaf_count, &leaves, &self.siblings)?;
        match self.elements.as_slice() {
            _ if found == *root => Ok(()),
            [only] => Err(Error::Element {
                pointer: only.pointer.clone(),
            }),
            _ => Err(Error::Root),
        }
    }
}

/// The element root of a JSON text.
///
/// # Errors
/// [`Error::Json`] if the text is not one JSON value.
pub fn root(text: &str, element_salt: &Secret32) -> Result<B256, Error> {
    ElementTree::new(text, element_salt).map(|tree| tree.root())
}

/// Names the elements of `text` that are not those of the tree with these leaf hashes.
///
/// `expected` is checked against the anchored `root` first. A changed value is named by its
/// pointer; where members were added or taken away, the first pointer from which on the two differ
/// is named.
///
/// # Errors
/// [`Error::Root`] if `expected` is not the tree's; [`Error::Json`] if the text is not JSON.
pub fn changed_elements(
    text: &str,
    element_salt: &Secret32,
    expected: &[B256],
    root: &B256,
) -> Result<Vec<String>, Error> {
    if tree::root(expected) != *root {
        return Err(Error::Root);
    }
    let tree = ElementTree::new(text, element_salt)?;
    let differing = tree
        .pointers()
        .zip(tree.leaf_hashes().iter().zip(expected))
        .filter(|(_, (found, wanted))| found != wanted)
        .map(|(pointer, _)| pointer.to_owned());
    if tree.leaf_hashes().len() == expected.len() {
        return Ok(differing.collect());
    }
    let first = differing
        .take(1)
        .chain(tree.pointers().last().map(str::to_owned))
        .next();
    Ok(first.into_iter().collect())
}

fn is_at_or_under(pointer: &str, wanted: &str) -> bool {
    pointer
        .strip_prefix(wanted)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn salting_key(element_salt: &Secret32) -> Hmac<Sha256> {
    // HMAC takes keys of any length (RFC 2104 §2); the fixed-size constructor needs none checked.
    let mut block = [0; 64];
    for (to, from) in block.iter_mut().zip(element_salt.expose()) {
        *to = *from;
    }
    Hmac::<Sha256>::new(&block.into())
}

fn leaf_salt(key: &Hmac<Sha256>, pointer: &str) -> FixedBytes<16> {
    let mut mac = key.clone();
    mac.update(pointer.as_bytes());
    let full: [u8; 32] = mac.finalize().into_bytes().into();
    full.first_chunk::<16>().copied().unwrap_or_default().into()
}

fn leaf_hash(salt: &FixedBytes<16>, pointer: &str, literal: &str) -> B256 {
    let mut hasher = Sha256::new();
    hasher.update([0]);
    hasher.update(salt);
    hasher.update(
        u32::try_from(pointer.len())
            .unwrap_or(u32::MAX)
            .to_be_bytes(),
    );
    hasher.update(pointer.as_bytes());
    hasher.update(literal.as_bytes());
    B256::new(hasher.finalize().into())
}

fn count(hashes: &[B256]) -> u32 {
    u32::try_from(hashes.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
