//! `stele import`: files and folders of FHIR into a node, again and again without doubling anything.
//!
//! A Bundle's POST entries that carry a `urn:uuid:` become PUTs under that id, so that a second import finds what
//! the first one wrote and an interrupted one goes on. Resources are passed on as the files have them.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use tokio::{sync::Semaphore, task::JoinSet};

use super::{
    Answer,
    client::{Client, Target},
};
use crate::output;

/// Resources of an NDJSON file sent together.
const NDJSON_STEP: usize = 200;

/// Take in FHIR Bundles, resources and NDJSON (also .bz2 and .gz), in files and folders.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stele import bundles/
  stele import patient.json more.ndjson.gz --parallel 4 --json
  stele import bundles/ --gateway https://records.example --token @token.txt")]
pub(crate) struct Import {
    /// Files and folders.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    target: Target,
    /// Files sent at the same time.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=16))]
    parallel: u8,
    /// End with one JSON line on standard output.
    #[arg(long)]
    json: bool,
}

/// What an import did.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Imported {
    /// Files read.
    pub(crate) files: u64,
    /// Resources in them.
    pub(crate) resources: u64,
    /// Resources that are there and were not.
    pub(crate) created: u64,
    /// Resources that have a new version.
    pub(crate) updated: u64,
    /// Resources that were there already, as they are.
    pub(crate) unchanged: u64,
    /// Resources refused.
    pub(crate) failed: u64,
    /// Time taken.
    pub(crate) seconds: f64,
}

impl Import {
    pub(crate) async fn run(self) -> Result<Answer> {
        let client = self.target.connect()?;
        let mut files = Vec::new();
        for path in &self.paths {
            collect(path, &mut files)?;
        }
        if files.is_empty() {
            bail!("no .json or .ndjson files (or .bz2, .gz of them) in the paths given");
        }
        let sources = files.into_iter().map(Source::File).collect();
        let done = import(&client, sources, usize::from(self.parallel)).await?;
        if self.json {
            output::json(&done);
        } else {
            output::line(format_args!(
                "{} files, {} resources: {} created, {} updated, {} unchanged, {} failed, in {:.1} s",
                done.files,
                done.resources,
                done.created,
                done.updated,
                done.unchanged,
                done.failed,
                done.seconds
            ));
        }
        Ok(if done.failed == 0 {
            Answer::Yes
        } else {
            Answer::No
        })
    }
}

/// Where content comes from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// A file on disk.
    File(PathBuf),
    /// A file inside the binary, by name.
    Embedded(&'static str, &'static [u8]),
}

impl Source {
    fn name(&self) -> String {
        match self {
            Self::File(path) => path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            Self::Embedded(name, _) => (*name).to_owned(),
        }
    }

    fn read(&self) -> Result<(String, String)> {
        let (name, bytes) = match self {
            Self::File(path) => (
                self.name(),
                fs::read(path).with_context(|| format!("reading {}", path.display()))?,
            ),
            Self::Embedded(name, bytes) => ((*name).to_owned(), bytes.to_vec()),
        };
        let mut text = Vec::new();
        let plain = if let Some(plain) = name.strip_suffix(".bz2") {
            bzip2::read::MultiBzDecoder::new(bytes.as_slice())
                .read_to_end(&mut text)
                .context("it is not a bzip2 file")?;
            plain
        } else if let Some(plain) = name.strip_suffix(".gz") {
            flate2::read::MultiGzDecoder::new(bytes.as_slice())
                .read_to_end(&mut text)
                .context("it is not a gzip file")?;
            plain
        } else {
            text = bytes;
            name.as_str()
        };
        let plain = plain.to_owned();
        Ok((plain, String::from_utf8(text).context("it is not UTF-8")?))
    }

    /// Directories of organisations and practitioners come first: others refer to them.
    fn is_directory(&self) -> bool {
        let name = self.name();
        name.starts_with("0-")
            || name.starts_with("hospitalInformation")
            || name.starts_with("practitionerInformation")
    }
}

/// Sends everything, directories first, `parallel` files at a time.
pub(crate) async fn import(
    client: &Client,
    sources: Vec<Source>,
    parallel: usize,
) -> Result<Imported> {
    let started = now_s();
    let bar = progress(sources.len());
    let (first, rest): (Vec<Source>, Vec<Source>) =
        sources.into_iter().partition(Source::is_directory);
    let mut total = Imported::default();
    for source in first {
        let done = send_file(client, &source, &bar).await;
        total.add(&done);
    }
    let slots = Arc::new(Semaphore::new(parallel));
    let mut running = JoinSet::new();
    for source in rest {
        let slot = Arc::clone(&slots)
            .acquire_owned()
            .await
            .context("waiting for a turn")?;
        let (client, bar) = (client.clone(), bar.clone());
        running.spawn(async move {
            let _slot = slot;
            send_file(&client, &source, &bar).await
        });
        while let Some(done) = running.try_join_next() {
            total.add(&done.context("an import task failed")?);
        }
    }
    while let Some(done) = running.join_next().await {
        total.add(&done.context("an import task failed")?);
    }
    bar.finish_and_clear();
    total.seconds = now_s() - started;
    Ok(total)
}

impl Imported {
    fn add(&mut self, other: &Self) {
        self.files = self.files.saturating_add(other.files);
        self.resources = self.resources.saturating_add(other.resources);
        self.created = self.created.saturating_add(other.created);
        self.updated = self.updated.saturating_add(other.updated);
        self.unchanged = self.unchanged.saturating_add(other.unchanged);
        self.failed = self.failed.saturating_add(other.failed);
    }
}

async fn send_file(client: &Client, source: &Source, bar: &ProgressBar) -> Imported {
    let mut done = Imported {
        files: 1,
        ..Imported::default()
    };
    let sent = async {
        let (name, text) = source.read()?;
        for part in parts(&name, &text)? {
            let resources = part.resources;
            done.resources = done.resources.saturating_add(resources);
            match part.send(client).await {
                Ok(answer) => done.count(&answer),
                Err(error) => {
                    done.failed = done.failed.saturating_add(resources);
                    bar.println(format!("{}: {error:#}", source.name()));
                }
            }
        }
        anyhow::Ok(())
    };
    if let Err(error) = sent.await {
        done.failed = done.failed.saturating_add(1);
        bar.println(format!("{}: {error:#}", source.name()));
    }
    bar.inc(1);
    bar.set_message(format!("{} resources", done.resources));
    done
}

impl Imported {
    /// Counts what each entry of an answer says.
    fn count(&mut self, answer: &Value) {
        let entries = answer.get("entry").and_then(Value::as_array);
        for entry in entries.into_iter().flatten() {
            let response = entry.get("response");
            let said = |name: &str| {
                response
                    .and_then(|r| r.get(name))
                    .and_then(Value::as_str)
                    .unwrap_or_default()
            };
            let status = said("status");
            if status.starts_with("201") {
                self.created = self.created.saturating_add(1);
            } else if status.starts_with('2')
                && said("etag") != "W/\"1\""
                && is_new(said("lastModified"))
            {
                self.updated = self.updated.saturating_add(1);
            } else if status.starts_with('2') {
                self.unchanged = self.unchanged.saturating_add(1);
            } else {
                self.failed = self.failed.saturating_add(1);
            }
        }
    }
}

/// Whether a moment lies within the last minute: what was written now, not before.
fn is_new(instant: &str) -> bool {
    time::OffsetDateTime::parse(instant, &time::format_description::well_known::Rfc3339).is_ok_and(
        |at| {
            #[expect(clippy::cast_precision_loss, reason = "seconds fit")]
            let at = at.unix_timestamp() as f64;
            now_s() - at < 60.0
        },
    )
}

/// One request of an import.
struct Part {
    resources: u64,
    method: Method,
    path: String,
    body: String,
}

impl Part {
    async fn send(self, client: &Client) -> Result<Value> {
        let reply = client
            .send(self.method, &self.path, Some(self.body))
            .await?;
        if !reply.is_success() {
            bail!("{}", reply.problem());
        }
        let answer = reply.json()?;
        if answer.get("resourceType").and_then(Value::as_str) == Some("Bundle") {
            return Ok(answer);
        }
        // A single resource answers as itself; the count reads entries.
        Ok(serde_json::json!({ "entry": [{ "response": { "status": reply.status.to_string() } }] }))
    }
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "resourceType", borrow)]
    resource_type: std::borrow::Cow<'a, str>,
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
struct BundleOut<'a> {
    #[serde(rename = "resourceType")]
    resource_type: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    entry: Vec<EntryOut<'a>>,
}

#[derive(Serialize)]
struct EntryOut<'a> {
    #[serde(rename = "fullUrl", skip_serializing_if = "Option::is_none")]
    full_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<&'a RawValue>,
    request: RequestOut,
}

#[derive(Serialize)]
struct RequestOut {
    method: String,
    url: String,
    #[serde(rename = "ifNoneExist", skip_serializing_if = "Option::is_none")]
    if_none_exist: Option<String>,
}

/// The requests a file becomes.
fn parts(name: &str, text: &str) -> Result<Vec<Part>> {
    if name.ends_with(".ndjson") {
        return ndjson(text);
    }
    let head: Head<'_> = serde_json::from_str(text).context("it is not a FHIR resource in JSON")?;
    if head.resource_type == "Bundle" {
        return bundle(text).map(|part| vec![part]);
    }
    let (method, path) = match &head.id {
        Some(id) => (Method::PUT, format!("/fhir/r4/{}/{id}", head.resource_type)),
        None => (Method::POST, format!("/fhir/r4/{}", head.resource_type)),
    };
    Ok(vec![Part {
        resources: 1,
        method,
        path,
        body: text.to_owned(),
    }])
}

fn bundle(text: &str) -> Result<Part> {
    let bundle: BundleIn<'_> = serde_json::from_str(text).context("it is not a Bundle")?;
    let kind = match bundle.kind.as_str() {
        "batch" | "collection" | "searchset" => "batch",
        "transaction" => "transaction",
        other => bail!("a Bundle of type {other} can't be imported"),
    };
    let entry = bundle
        .entry
        .into_iter()
        .filter(|entry| entry.resource.is_some())
        .map(idempotent)
        .collect::<Result<Vec<_>>>()?;
    let resources = entry.len() as u64;
    let out = BundleOut {
        resource_type: "Bundle",
        kind,
        entry,
    };
    Ok(Part {
        resources,
        method: Method::POST,
        path: "/fhir/r4".into(),
        body: serde_json::to_string(&out).context("writing a Bundle")?,
    })
}

/// The same entry, so that carrying it out twice is carrying it out once.
fn idempotent(entry: EntryIn<'_>) -> Result<EntryOut<'_>> {
    let head: Head<'_> = match entry.resource {
        Some(resource) => {
            serde_json::from_str(resource.get()).context("an entry is no resource")?
        }
        None => bail!("an entry has no resource"),
    };
    let id = entry
        .full_url
        .as_deref()
        .and_then(|url| url.strip_prefix("urn:uuid:"))
        .map(str::to_owned)
        .or(head.id);
    let request = match (entry.request, id) {
        (Some(request), Some(id))
            if request.method == "POST" && request.if_none_exist.is_none() =>
        {
            RequestOut {
                method: "PUT".into(),
                url: format!("{}/{id}", request.url),
                if_none_exist: None,
            }
        }
        (Some(request), _) => RequestOut {
            method: request.method,
            url: request.url,
            if_none_exist: request.if_none_exist,
        },
        (None, Some(id)) => RequestOut {
            method: "PUT".into(),
            url: format!("{}/{id}", head.resource_type),
            if_none_exist: None,
        },
        (None, None) => RequestOut {
            method: "POST".into(),
            url: head.resource_type.into_owned(),
            if_none_exist: None,
        },
    };
    Ok(EntryOut {
        full_url: entry.full_url,
        resource: entry.resource,
        request,
    })
}

fn ndjson(text: &str) -> Result<Vec<Part>> {
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines
        .chunks(NDJSON_STEP)
        .map(|lines| {
            let entry = lines
                .iter()
                .map(|line| {
                    let resource: &RawValue =
                        serde_json::from_str(line).context("a line is not JSON")?;
                    idempotent(EntryIn {
                        full_url: None,
                        resource: Some(resource),
                        request: None,
                    })
                })
                .collect::<Result<Vec<_>>>()?;
            let out = BundleOut {
                resource_type: "Bundle",
                kind: "batch",
                entry,
            };
            Ok(Part {
                resources: lines.len() as u64,
                method: Method::POST,
                path: "/fhir/r4".into(),
                body: serde_json::to_string(&out).context("writing a Bundle")?,
            })
        })
        .collect()
}

/// Files of a path, sorted, folders read through.
fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let what = fs::metadata(path).with_context(|| format!("looking at {}", path.display()))?;
    if what.is_file() {
        files.push(path.to_owned());
        return Ok(());
    }
    let mut entries: Vec<PathBuf> = fs::read_dir(path)
        .with_context(|| format!("listing {}", path.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()
        .with_context(|| format!("listing {}", path.display()))?;
    entries.sort();
    for entry in entries {
        let name = entry.to_string_lossy();
        let plain = name.trim_end_matches(".bz2").trim_end_matches(".gz");
        if entry.is_dir() || plain.ends_with(".json") || plain.ends_with(".ndjson") {
            collect(&entry, files)?;
        }
    }
    Ok(())
}

fn progress(files: usize) -> ProgressBar {
    let bar = ProgressBar::new(files as u64);
    if let Ok(style) = ProgressStyle::with_template(
        "{bar:30} {pos}/{len} files, {elapsed}, about {eta} left {msg}",
    ) {
        bar.set_style(style);
    }
    bar
}

#[expect(
    clippy::disallowed_methods,
    reason = "the time a person waits is the system's"
)]
fn now_s() -> f64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn posts_become_puts_under_their_own_id() {
        let text = r#"{"resourceType":"Bundle","type":"transaction","entry":[
            {"fullUrl":"urn:uuid:a-1","resource":{"resourceType":"Patient","x":6.30},"request":{"method":"POST","url":"Patient"}},
            {"resource":{"resourceType":"Organization"},"request":{"method":"POST","url":"Organization","ifNoneExist":"identifier=1"}}]}"#;
        let part = bundle(text).expect("a Bundle");
        let out: Value = serde_json::from_str(&part.body).expect("JSON");
        assert_eq!(out["entry"][0]["request"]["url"], "Patient/a-1");
        assert_eq!(out["entry"][0]["request"]["method"], "PUT");
        assert_eq!(out["entry"][1]["request"]["method"], "POST");
        assert!(
            part.body.contains(r#"{"resourceType":"Patient","x":6.30}"#),
            "as written"
        );
        assert_eq!(part.resources, 2);
    }
}
