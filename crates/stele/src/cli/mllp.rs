//! `stele mllp`: send HL7 v2 messages to a listener, and look after those that a node could not write.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::{Value, json};
use stele_fhir::hl7v2::{
    Message, ack, batch,
    frame::{Event, Framer, wrap},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{Answer, client::Target};
use crate::output;

/// Largest acknowledgement that is read.
const ANSWER_MAX: usize = 1 << 20;
/// Endings of files of messages in folders; a file that is named itself may have any.
const ENDINGS: &[&str] = &["hl7", "er7", "txt"];

/// HL7 v2 messages.
#[derive(Debug, Args)]
pub(crate) struct MllpCommand {
    #[command(subcommand)]
    command: Sub,
}

#[derive(Debug, Subcommand)]
enum Sub {
    /// Send files of messages (one, many, or a batch with FHS/BHS) and show what is answered.
    #[command(after_help = "Examples:
  stele mllp send messages/
  stele mllp send admission.hl7 --to 127.0.0.1:2575 --json")]
    Send(SendFiles),
    /// List messages that wait or are parked, with the reason.
    #[command(after_help = "Examples:
  stele mllp list --json")]
    List(List),
    /// Write a parked message again.
    #[command(after_help = "Examples:
  stele mllp retry 7")]
    Retry(One),
    /// Throw a parked message away; its sender may send it again.
    #[command(after_help = "Examples:
  stele mllp drop 7 --yes")]
    Drop(DropOne),
}

#[derive(Debug, Args)]
struct SendFiles {
    /// Files and folders.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Where to [default: the node running on the data folder].
    #[arg(long, value_name = "ADDR")]
    to: Option<SocketAddr>,
    #[command(flatten)]
    target: Target,
    /// Seconds to wait for each acknowledgement.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    /// End with one JSON line on standard output.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    target: Target,
    /// One JSON line.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct One {
    /// Number of the message in the list.
    id: i64,
    #[command(flatten)]
    target: Target,
    /// One JSON line.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct DropOne {
    #[command(flatten)]
    one: One,
    /// Say that it is meant: the node keeps nothing of the message.
    #[arg(long)]
    yes: bool,
}

impl MllpCommand {
    pub(crate) async fn run(self) -> Result<Answer> {
        match self.command {
            Sub::Send(send) => send.run().await,
            Sub::List(list) => list.run().await,
            Sub::Retry(one) => one.post("retry").await,
            Sub::Drop(drop) if drop.yes => drop.one.post("drop").await,
            Sub::Drop(drop) => bail!(
                "the node keeps nothing of message {} afterwards; add --yes",
                drop.one.id
            ),
        }
    }
}

/// What a sending did.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Sent {
    files: u64,
    messages: u64,
    /// Acknowledged with AA or CA.
    accepted: u64,
    /// Acknowledged with anything else.
    refused: u64,
    /// Not acknowledged.
    failed: u64,
    seconds: f64,
}

impl SendFiles {
    async fn run(self) -> Result<Answer> {
        let to = match self.to {
            Some(to) => to,
            None => self.target.ready()?.mllp.context(
                "the node takes no HL7 v2 messages (--mllp off); name another with --to",
            )?,
        };
        let mut files = Vec::new();
        for path in &self.paths {
            collect(path, true, &mut files)?;
        }
        if files.is_empty() {
            bail!("no files of messages in the paths given");
        }
        let bar = ProgressBar::new(0).with_style(ProgressStyle::with_template(
            "{bar:30} {pos}/{len} messages  {per_sec}",
        )?);
        let mut line = Line::new(to, Duration::from_secs(self.timeout));
        let mut sent = Sent::default();
        let started = tokio::time::Instant::now();
        for file in &files {
            sent.files = sent.files.saturating_add(1);
            sent.file(file, &mut line, &bar).await?;
        }
        bar.finish_and_clear();
        sent.seconds = started.elapsed().as_secs_f64();
        if self.json {
            output::json(&sent);
        } else {
            let count = f64::from(u32::try_from(sent.messages).unwrap_or(u32::MAX));
            output::line(format_args!(
                "{} files, {} messages: {} accepted, {} refused, {} without answer, in {:.1} s ({:.0}/s)",
                sent.files,
                sent.messages,
                sent.accepted,
                sent.refused,
                sent.failed,
                sent.seconds,
                count / sent.seconds.max(0.001)
            ));
        }
        Ok(if sent.refused == 0 && sent.failed == 0 {
            Answer::Yes
        } else {
            Answer::No
        })
    }
}

impl Sent {
    /// Sends the messages of a file one after the other and says which were not taken.
    async fn file(&mut self, file: &Path, line: &mut Line, bar: &ProgressBar) -> Result<()> {
        let name = file.display();
        let bytes = fs::read(file).with_context(|| format!("reading {name}"))?;
        let messages = batch::messages(&bytes);
        if messages.is_empty() {
            self.failed = self.failed.saturating_add(1);
            bar.suspend(|| output::note(format_args!("{name}: no message in it")));
        }
        bar.inc_length(u64::try_from(messages.len()).unwrap_or(u64::MAX));
        for (nth, message) in (1_u64..).zip(&messages) {
            self.messages = self.messages.saturating_add(1);
            let (count, what) = match line.exchange(message).await {
                Ok(Reply { accepted: true, .. }) => (&mut self.accepted, None),
                Ok(reply) => (&mut self.refused, Some(reply.words)),
                Err(error) => (&mut self.failed, Some(format!("{error:#}"))),
            };
            *count = count.saturating_add(1);
            if let Some(what) = what {
                bar.suspend(|| output::note(format_args!("{name}: message {nth}: {what}")));
            }
            bar.inc(1);
        }
        Ok(())
    }
}

/// Files of messages below a path.
fn collect(path: &Path, is_named: bool, files: &mut Vec<PathBuf>) -> Result<()> {
    if path.is_dir() {
        let mut inner: Vec<PathBuf> = fs::read_dir(path)
            .with_context(|| format!("reading {}", path.display()))?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<std::io::Result<_>>()?;
        inner.sort();
        for path in &inner {
            collect(path, false, files)?;
        }
        return Ok(());
    }
    let ending = path.extension().and_then(|ending| ending.to_str());
    if is_named || ending.is_some_and(|ending| ENDINGS.contains(&ending)) {
        files.push(path.to_owned());
    }
    Ok(())
}

/// A connection to a listener, made when it is needed.
struct Line {
    to: SocketAddr,
    timeout: Duration,
    open: Option<(TcpStream, Framer)>,
}

/// What a listener answered.
struct Reply {
    accepted: bool,
    words: String,
}

impl Line {
    const fn new(to: SocketAddr, timeout: Duration) -> Self {
        Self {
            to,
            timeout,
            open: None,
        }
    }

    /// Sends a message and waits for its acknowledgement. After a failure the next one goes over a new connection.
    async fn exchange(&mut self, message: &[u8]) -> Result<Reply> {
        let done = tokio::time::timeout(self.timeout, self.converse(message)).await;
        let reply = match done {
            Ok(reply) => reply,
            Err(_) => Err(anyhow::anyhow!(
                "no acknowledgement within {} s",
                self.timeout.as_secs()
            )),
        };
        if reply.is_err() {
            self.open = None;
        }
        reply
    }

    async fn converse(&mut self, message: &[u8]) -> Result<Reply> {
        if self.open.is_none() {
            let stream = TcpStream::connect(self.to)
                .await
                .with_context(|| format!("connecting to {}", self.to))?;
            self.open = Some((stream, Framer::new(ANSWER_MAX)));
        }
        let (stream, framer) = self.open.as_mut().context("the connection")?;
        stream
            .write_all(&wrap(message))
            .await
            .context("sending a message")?;
        let mut buffer = [0; 8192];
        loop {
            if let Some(event) = framer.next_event() {
                let Event::Message(bytes) = event else {
                    bail!("the answer is no MLLP frame");
                };
                return reply(&bytes);
            }
            let read = stream
                .read(&mut buffer)
                .await
                .context("waiting for the acknowledgement")?;
            if read == 0 {
                bail!("the connection was closed without an acknowledgement");
            }
            framer.push(buffer.get(..read).unwrap_or_default());
        }
    }
}

/// Takes an acknowledgement apart.
fn reply(bytes: &[u8]) -> Result<Reply> {
    let text = String::from_utf8_lossy(bytes);
    let answer =
        Message::parse(&text).map_err(|problem| anyhow::anyhow!("the answer: {problem}"))?;
    let msa = answer.segment("MSA").context("the answer has no MSA")?;
    let wire = msa.text(1).unwrap_or_default();
    let code = ack::Code::parse(wire).with_context(|| format!("MSA-1 is {wire:?}"))?;
    let reasons: Vec<String> = answer
        .all("ERR")
        .filter(|err| err.text(4) == Some("E"))
        .map(|err| {
            let place = err.first(2).map(|at| at.words().replace(' ', "-"));
            let words = err
                .text(8)
                .or_else(|| err.first(3)?.text(2))
                .unwrap_or_default();
            format!("{} {words}", place.unwrap_or_default())
        })
        .collect();
    Ok(Reply {
        accepted: code.is_accept(),
        words: format!("{wire} {}", reasons.join("; ")),
    })
}

impl List {
    async fn run(self) -> Result<Answer> {
        let messages = self.target.connect()?.get("/admin/messages").await?;
        if self.json {
            output::json(&json!({ "messages": messages }));
            return Ok(Answer::Yes);
        }
        let listed = messages.as_array().cloned().unwrap_or_default();
        for message in &listed {
            let text = |member: &str| match message.get(member) {
                Some(Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
                None => String::new(),
            };
            output::line(format_args!(
                "{:>6}  {:<8} {:<9} {:<24} {:<28} {}",
                text("id"),
                text("state"),
                text("kind"),
                text("controlId"),
                text("sender"),
                text("reason")
            ));
        }
        if listed.is_empty() {
            output::line("no messages wait");
        }
        Ok(Answer::Yes)
    }
}

impl One {
    async fn post(self, action: &str) -> Result<Answer> {
        let path = format!("/admin/messages/{}/{action}", self.id);
        let said = self.target.connect()?.post(&path, &json!({})).await?;
        if self.json {
            output::json(&said);
        } else {
            let state = said
                .get("state")
                .and_then(Value::as_str)
                .unwrap_or_default();
            output::line(format_args!("message {}: {state}", self.id));
        }
        Ok(Answer::Yes)
    }
}
