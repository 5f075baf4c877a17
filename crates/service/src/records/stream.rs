//! Binary content of any size, in and out without holding it.
//!
//! A streamed Binary is sealed as one plaintext: a zero byte, the length of its head (two bytes, big-endian), the
//! head (the Binary resource without `data`), the content. A resource's text begins with `{`, so the two can't be
//! taken for each other.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use stele_core::{
    crypto::os_rng,
    leaf::{LeafKind, record_id},
    receipt::AccessAction,
    time::Timestamp,
};
use stele_fhir::{category::Category, outcome::IssueCode};
use stele_vault::{Content, NewRecord, RecordMeta, SealedBatch, custodian::Pepper, keys::Holder};

use super::{
    Written,
    fetch::{read_error, read_request},
    pending::{JournalEntry, JournalVersion, Watch, tell},
    place::{NewPatients, Placed, Placement, invalid, new_id},
    write::{sender_of, storage},
};
use crate::{
    Service,
    error::{Error, Result},
    network::Keeper,
    network::rules::LiveConsent,
    session::Actor,
};

/// What is known of a Binary beside its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BinaryInfo {
    /// MIME type, as the writer gave it.
    pub content_type: String,
    /// Length of the content in bytes.
    pub size_bytes: u64,
    /// Version.
    pub version: u32,
    /// When it was written.
    pub last_updated: Timestamp,
}

impl Service {
    /// Writes a Binary from a stream, telling a watch once it is durable. `security_context` is the `Patient/id` it belongs to; without one it is the
    /// organisation's. The content is sealed as it comes; nothing is kept if the stream fails.
    ///
    /// # Errors
    /// As for [`Service::write`]; [`Error::TooLarge`] past `max_bytes`.
    pub async fn write_binary(
        self: &Arc<Self>,
        actor: &Actor,
        content_type: &str,
        security_context: Option<&str>,
        max_bytes: u64,
        body: impl Stream<Item = io::Result<Bytes>> + Send + Unpin,
        watch: Watch,
    ) -> Result<Written> {
        const WHAT: &str = "storing a Binary";
        let now = self.clock.now();
        let placed = self.place_binary(actor, content_type, security_context, now)?;
        let placements = [(0, Placement::Write(Box::new(placed)))];
        self.require_write(actor, &placements, &NewPatients::default())
            .await?;
        let [(_, Placement::Write(placed))] = placements else {
            return Err(Error::internal(WHAT, "it was not placed"));
        };
        let batch = self.seal_binary(actor, &placed, max_bytes, body).await?;
        let entry = JournalEntry {
            author: actor.account,
            sender: sender_of(actor),
            versions: vec![JournalVersion::of(&placed)],
            orders: Vec::new(),
            promise: None,
        };
        let ticket = self.begin(actor, entry, &watch)?;
        let metas = match self.vault.commit(batch).await.map_err(storage(WHAT)) {
            Ok(metas) => metas,
            Err(error) => {
                self.discard(&ticket, &error).await?;
                return Err(error);
            }
        };
        tell(watch, &ticket);
        let written = self.record(&ticket, vec![*placed], &metas).await?.pop();
        // The text is the head alone, which is not what was sent.
        written
            .map(|written| Written {
                text: None,
                ..written
            })
            .ok_or_else(|| Error::internal(WHAT, "no result"))
    }

    /// Seals the head and then the content as it comes. Nothing of it is committed yet.
    async fn seal_binary(
        &self,
        actor: &Actor,
        placed: &Placed,
        max_bytes: u64,
        mut body: impl Stream<Item = io::Result<Bytes>> + Send + Unpin,
    ) -> Result<SealedBatch> {
        const WHAT: &str = "sealing a Binary";
        let record = NewRecord {
            log: placed.log,
            record: placed.record,
            version: placed.version,
            kind: placed.kind,
            category: placed.category,
            author: actor.account,
            previous: placed.previous,
            content: Content::None,
        };
        let mut sealing = self
            .vault
            .seal_stream(&record, placed.last_updated, &mut os_rng())
            .map_err(storage(WHAT))?;
        sealing
            .push(&frame(&placed.text)?)
            .await
            .map_err(storage(WHAT))?;
        let mut size_bytes = 0_u64;
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|error| Error::Invalid {
                issues: vec![stele_fhir::outcome::Issue::error(
                    IssueCode::Incomplete,
                    format!("the content ended early: {error}"),
                )],
                unreadable: true,
            })?;
            size_bytes = size_bytes.saturating_add(piece.len() as u64);
            if size_bytes > max_bytes {
                return Err(Error::TooLarge {
                    message: format!("a Binary may have at most {max_bytes} bytes"),
                });
            }
            sealing.push(&piece).await.map_err(storage(WHAT))?;
        }
        sealing.finish().await.map_err(storage(WHAT))
    }

    fn place_binary(
        &self,
        actor: &Actor,
        content_type: &str,
        security_context: Option<&str>,
        now: Timestamp,
    ) -> Result<Placed> {
        let id = new_id();
        let patient = match security_context {
            None => None,
            Some(reference) => {
                let id = reference.strip_prefix("Patient/").unwrap_or_default();
                let found = self
                    .locate("Patient", id)?
                    .and_then(|found| found.placement.patient);
                Some(found.ok_or_else(|| {
                    invalid(
                        "Binary.securityContext",
                        IssueCode::NotFound,
                        "there is no such patient",
                    )
                })?)
            }
        };
        let mut value = json!({
            "resourceType": "Binary",
            "id": id,
            "meta": { "versionId": "1", "lastUpdated": now.to_instant() },
            "contentType": content_type,
        });
        if let (Some(reference), Value::Object(members)) = (security_context, &mut value) {
            members.insert("securityContext".into(), json!({ "reference": reference }));
        }
        Ok(Placed {
            record: record_id(self.organization, "Binary", &id),
            resource_type: "Binary".into(),
            id,
            version: 1,
            log: patient.map_or(actor.organization.0, |patient| patient.0),
            patient,
            category: Category::Documents.number(),
            kind: LeafKind::Create,
            previous: alloy_primitives::B256::ZERO,
            last_updated: now,
            text: value.to_string(),
            value,
        })
    }

    /// A Binary's content as a stream, and what is known of it. Written by [`Self::write_binary`] it comes back byte
    /// for byte; each piece is authentic when it is given out.
    ///
    /// # Errors
    /// As for [`Service::read`].
    pub async fn read_binary(
        self: &Arc<Self>,
        actor: &Actor,
        id: &str,
    ) -> Result<(BinaryInfo, impl Stream<Item = Result<Bytes>> + Send + use<>)> {
        let viewer = actor.viewer();
        let found = self
            .index
            .search()
            .read("Binary", id, None, &viewer, self.clock.now())
            .map_err(Error::index("reading a Binary"))?
            .ok_or_else(|| Error::not_found("Binary", id))?;
        if found.deleted {
            return Err(Error::Gone {
                resource: format!("Binary/{id}"),
            });
        }
        let place = &found.placement;
        let records = [(place.record, found.version)];
        let slot = 1_u64.checked_shl(place.category_slot.into()).unwrap_or(0);
        let receipt = self.receipt(actor, place.log, AccessAction::Read, slot, &records);
        let receipt = self.write_receipt(receipt, &records).await?;
        let meta = self.checked_meta(&found)?;
        let consent = LiveConsent::new(&**self, actor)?;
        let pepper = match Keeper::of(&meta) {
            None => self.vault.custodian().release(
                &read_request(actor, &meta),
                &consent,
                &receipt,
                self.clock.now(),
            ),
            Some(keeper) => {
                let receipts = BTreeMap::from([(meta.log, receipt.clone())]);
                let keepers = BTreeSet::from([(meta.log, keeper)]);
                self.ask_keepers(actor, keepers, &receipts).await?;
                let pepper = self.released_pepper(actor, &meta, &consent, &receipt);
                self.released.forget(receipts.values());
                pepper
            }
        };
        let pepper = pepper.map_err(|error| read_error(&found, error))?;
        let failed = |error| read_error(&found, error);
        let holder = self.holder(actor, meta.log).map_err(failed)?;
        let head = self
            .frame_of(&meta, holder, &pepper)
            .await
            .map_err(failed)?;
        let (content_type, start) = match head {
            Some((head, start)) => (content_type_of(&head), start),
            None => ("application/fhir+json".to_owned(), 0),
        };
        let stream = self
            .vault
            .open_stream(&meta, holder, &pepper, start..meta.size_bytes)
            .await
            .map_err(failed)?;
        let info = BinaryInfo {
            content_type,
            size_bytes: meta.size_bytes.saturating_sub(start),
            version: found.version,
            last_updated: found.last_updated,
        };
        Ok((
            info,
            stream.map(move |piece| piece.map_err(|error| read_error(&found, error))),
        ))
    }

    /// Head of a streamed Binary and where its content begins; `None` for the text of a resource.
    pub(crate) async fn frame_of(
        &self,
        meta: &RecordMeta,
        holder: Holder,
        pepper: &Pepper,
    ) -> stele_vault::Result<Option<(String, u64)>> {
        let stream = self
            .vault
            .open_stream(meta, holder, pepper, 0..FRAME_MAX)
            .await?;
        let pieces: Vec<Bytes> = stream.try_collect().await?;
        let bytes = pieces.concat();
        let Some(([0, high, low], rest)) = bytes.split_first_chunk::<3>() else {
            return Ok(None);
        };
        let length = u16::from_be_bytes([*high, *low]);
        let head = rest
            .get(..usize::from(length))
            .and_then(|head| std::str::from_utf8(head).ok());
        Ok(head.map(|head| (head.to_owned(), u64::from(length).saturating_add(3))))
    }
}

/// Longest frame: marker, length, head.
const FRAME_MAX: u64 = 4096;

fn frame(head: &str) -> Result<Vec<u8>> {
    let length = u16::try_from(head.len())
        .ok()
        .filter(|length| u64::from(*length) < FRAME_MAX - 3);
    let length = length.ok_or_else(|| {
        invalid(
            "Binary",
            IssueCode::TooLong,
            "the MIME type or the security context is too long",
        )
    })?;
    let mut frame = vec![0];
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(head.as_bytes());
    Ok(frame)
}

fn content_type_of(head: &str) -> String {
    serde_json::from_str::<Value>(head)
        .ok()
        .and_then(|head| {
            head.get("contentType")
                .and_then(Value::as_str)
                .map(str::to_owned)
        })
        .unwrap_or_else(|| "application/octet-stream".into())
}
