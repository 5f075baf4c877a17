//! Proof files: what a record, an element of it, or a whole log is worth to somebody who trusts no node.

use std::{collections::BTreeMap, sync::Arc};

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_rlp::Encodable as _;
use base64::Engine as _;
use stele_core::{
    element::ElementTree,
    epoch::Change,
    id::{PatientId, RECORDS},
    leaf::LeafKind,
    mmr,
    proof::{
        Disclosure, FORMAT, LogProof, PeakProof, RecordProof, SlotProof, StateProof, StorageProof,
        log_slot, peak_slot,
    },
    receipt::AccessAction,
};
use stele_index::ResourceVersion;
use stele_vault::RecordMeta;

use crate::{
    Service,
    error::{Error, Result},
    network::rules::LiveConsent,
    ports::{AccountProof, BlockRef},
    records::read_error,
    session::Actor,
};

/// Headers between a proven block and the certificate that covers it; more would mean a ledger that stands still.
const HEADERS_MAX: u64 = 64;
/// Longest content that a proof file carries; larger records are proven by element.
const CONTENT_MAX: u64 = 16 * 1024 * 1024;

/// One leaf of a log and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogLeaf {
    /// The leaf.
    pub leaf: B256,
    /// The version it anchors, `Type/id/_history/n`; absent when it was erased or is not here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// Whether the record was erased, or the leaf is the tombstone that says so.
    pub erased: bool,
}

impl Service {
    /// A proof file for a version of a record: whole, or with some elements disclosed and nothing else. Reading
    /// for a proof is reading: consent and receipt are the same.
    ///
    /// # Errors
    /// As for [`Service::read`]; an element that the resource does not have.
    pub async fn prove_record(
        self: &Arc<Self>,
        actor: &Actor,
        resource_type: &str,
        id: &str,
        version: Option<u32>,
        elements: &[String],
    ) -> Result<RecordProof> {
        const WHAT: &str = "making a proof";
        let found = self
            .index
            .search()
            .read(
                resource_type,
                id,
                version,
                &actor.viewer(),
                self.clock.now(),
            )
            .map_err(Error::index(WHAT))?
            .ok_or_else(|| Error::not_found(resource_type, id))?;
        let place = &found.placement;
        let records = [(place.record, found.version)];
        let slot = 1_u64.checked_shl(place.category_slot.into()).unwrap_or(0);
        let receipt = self.receipt(actor, place.log, AccessAction::Proof, slot, &records);
        let receipt = self.write_receipt(receipt, &records).await?;
        let service = Arc::clone(self);
        let (actor, elements) = (actor.clone(), elements.to_vec());
        tokio::task::spawn_blocking(move || {
            let meta = service.checked_meta(&found)?;
            let disclosure = if meta.preimage.kind == LeafKind::Tombstone {
                Disclosure::Nothing
            } else {
                let consent = LiveConsent::new(&*service, &actor)?;
                if meta.size_bytes > CONTENT_MAX {
                    return Err(Error::TooLarge {
                        message: "the record is too large for a proof file".into(),
                    });
                }
                let text = service
                    .open_meta(&actor, &meta, &consent, &receipt)
                    .map_err(|error| read_error(&found, error))?;
                disclose(&found, &text, &meta.element_salt, &elements)?
            };
            service.record_proof(&found, &meta, disclosure)
        })
        .await
        .map_err(|error| Error::internal(WHAT, error))?
    }

    /// The proof of one version's leaf, with what of its content is disclosed.
    pub(crate) fn record_proof(
        &self,
        found: &ResourceVersion,
        meta: &RecordMeta,
        disclosure: Disclosure,
    ) -> Result<RecordProof> {
        let index = found.placement.leaf;
        let (log, leaves) = self.log_proof(found.placement.log, Some(index))?;
        let path = mmr::path(&leaves, index)
            .ok_or_else(|| Error::internal("making a proof", "the leaf is beyond its log"))?;
        Ok(RecordProof {
            format: FORMAT.into(),
            organization: self.organization,
            resource_type: found.resource_type.to_owned(),
            id: found.id.clone(),
            disclosure,
            leaf: meta.preimage.clone(),
            leaf_salt: meta.leaf_salt.into(),
            log,
            path,
            index,
        })
    }

    /// Some words of a contract's storage, proven against a certified block.
    pub(crate) fn state_proof(&self, contract: Address, slots: &[U256]) -> Result<StateProof> {
        let slots: Vec<B256> = slots.iter().map(|slot| B256::from(*slot)).collect();
        let proof = self
            .ledger
            .proof(contract, &slots, BlockRef::Latest)
            .map_err(Error::ledger("proving a contract's state"))?;
        let (headers, certificate) = self.certified(proof.height)?;
        let changes = self.validator_changes()?;
        let account = account_rlp(&proof);
        let words = proof
            .storage
            .into_iter()
            .map(|word| SlotProof {
                slot: word.key,
                value: word.value,
                proof: word.proof,
            })
            .collect();
        Ok(StateProof {
            contract,
            words,
            account,
            account_proof: proof.proof,
            headers,
            certificate,
            changes,
        })
    }

    /// Proof of a patient's whole log, with all its leaves: that no record was withheld can be checked by holding
    /// the records shown against them.
    ///
    /// # Errors
    /// The actor may not decide for this patient.
    pub fn prove_log(&self, actor: &Actor, patient: PatientId) -> Result<(LogProof, Vec<LogLeaf>)> {
        const WHAT: &str = "proving a log";
        self.require_decider(actor, patient)?;
        let (proof, leaves) = self.whole_log(patient.0)?;
        let tombstones = self
            .index
            .chain()
            .tombstones_of(patient.0)
            .map_err(Error::index(WHAT))?;
        let erased: std::collections::BTreeSet<u64> = tombstones
            .iter()
            .flat_map(|one| [one.index, one.at])
            .collect();
        let leaves = (0_u64..)
            .zip(leaves)
            .map(|(index, leaf)| {
                let found = self
                    .index
                    .search()
                    .at_leaf(patient.0, index)
                    .map_err(Error::index(WHAT))?;
                Ok(LogLeaf {
                    leaf,
                    resource: found.map(|version| {
                        format!(
                            "{}/{}/_history/{}",
                            version.resource_type, version.id, version.version
                        )
                    }),
                    erased: erased.contains(&index),
                })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok((proof, leaves))
    }

    /// Proof of a log's size and peaks (all, or the one over a leaf), and its leaves as the index has them.
    pub(crate) fn log_proof(
        &self,
        log: Address,
        leaf: Option<u64>,
    ) -> Result<(LogProof, Vec<B256>)> {
        const WHAT: &str = "proving a log";
        let chain = self.index.chain();
        let size = chain.log_size(log).map_err(Error::index(WHAT))?;
        let mut keys: BTreeMap<u8, U256> = (0..=mmr::MAX_HEIGHT)
            .map(|height| (height, peak_slot(log, height)))
            .collect();
        // The ledger may have grown since the index was asked, so more peaks than needed are asked for and those
        // of the proven size are kept.
        keys.retain(|height, _| 1_u64 << height <= size.saturating_mul(4).max(4));
        let mut slots = vec![B256::from(log_slot(log))];
        slots.extend(keys.values().map(|slot| B256::from(*slot)));
        let proof = self
            .ledger
            .proof(RECORDS, &slots, BlockRef::Latest)
            .map_err(Error::ledger(WHAT))?;
        let mut words = proof.storage.iter();
        let head = words
            .next()
            .ok_or_else(|| Error::internal(WHAT, "no proof of the size"))?;
        let size = head.value.as_limbs().first().copied().unwrap_or_default();
        let wanted = leaf
            .and_then(|leaf| mmr::locate(size, leaf))
            .map(|(height, _)| height);
        let peaks = keys
            .keys()
            .zip(words)
            .filter(|(height, _)| size >> **height & 1 == 1)
            .filter(|(height, _)| wanted.is_none_or(|wanted| wanted == **height))
            .map(|(height, word)| PeakProof {
                height: *height,
                word: StorageProof {
                    value: word.value,
                    proof: word.proof.clone(),
                },
            })
            .collect();
        let mut leaves = Vec::new();
        while (leaves.len() as u64) < size {
            let part = chain
                .leaves_of(log, leaves.len() as u64, 4096)
                .map_err(Error::index(WHAT))?;
            if part.is_empty() {
                break;
            }
            leaves.extend(part.into_iter().map(|leaf| leaf.leaf));
        }
        leaves.truncate(usize::try_from(size).unwrap_or(usize::MAX));
        let (headers, certificate) = self.certified(proof.height)?;
        let changes = self.validator_changes()?;
        let head = StorageProof {
            value: head.value,
            proof: head.proof.clone(),
        };
        let account = account_rlp(&proof);
        Ok((
            LogProof {
                log,
                size,
                head,
                peaks,
                account,
                account_proof: proof.proof,
                headers,
                certificate,
                changes,
            },
            leaves,
        ))
    }

    fn validator_changes(&self) -> Result<Vec<Change>> {
        let changes = self.ledger.validator_changes();
        changes.map_err(Error::ledger("reading the changes of validators"))
    }

    /// Headers from a height up to the block that its certificate names.
    fn certified(&self, height: u64) -> Result<(Vec<Bytes>, Bytes)> {
        const WHAT: &str = "reading a certificate";
        let mut headers = Vec::new();
        for at in height..height.saturating_add(HEADERS_MAX) {
            let (header, certificate) = self
                .ledger
                .certified_header(at)
                .map_err(Error::ledger(WHAT))?
                .ok_or_else(|| Error::internal(WHAT, format!("block {at} is not there")))?;
            let mut encoded = Vec::new();
            header.encode(&mut encoded);
            headers.push(encoded.into());
            let names = stele_core::certificate::CommitCertificate::decode(&certificate)
                .map_err(|error| Error::internal(WHAT, error))?
                .block;
            if names == header.hash() {
                return Ok((headers, certificate));
            }
        }
        Err(Error::internal(WHAT, "no certificate covers the block"))
    }
}

fn disclose(
    version: &ResourceVersion,
    text: &str,
    element_salt: &stele_core::crypto::Secret32,
    elements: &[String],
) -> Result<Disclosure> {
    if elements.is_empty() {
        return Ok(Disclosure::Whole {
            content: base64::engine::general_purpose::STANDARD.encode(text),
            element_salt: (*element_salt.expose()).into(),
        });
    }
    let invalid = |problem: String| Error::Invalid {
        issues: vec![
            stele_fhir::outcome::Issue::error(stele_fhir::outcome::IssueCode::NotFound, problem)
                .at(version.resource_type),
        ],
        unreadable: false,
    };
    let tree = ElementTree::new(text, element_salt).map_err(|error| invalid(error.to_string()))?;
    let pointers: Vec<&str> = elements.iter().map(String::as_str).collect();
    let proof = tree
        .prove(&pointers)
        .map_err(|error| invalid(error.to_string()))?;
    Ok(Disclosure::Elements { proof })
}

/// RLP of the account as the state trie holds it.
fn account_rlp(proof: &AccountProof) -> Bytes {
    alloy_rlp::encode(alloy_trie::TrieAccount {
        nonce: proof.nonce,
        balance: proof.balance,
        storage_root: proof.storage_root,
        code_hash: proof.code_hash,
    })
    .into()
}
