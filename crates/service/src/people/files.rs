//! Files of a record: a patient adds a photo or a letter as an own entry, corrects it, and whoever may see the entry gets
//! the file back byte for byte. An entry is a DocumentReference; its content is a streamed Binary beside it.

use std::{io, pin::Pin, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};
use stele_core::id::PatientId;
use stele_fhir::{parse, words};

use crate::{
    Service, Watch, Write, Written,
    error::{Error, Result},
    session::Actor,
};

/// What a patient says of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileWords {
    /// What it is called in the record.
    pub title: String,
    /// The day it is of, `2026-06-30`.
    pub day: String,
    /// A note; empty where there is none.
    pub note: String,
}

/// A file on its way in.
#[derive(Debug)]
pub struct NewFile<S> {
    /// Name on the device it comes from.
    pub name: String,
    /// MIME type, as the device says.
    pub content_type: String,
    /// Largest size that is taken, in bytes.
    pub max_bytes: u64,
    /// The content. An error in it means that nothing is kept.
    pub content: S,
}

/// A file of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Name to save it under.
    pub name: String,
    /// MIME type, as its writer gave it.
    pub content_type: String,
    /// Length in bytes, if it is known before it is opened.
    pub size_bytes: Option<u64>,
}

/// Content of a file, piece by piece; each is authentic when it is given out.
pub type FileContent = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

impl Service {
    /// Adds a file to a patient's record as the patient's own entry: the Binary from the stream first, then the
    /// DocumentReference that names it. If the second is refused the first is deleted again.
    ///
    /// # Errors
    /// As for [`Service::write_binary`].
    pub async fn add_file<S>(
        self: &Arc<Self>,
        actor: &Actor,
        patient: PatientId,
        said: &FileWords,
        file: NewFile<S>,
    ) -> Result<Written>
    where
        S: Stream<Item = io::Result<Bytes>> + Send + Unpin,
    {
        let subject = self.patient_reference(patient)?;
        let (binary, attachment) = self.keep_file(actor, &subject, said, file).await?;
        let me = json!({ "reference": subject });
        let mut made = json!({
            "resourceType": "DocumentReference", "status": "current", "subject": me, "author": [me],
            "date": self.clock.now().to_instant(),
        });
        describe(&mut made, said, Some(attachment));
        let resource = parse::edited(made.to_string()).map_err(invalid)?;
        self.write_or_undo(actor, binary, Write::Create { resource })
            .await
    }

    /// A new version of a patient's own file entry: other words, and another file where one is given. Earlier versions
    /// stay, with their files.
    ///
    /// # Errors
    /// As for [`Service::add_file`]; [`Error::PreconditionFailed`] if the entry has changed since `version`.
    pub async fn correct_file<S>(
        self: &Arc<Self>,
        actor: &Actor,
        patient: PatientId,
        entry: (&str, u32),
        said: &FileWords,
        file: Option<NewFile<S>>,
    ) -> Result<Written>
    where
        S: Stream<Item = io::Result<Bytes>> + Send + Unpin,
    {
        let (id, version) = entry;
        let stored = self.read(actor, "DocumentReference", id).await?;
        let mut value: Value = serde_json::from_str(&stored.text)
            .map_err(|error| Error::internal("reading an entry", error))?;
        let mut binary = None;
        let mut attachment = None;
        if let Some(file) = file {
            let subject = self.patient_reference(patient)?;
            let (id, made) = self.keep_file(actor, &subject, said, file).await?;
            (binary, attachment) = (id, Some(made));
        }
        describe(&mut value, said, attachment);
        let resource = parse::edited(value.to_string()).map_err(invalid)?;
        let write = Write::Update {
            resource,
            id: id.to_owned(),
            if_match: Some(version),
        };
        self.write_or_undo(actor, binary, write).await
    }

    /// The file of an entry, a DocumentReference or DiagnosticReport, with its content.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the entry has no file that is kept here; else as for [`Service::read_binary`].
    pub async fn open_file(
        self: &Arc<Self>,
        actor: &Actor,
        resource_type: &str,
        id: &str,
    ) -> Result<(FileInfo, FileContent)> {
        let stored = self.read(actor, resource_type, id).await?;
        let value: Value = serde_json::from_str(&stored.text)
            .map_err(|error| Error::internal("reading an entry", error))?;
        let none = || Error::not_found(resource_type, id);
        let attachment = attachment(&value).ok_or_else(none)?;
        let mut info = file_info(attachment);
        if let Some(data) = attachment.get("data").and_then(Value::as_str) {
            return decoded(info, data);
        }
        let binary = words::text_at(attachment, "/url")
            .strip_prefix("Binary/")
            .ok_or_else(none)?;
        let (kept, content) = self.read_binary(actor, binary).await?;
        // A Binary that was written as a resource carries its content inside.
        if kept.content_type == "application/fhir+json" {
            let pieces: Vec<Bytes> = content.try_collect().await?;
            let resource: Value = serde_json::from_slice(&pieces.concat())
                .map_err(|error| Error::internal("reading a Binary", error))?;
            return decoded(info, words::text_at(&resource, "/data"));
        }
        info.size_bytes = Some(kept.size_bytes);
        Ok((info, content.boxed()))
    }

    /// Keeps the content. Gives the id of its Binary and the attachment that names it.
    async fn keep_file<S>(
        self: &Arc<Self>,
        actor: &Actor,
        subject: &str,
        said: &FileWords,
        file: NewFile<S>,
    ) -> Result<(Option<String>, Value)>
    where
        S: Stream<Item = io::Result<Bytes>> + Send + Unpin,
    {
        let mut size_bytes = 0_u64;
        let counted = file.content.inspect_ok(|piece| {
            size_bytes = size_bytes.saturating_add(piece.len() as u64);
        });
        let written = self
            .write_binary(
                actor,
                &file.content_type,
                Some(subject),
                file.max_bytes,
                counted,
                Watch::default(),
            )
            .await?;
        let mut attachment = json!({
            "contentType": file.content_type,
            "url": format!("Binary/{}", written.id),
            "title": file.name,
            "creation": said.day,
        });
        // FHIR's size is 32 bits wide; the Binary itself knows the length of a larger file.
        if let Ok(size) = u32::try_from(size_bytes)
            && let Some(members) = attachment.as_object_mut()
        {
            members.insert("size".into(), json!(size));
        }
        Ok((Some(written.id), attachment))
    }

    async fn write_or_undo(
        self: &Arc<Self>,
        actor: &Actor,
        binary: Option<String>,
        write: Write,
    ) -> Result<Written> {
        const WHAT: &str = "describing a file";
        let error = match self.write(actor, vec![write]).await {
            Ok(mut written) => {
                return written
                    .pop()
                    .ok_or_else(|| Error::internal(WHAT, "no result"));
            }
            Err(error) => error,
        };
        if let Some(id) = binary {
            let delete = Write::Delete {
                resource_type: "Binary".into(),
                id,
                if_match: None,
            };
            if let Err(undo) = self.write(actor, vec![delete]).await {
                tracing::warn!(error = &undo as &dyn std::error::Error, "files.undo");
            }
        }
        Err(error)
    }

    /// `Patient/id`.
    pub(crate) fn patient_reference(&self, patient: PatientId) -> Result<String> {
        self.index
            .search()
            .patient_named(patient)
            .map_err(Error::index("finding a patient"))?
            .map(|id| format!("Patient/{id}"))
            .ok_or_else(|| Error::not_found("Patient", "of this account"))
    }
}

/// The attachment of an entry: a document's content, or a report's presented form.
fn attachment(entry: &Value) -> Option<&Value> {
    entry
        .pointer("/content/0/attachment")
        .or_else(|| entry.pointer("/presentedForm/0"))
        .filter(|one| one.get("data").is_some() || one.get("url").is_some())
}

/// The file that an entry names, if it names one that is kept with the records.
#[must_use]
pub fn file_of(entry: &Value) -> Option<FileInfo> {
    let attachment = attachment(entry)?;
    let is_here = attachment.get("data").is_some()
        || words::text_at(attachment, "/url").starts_with("Binary/");
    is_here.then(|| file_info(attachment))
}

fn file_info(attachment: &Value) -> FileInfo {
    let text = |pointer, none: &str| match words::text_at(attachment, pointer) {
        "" => none.to_owned(),
        text => text.to_owned(),
    };
    let inline = attachment.get("data").and_then(Value::as_str);
    FileInfo {
        name: text("/title", "document"),
        content_type: text("/contentType", "application/octet-stream"),
        size_bytes: match inline {
            Some(data) => Some(decoded_length(data)),
            None => attachment.get("size").and_then(Value::as_u64),
        },
    }
}

/// Length of what base64 text stands for.
fn decoded_length(data: &str) -> u64 {
    let digits = data
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace() && *byte != b'=')
        .count();
    (digits as u64).saturating_mul(3) / 4
}

fn decoded(mut info: FileInfo, data: &str) -> Result<(FileInfo, FileContent)> {
    let data: String = data.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let content = STANDARD
        .decode(data)
        .map_err(|error| Error::internal("decoding a document", error))?;
    info.size_bytes = Some(content.len() as u64);
    Ok((info, stream::iter([Ok(Bytes::from(content))]).boxed()))
}

/// Puts what the patient says into the entry, and the file where there is another one.
fn describe(entry: &mut Value, said: &FileWords, file: Option<Value>) {
    let Some(members) = entry.as_object_mut() else {
        return;
    };
    members.insert("type".into(), json!({ "text": said.title }));
    members.insert("context".into(), json!({ "period": { "start": said.day } }));
    if said.note.is_empty() {
        members.remove("description");
    } else {
        members.insert("description".into(), json!(said.note));
    }
    if let Some(file) = file {
        members.insert("content".into(), json!([{ "attachment": file }]));
    }
}

fn invalid(issues: Vec<stele_fhir::outcome::Issue>) -> Error {
    Error::Invalid {
        issues,
        unreadable: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_a_file_is_valid_fhir_and_keeps_what_it_had() {
        let said = FileWords {
            title: "Letter from the clinic".into(),
            day: "2026-06-30".into(),
            note: "Two pages".into(),
        };
        let file = json!({ "contentType": "application/pdf", "url": "Binary/b1", "title": "a.pdf", "size": 7 });
        let mut entry = json!({
            "resourceType": "DocumentReference", "status": "current", "date": "2026-07-01T10:00:00Z",
            "subject": { "reference": "Patient/p" }
        });
        describe(&mut entry, &said, Some(file));
        let issues = stele_fhir::validate::resource(&entry);
        assert!(issues.is_empty(), "{issues:?}");
        assert_eq!(words::when(&entry), "2026-06-30");
        assert_eq!(
            words::title("DocumentReference", &entry),
            "Letter from the clinic"
        );
        let info = file_of(&entry).expect("a file");
        assert_eq!((info.name.as_str(), info.size_bytes), ("a.pdf", Some(7)));
        let silent = FileWords {
            note: String::new(),
            ..said
        };
        describe(&mut entry, &silent, None);
        assert!(entry.get("description").is_none() && file_of(&entry).is_some());
    }

    #[test]
    fn only_files_that_are_kept_here_are_offered() {
        let with =
            |attachment: Value| file_of(&json!({ "content": [{ "attachment": attachment }] }));
        assert!(with(json!({ "url": "https://elsewhere.example/x.pdf" })).is_none());
        assert!(with(json!({ "title": "nothing" })).is_none());
        let inline = with(json!({ "data": "aGVsbG8=" })).expect("a file");
        assert_eq!(inline.size_bytes, Some(5));
    }
}
