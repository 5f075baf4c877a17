//! `stele import`: files and folders of FHIR into a node, again and again without doubling anything.
//!
//! A Bundle's POST entries become PUTs under the id they bring (`urn:uuid:` or their own) or one made of their
//! content, so that a second import finds what the first one wrote and an interrupted one goes on. Resources are
//! passed on as the files have them. What is refused because something it refers to is not there yet is sent again
//! after the rest, until a round brings nothing new: files may come in any order.

mod parts;
mod source;

use std::{collections::BTreeMap, io::IsTerminal as _, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::Value;
use tokio::{sync::Semaphore, task::JoinSet, time::MissedTickBehavior};

use self::parts::{Part, parts};
pub(crate) use self::source::Source;
use super::{
    Answer,
    client::{Client, Reply, Target, problems},
};
use crate::output;

/// Problems told for one file; the others are counted.
const PROBLEMS_TOLD: usize = 20;
/// How often a node that asks to wait is asked again.
const PATIENCE: u32 = 8;
/// How often progress is told where there is no terminal to draw on.
const TELL_EVERY: Duration = Duration::from_secs(10);

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
#[derive(Clone, Copy, Debug, Default, Serialize)]
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
        let files = source::collect(&self.paths)?;
        if files.is_empty() {
            bail!("no .json or .ndjson files (or .bz2, .gz of them) in the paths given");
        }
        let done = import(&client, files, usize::from(self.parallel)).await?;
        if self.json {
            output::json(&done);
        } else {
            output::line(format_args!(
                "{} files, {} resources: {} created, {} updated, {} unchanged, {} failed, in {:.1} s ({:.0}/s)",
                done.files,
                done.resources,
                done.created,
                done.updated,
                done.unchanged,
                done.failed,
                done.seconds,
                done.rate()
            ));
        }
        Ok(if done.failed == 0 {
            Answer::Yes
        } else {
            Answer::No
        })
    }
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

    /// Resources settled a second.
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    fn rate(&self) -> f64 {
        let settled = self.created + self.updated + self.unchanged;
        settled as f64 / self.seconds.max(0.001)
    }
}

/// What of a file is to be sent: everything, or the numbered parts with the entries that were refused.
#[derive(Clone)]
struct Job {
    source: Source,
    again: Option<BTreeMap<usize, Vec<usize>>>,
}

/// What became of a file.
struct Outcome {
    job: Job,
    done: Imported,
    refused: Vec<Refusal>,
}

/// A resource, or a part of several, that was not taken.
struct Refusal {
    part: usize,
    entry: Option<usize>,
    resources: u64,
    problem: String,
    /// Something it refers to is not there: that may change.
    waits: bool,
}

/// Sends everything, directories first, `parallel` files at a time.
///
/// # Errors
///
/// The node does not answer. What it refuses is told and counted, and is no error.
pub(crate) async fn import(
    client: &Client,
    sources: Vec<Source>,
    parallel: usize,
) -> Result<Imported> {
    let started = now_s();
    let bar = Progress::new(sources.len());
    let (first, rest): (Vec<Source>, Vec<Source>) =
        sources.into_iter().partition(Source::is_directory);
    let whole = |source| Job {
        source,
        again: None,
    };
    let mut total = Imported::default();
    let mut refused = Vec::new();
    for (sources, parallel) in [(first, 1), (rest, parallel)] {
        let jobs = sources.into_iter().map(whole).collect();
        for outcome in round(client, jobs, parallel, &bar).await? {
            total.add(&outcome.done);
            refused.push(outcome);
        }
    }
    loop {
        let (jobs, before) = second_tries(&mut refused);
        if jobs.is_empty() {
            break;
        }
        for outcome in round(client, jobs, parallel, &bar).await? {
            total.add(&Imported {
                files: 0,
                resources: 0,
                ..outcome.done
            });
            refused.push(outcome);
        }
        let left: u64 = refused.iter().map(Outcome::waiting).sum();
        if left >= before {
            break;
        }
    }
    for outcome in refused {
        total.failed = total.failed.saturating_add(outcome.tell(&bar));
    }
    bar.end();
    total.seconds = now_s() - started;
    Ok(total)
}

/// Takes out what is to be sent once more, and how many resources that is.
fn second_tries(outcomes: &mut Vec<Outcome>) -> (Vec<Job>, u64) {
    let mut jobs = Vec::new();
    let mut count = 0_u64;
    for outcome in outcomes.iter_mut() {
        let (waiting, settled): (Vec<Refusal>, Vec<Refusal>) =
            outcome.refused.drain(..).partition(|refusal| refusal.waits);
        outcome.refused = settled;
        if waiting.is_empty() {
            continue;
        }
        let mut again: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for refusal in waiting {
            count = count.saturating_add(refusal.resources);
            again.entry(refusal.part).or_default().extend(refusal.entry);
        }
        jobs.push(Job {
            source: outcome.job.source.clone(),
            again: Some(again),
        });
    }
    outcomes.retain(|outcome| !outcome.refused.is_empty());
    (jobs, count)
}

/// Sends each job once, `parallel` at a time.
async fn round(
    client: &Client,
    jobs: Vec<Job>,
    parallel: usize,
    bar: &Progress,
) -> Result<Vec<Outcome>> {
    let slots = Arc::new(Semaphore::new(parallel));
    let mut running = JoinSet::new();
    let mut outcomes = Vec::with_capacity(jobs.len());
    for job in jobs {
        let slot = Arc::clone(&slots)
            .acquire_owned()
            .await
            .context("waiting for a turn")?;
        let (client, bar) = (client.clone(), bar.clone());
        running.spawn(async move {
            let _slot = slot;
            send_file(&client, job, &bar).await
        });
        while let Some(done) = running.try_join_next() {
            outcomes.push(done.context("an import task failed")??);
        }
    }
    while let Some(done) = running.join_next().await {
        outcomes.push(done.context("an import task failed")??);
    }
    Ok(outcomes)
}

async fn send_file(client: &Client, job: Job, bar: &Progress) -> Result<Outcome> {
    let mut outcome = Outcome {
        done: Imported {
            files: 1,
            ..Imported::default()
        },
        refused: Vec::new(),
        job,
    };
    let read = outcome
        .job
        .source
        .read()
        .and_then(|(name, text)| parts(&name, &text));
    let parts = match read {
        Ok(parts) => parts,
        Err(error) => {
            outcome.refused.push(Refusal {
                part: 0,
                entry: None,
                resources: 1,
                problem: format!("{error:#}"),
                waits: false,
            });
            Vec::new()
        }
    };
    for (number, part) in parts.into_iter().enumerate() {
        let part = match &outcome.job.again {
            None => part,
            Some(again) => match again.get(&number) {
                Some(entries) => part.only(entries),
                None => continue,
            },
        };
        outcome.done.resources = outcome.done.resources.saturating_add(part.len());
        let reply = send(client, &part).await?;
        outcome.count(number, &part, &reply);
        bar.settled(part.len());
    }
    if outcome.job.again.is_none() {
        bar.file();
    }
    Ok(outcome)
}

/// Sends a part, waiting where the node asks to.
async fn send(client: &Client, part: &Part) -> Result<Reply> {
    let mut tries = 0;
    loop {
        let (method, path, body) = part.request();
        let reply = client.send(method, &path, Some(body)).await?;
        tries += 1;
        match reply.retry_after {
            Some(wait) if tries < PATIENCE => tokio::time::sleep(wait).await,
            _ => return Ok(reply),
        }
    }
}

impl Outcome {
    /// Counts what an answer says, entry by entry.
    fn count(&mut self, number: usize, part: &Part, reply: &Reply) {
        let entries = match part {
            Part::Single { .. } => {
                self.count_one(number, None, &SaidOf::reply(reply));
                return;
            }
            Part::Bundle { entries, .. } => entries,
        };
        if !reply.is_success() {
            self.refused.push(Refusal {
                part: number,
                entry: None,
                resources: part.len(),
                problem: reply.problem(),
                waits: reply.misses_something(),
            });
            return;
        }
        let answer = reply.json().unwrap_or_default();
        for (at, (entry, _)) in entries.iter().enumerate() {
            let response = answer.pointer(&format!("/entry/{at}/response"));
            self.count_one(number, Some(*entry), &SaidOf::entry(response));
        }
    }

    fn count_one(&mut self, part: usize, entry: Option<usize>, said: &SaidOf) {
        let counter = match said.status {
            201 => &mut self.done.created,
            200..300 if said.is_new_version => &mut self.done.updated,
            200..300 => &mut self.done.unchanged,
            _ => {
                self.refused.push(Refusal {
                    part,
                    entry,
                    resources: 1,
                    problem: said.problem.clone(),
                    waits: said.misses,
                });
                return;
            }
        };
        *counter = counter.saturating_add(1);
    }

    fn waiting(&self) -> u64 {
        let waiting = self.refused.iter().filter(|refusal| refusal.waits);
        waiting.map(|refusal| refusal.resources).sum()
    }

    /// Tells what was refused; the number of resources.
    fn tell(&self, bar: &Progress) -> u64 {
        let name = self.job.source.name();
        for refusal in self.refused.iter().take(PROBLEMS_TOLD) {
            let entry = refusal.entry.map(|entry| format!(" entry {entry}"));
            let entry = entry.unwrap_or_default();
            bar.tell(&format!("{name}{entry}: {}", refusal.problem));
        }
        if let Some(more @ 1..) = self.refused.len().checked_sub(PROBLEMS_TOLD) {
            bar.tell(&format!("{name}: {more} more were refused"));
        }
        self.refused.iter().map(|refusal| refusal.resources).sum()
    }
}

/// What an answer says of one resource.
struct SaidOf {
    status: u16,
    is_new_version: bool,
    problem: String,
    misses: bool,
}

impl SaidOf {
    fn reply(reply: &Reply) -> Self {
        let answer = reply.json().unwrap_or_default();
        let meta = |name: &str| {
            let value = answer.pointer(&format!("/meta/{name}"));
            value.and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        Self {
            status: reply.status,
            is_new_version: meta("versionId") != "1" && is_new(&meta("lastUpdated")),
            problem: reply.problem(),
            misses: reply.misses_something(),
        }
    }

    fn entry(response: Option<&Value>) -> Self {
        let said = |name: &str| {
            let value = response.and_then(|response| response.get(name));
            value.and_then(Value::as_str).unwrap_or_default()
        };
        let status = said("status");
        let code = status.split(' ').next().unwrap_or_default();
        let outcome = response.and_then(|response| response.get("outcome"));
        let problems = outcome.map(problems).unwrap_or_default();
        Self {
            status: code.parse().unwrap_or(500),
            is_new_version: said("etag") != "W/\"1\"" && is_new(said("lastModified")),
            problem: format!("{} ({status})", problems.texts.join("; ")),
            misses: problems.misses,
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

/// Progress on a terminal as a bar, elsewhere as a line now and then.
#[derive(Clone)]
struct Progress {
    bar: ProgressBar,
    resources: Arc<std::sync::atomic::AtomicU64>,
    started: f64,
    teller: Option<Arc<tokio::task::JoinHandle<()>>>,
}

impl Progress {
    fn new(files: usize) -> Self {
        let bar = ProgressBar::new(files as u64);
        let template = "{bar:30} {pos}/{len} files, {msg}, {elapsed}, about {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        let teller = (!std::io::stderr().is_terminal()).then(|| {
            let bar = bar.clone();
            Arc::new(tokio::spawn(async move {
                let mut every = tokio::time::interval(TELL_EVERY);
                every.set_missed_tick_behavior(MissedTickBehavior::Delay);
                every.tick().await;
                loop {
                    every.tick().await;
                    let (at, of) = (bar.position(), bar.length().unwrap_or_default());
                    output::note(format_args!("{at}/{of} files, {}", bar.message()));
                }
            }))
        });
        Self {
            bar,
            resources: Arc::default(),
            started: now_s(),
            teller,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    fn settled(&self, resources: u64) {
        let order = std::sync::atomic::Ordering::Relaxed;
        let all = self.resources.fetch_add(resources, order) + resources;
        let rate = all as f64 / (now_s() - self.started).max(0.001);
        self.bar
            .set_message(format!("{all} resources, {rate:.0}/s"));
    }

    fn file(&self) {
        self.bar.inc(1);
    }

    /// One line on standard error, above the bar where there is one.
    fn tell(&self, line: &str) {
        self.bar.suspend(|| output::note(line));
    }

    fn end(&self) {
        if let Some(teller) = &self.teller {
            teller.abort();
        }
        self.bar.finish_and_clear();
    }
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
