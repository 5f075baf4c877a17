//! The requests a file of FHIR becomes: each can be carried out twice with the effect of once.

use std::borrow::Cow;

use alloy_primitives::{hex, keccak256};
use anyhow::{Context as _, Result, bail};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Resources of an NDJSON file sent together.
const NDJSON_STEP: usize = 200;

/// One request of an import.
pub(super) enum Part {
    /// A resource on its own.
    Single {
        /// PUT where the resource has an id, else POST.
        method: Method,
        /// Path below the gateway's base.
        path: String,
        /// The resource as the file has it.
        body: String,
    },
    /// Entries of a Bundle, each serialised.
    Bundle {
        /// `batch` or `transaction`.
        kind: &'static str,
        /// Entries with the number they have in the file, from 0.
        entries: Vec<(usize, String)>,
    },
}

impl Part {
    /// Resources in it.
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Single { .. } => 1,
            Self::Bundle { entries, .. } => entries.len() as u64,
        }
    }

    /// Method, path and body to send.
    pub(super) fn request(&self) -> (Method, String, String) {
        match self {
            Self::Single { method, path, body } => (method.clone(), path.clone(), body.clone()),
            Self::Bundle { kind, entries } => {
                let texts: Vec<&str> = entries.iter().map(|(_, text)| text.as_str()).collect();
                let body = format!(
                    r#"{{"resourceType":"Bundle","type":"{kind}","entry":[{}]}}"#,
                    texts.join(",")
                );
                (Method::POST, "/fhir/r4".into(), body)
            }
        }
    }

    /// What is left of it to try again: the entries of a batch with these numbers, everything else whole.
    pub(super) fn only(self, failed: &[usize]) -> Self {
        match self {
            Self::Bundle {
                kind: "batch",
                entries,
            } => Self::Bundle {
                kind: "batch",
                entries: entries
                    .into_iter()
                    .filter(|(number, _)| failed.contains(number))
                    .collect(),
            },
            whole => whole,
        }
    }
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "resourceType", borrow)]
    resource_type: Cow<'a, str>,
    #[serde(default)]
    id: Option<String>,
}

#[derive(Deserialize)]
struct BundleIn<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default, borrow)]
    entry: Vec<EntryIn<'a>>,
}

#[derive(Deserialize)]
struct EntryIn<'a> {
    #[serde(rename = "fullUrl")]
    full_url: Option<String>,
    #[serde(borrow)]
    resource: Option<&'a RawValue>,
    request: Option<RequestIn>,
}

#[derive(Deserialize)]
struct RequestIn {
    method: String,
    url: String,
    #[serde(rename = "ifNoneExist")]
    if_none_exist: Option<String>,
}

#[derive(Serialize)]
struct EntryOut<'a> {
    #[serde(rename = "fullUrl", skip_serializing_if = "Option::is_none")]
    full_url: Option<String>,
    resource: Cow<'a, RawValue>,
    request: RequestOut,
}

#[derive(Serialize)]
struct RequestOut {
    method: String,
    url: String,
    #[serde(rename = "ifNoneExist", skip_serializing_if = "Option::is_none")]
    if_none_exist: Option<String>,
}

/// The requests a file becomes. `name` is the file's without `.bz2` or `.gz`.
pub(super) fn parts(name: &str, text: &str) -> Result<Vec<Part>> {
    if name.ends_with(".ndjson") {
        return ndjson(text);
    }
    let head: Head<'_> = serde_json::from_str(text).context("it is not a FHIR resource in JSON")?;
    if head.resource_type == "Bundle" {
        bundle(text, head.id)
    } else {
        Ok(vec![single(&head.resource_type, head.id, text)])
    }
}

fn single(resource_type: &str, id: Option<String>, text: &str) -> Part {
    let (id, body) = match id {
        Some(id) => (id, text.to_owned()),
        None => {
            let id = content_id(0, text);
            let body = with_id(text, &id);
            (id, body)
        }
    };
    Part::Single {
        method: Method::PUT,
        path: format!("/fhir/r4/{resource_type}/{id}"),
        body,
    }
}

/// A resource without an id, given one as its first member; the rest stays as written.
fn with_id(text: &str, id: &str) -> String {
    match text.trim_start().strip_prefix('{') {
        Some(rest) => format!(r#"{{"id":"{id}",{rest}"#),
        None => text.to_owned(),
    }
}

/// An id for what has none, the same whenever the same file is read: importing it again finds it.
fn content_id(number: usize, text: &str) -> String {
    let digest = keccak256(format!("{number} {text}"));
    let mut id = hex::encode(digest);
    id.truncate(32);
    id
}

fn bundle(text: &str, id: Option<String>) -> Result<Vec<Part>> {
    let bundle: BundleIn<'_> = serde_json::from_str(text).context("it is not a Bundle")?;
    let kind = match bundle.kind.as_str() {
        "batch" | "collection" | "searchset" => "batch",
        "transaction" => "transaction",
        // What was attested as a whole is kept as a whole.
        "document" | "message" => return Ok(vec![single("Bundle", id, text)]),
        other => bail!("a Bundle of type {other} can't be imported"),
    };
    let mut entries = Vec::with_capacity(bundle.entry.len());
    for (number, entry) in bundle.entry.into_iter().enumerate() {
        if entry.resource.is_some() {
            let entry = idempotent(number, entry).with_context(|| format!("entry {number}"))?;
            let text = serde_json::to_string(&entry).context("writing a Bundle")?;
            entries.push((number, text));
        }
    }
    Ok(vec![Part::Bundle { kind, entries }])
}

/// The same entry, so that carrying it out twice is carrying it out once.
fn idempotent(number: usize, entry: EntryIn<'_>) -> Result<EntryOut<'_>> {
    let resource = entry.resource.context("it has no resource")?;
    let head: Head<'_> =
        serde_json::from_str(resource.get()).context("its resource has no type")?;
    let own = head.id.is_some();
    let by_url = || entry.full_url.as_deref()?.strip_prefix("urn:uuid:");
    let id = head
        .id
        .or_else(|| by_url().map(str::to_owned))
        .unwrap_or_else(|| content_id(number, resource.get()));
    let put = |url: &str| RequestOut {
        method: "PUT".into(),
        url: format!("{url}/{id}"),
        if_none_exist: None,
    };
    let (request, is_put) = match entry.request {
        Some(request) if request.method == "POST" && request.if_none_exist.is_none() => {
            (put(&request.url), true)
        }
        Some(request) => {
            let request = RequestOut {
                method: request.method,
                url: request.url,
                if_none_exist: request.if_none_exist,
            };
            (request, false)
        }
        None => (put(&head.resource_type), true),
    };
    let resource = if is_put && !own {
        let text = with_id(resource.get(), &id);
        Cow::Owned(RawValue::from_string(text).context("its resource is no object")?)
    } else {
        Cow::Borrowed(resource)
    };
    Ok(EntryOut {
        full_url: entry.full_url,
        resource,
        request,
    })
}

fn ndjson(text: &str) -> Result<Vec<Part>> {
    let lines: Vec<(usize, &str)> = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .collect();
    lines
        .chunks(NDJSON_STEP)
        .map(|lines| {
            let mut entries = Vec::with_capacity(lines.len());
            for (number, line) in lines {
                let at = || format!("line {}", number + 1);
                let resource: &RawValue = serde_json::from_str(line).with_context(at)?;
                let entry = idempotent(
                    *number,
                    EntryIn {
                        full_url: None,
                        resource: Some(resource),
                        request: None,
                    },
                )
                .with_context(at)?;
                let text = serde_json::to_string(&entry).context("writing a Bundle")?;
                entries.push((*number, text));
            }
            Ok(Part::Bundle {
                kind: "batch",
                entries,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn body(part: &Part) -> Value {
        serde_json::from_str(&part.request().2).expect("JSON")
    }

    #[test]
    fn posts_become_puts_under_their_own_id() {
        let text = r#"{"resourceType":"Bundle","type":"transaction","entry":[
            {"fullUrl":"urn:uuid:a-1","resource":{"resourceType":"Patient","id":"a-1","x":6.30},"request":{"method":"POST","url":"Patient"}},
            {"fullUrl":"urn:uuid:a-2","resource":{"resourceType":"Patient","x":6.30},"request":{"method":"POST","url":"Patient"}},
            {"resource":{"resourceType":"Organization"},"request":{"method":"POST","url":"Organization","ifNoneExist":"identifier=1"}}]}"#;
        let parts = parts("a.json", text).expect("a Bundle");
        let out = body(&parts[0]);
        assert_eq!(out["entry"][0]["request"]["url"], "Patient/a-1");
        assert_eq!(out["entry"][0]["request"]["method"], "PUT");
        assert_eq!(out["entry"][1]["request"]["url"], "Patient/a-2");
        assert_eq!(out["entry"][1]["resource"]["id"], "a-2");
        assert_eq!(out["entry"][2]["request"]["method"], "POST");
        let sent = parts[0].request().2;
        assert!(
            sent.contains(r#"{"resourceType":"Patient","id":"a-1","x":6.30}"#),
            "as written"
        );
        assert_eq!(parts[0].len(), 3);
    }

    #[test]
    fn what_has_no_id_gets_the_same_one_each_time() {
        let text = r#"{"resourceType":"Bundle","type":"collection","entry":[
            {"resource":{"resourceType":"Basic"}},{"resource":{"resourceType":"Basic"}}]}"#;
        let first = body(&parts("a.json", text).expect("a Bundle")[0]);
        let again = body(&parts("b.json", text).expect("a Bundle")[0]);
        assert_eq!(first, again);
        let url = |number: usize| first["entry"][number]["request"]["url"].clone();
        assert_ne!(url(0), url(1), "two entries are two resources");
        let lone = r#"{"resourceType":"Basic"}"#;
        let (method, path, sent) = parts("c.json", lone).expect("a resource")[0].request();
        let id = path.strip_prefix("/fhir/r4/Basic/").expect("a path");
        assert_eq!(id.len(), 32);
        let expected = format!(r#"{{"id":"{id}","resourceType":"Basic"}}"#);
        assert_eq!((method, sent), (Method::PUT, expected));
    }

    #[test]
    fn documents_stay_whole() {
        let text = r#"{"resourceType":"Bundle","id":"d1","type":"document","entry":[]}"#;
        let (_, path, sent) = parts("d.json", text).expect("a document")[0].request();
        assert_eq!((path.as_str(), sent.as_str()), ("/fhir/r4/Bundle/d1", text));
    }

    #[test]
    fn a_second_try_sends_what_failed_of_a_batch_only() {
        let text = "{\"resourceType\":\"Basic\",\"id\":\"a\"}\n\n{\"resourceType\":\"Basic\",\"id\":\"b\"}\n";
        let batch = parts("e.ndjson", text).expect("lines").remove(0).only(&[2]);
        assert_eq!(body(&batch)["entry"][0]["request"]["url"], "Basic/b");
        assert_eq!(batch.len(), 1);
        let broken = parts("f.ndjson", "{}\n{\n").err().expect("a bad line");
        assert!(format!("{broken:#}").starts_with("line 1"), "{broken:#}");
    }
}
