//! `stele verify`: is it what was recorded? Exit code 0 yes, 1 no, 2 could not tell.

mod bundle;

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use stele_chain::{Certificates, CheckStep, Genesis, verify_chain};
use stele_core::{
    certificate::{ValidatorKey, ValidatorSet},
    export::{self, ExportError, ProvenAccesses},
    proof::{LogProof, Proven, RecordProof, TrustAnchor},
};
use stele_service::upkeep::Task;

use super::{Answer, Settings, client::Target, store::note_upkeep};
use crate::{node::Stores, output};

/// Check a record, a proof file, a patient's log, the vault or the chain.
#[derive(Debug, Args)]
pub(crate) struct VerifyCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Export a proof file for a record and check it.
    #[command(after_help = "Examples:
  stele verify record Observation/o1 --out proof.json
  stele verify record Observation/o1 --element /valueQuantity/value")]
    Record(Record),
    /// Check a proof file, or a Bundle with proofs that a patient's browser made; needs no node.
    #[command(after_help = "Examples:
  stele verify proof proof.json --genesis genesis.json")]
    Proof(Proof),
    /// Check an exported record (`stele export`), as page or Bundle; needs no node.
    #[command(after_help = "Examples:
  stele verify export health-record.html --genesis genesis.json
  stele verify export health-record.fhir.json --genesis genesis.json --json")]
    Export(Proof),
    /// Check a report of accesses (`stele audit --out`, or the portal's, as file or page); needs no node.
    #[command(after_help = "Examples:
  stele verify audit accesses.json --genesis genesis.json")]
    Audit(Proof),
    /// Check that a patient's log is whole: no record was withheld.
    #[command(after_help = "Examples:
  stele verify patient p1")]
    Patient(Patient),
    /// Check every stored blob against its address (the node must be stopped).
    #[command(after_help = "Examples:
  stele verify vault --data stele-data")]
    Vault(Stopped),
    /// Execute the whole chain again from its first block (the node must be stopped).
    #[command(after_help = "Examples:
  stele verify chain --data stele-data")]
    Chain(Stopped),
}

#[derive(Debug, Args)]
struct Record {
    /// `Type/id`.
    #[arg(value_name = "TYPE/ID")]
    record: String,
    #[command(flatten)]
    target: Target,
    /// Version [default: the current one].
    #[arg(long)]
    version: Option<u32>,
    /// Disclose only this element (JSON pointer, such as /valueQuantity/value); may be repeated.
    #[arg(long = "element", value_name = "PATH")]
    elements: Vec<String>,
    /// Where the proof file goes.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Genesis file to check against [default: that of the data folder, else what the node says].
    #[arg(long, value_name = "FILE")]
    genesis: Option<PathBuf>,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Proof {
    /// The file.
    file: PathBuf,
    /// Genesis file of the consortium.
    #[arg(long, value_name = "FILE")]
    genesis: PathBuf,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Patient {
    /// FHIR id of the Patient.
    id: String,
    #[command(flatten)]
    target: Target,
    /// Genesis file to check against [default: that of the data folder, else what the node says].
    #[arg(long, value_name = "FILE")]
    genesis: Option<PathBuf>,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Stopped {
    #[command(flatten)]
    settings: Settings,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

impl VerifyCommand {
    pub(crate) async fn run(self) -> Result<Answer> {
        match self.what {
            What::Record(record) => record.run().await,
            What::Proof(proof) => proof.run(),
            What::Export(file) => file.export(),
            What::Audit(file) => file.audit(),
            What::Patient(patient) => patient.run().await,
            What::Vault(stopped) => stopped.vault().await,
            What::Chain(stopped) => stopped.chain(),
        }
    }
}

/// What is trusted, and who said so.
pub(super) async fn anchor(
    target: &Target,
    genesis: Option<&PathBuf>,
) -> Result<(TrustAnchor, &'static str)> {
    if let Some(path) = genesis {
        return Ok((read_anchor(path)?, "genesis file"));
    }
    if target.gateway.is_none() {
        let path = target.settings.resolve()?.data.join("genesis.json");
        return Ok((read_anchor(&path)?, "genesis file"));
    }
    let facts = target.connect()?.get("/.well-known/stele.json").await?;
    let text = |name: &str| facts.get(name).and_then(Value::as_str).unwrap_or_default();
    let keys = facts
        .get("validators")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let keys = keys
        .iter()
        .map(|key| {
            let text = key.as_str().unwrap_or_default();
            let bytes: alloy_primitives::B256 = text.parse().context("a validator's key")?;
            Ok(ValidatorKey::new(bytes.0))
        })
        .collect::<Result<Vec<_>>>()?;
    let anchor = TrustAnchor {
        chain_id: facts
            .get("chainId")
            .and_then(Value::as_u64)
            .context("the node's chain id")?,
        genesis_hash: text("genesisHash")
            .parse()
            .context("the node's genesis hash")?,
        validators: ValidatorSet::new(keys)?,
    };
    Ok((
        anchor,
        "the node's own word; give --genesis to trust nobody",
    ))
}

fn read_anchor(path: &PathBuf) -> Result<TrustAnchor> {
    let text = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let genesis = Genesis::from_json(&text).with_context(|| path.display().to_string())?;
    Ok(TrustAnchor {
        chain_id: genesis.chain_id,
        genesis_hash: genesis.block()?.hash(),
        validators: genesis.validator_set()?,
    })
}

impl Record {
    async fn run(self) -> Result<Answer> {
        let mut query: Vec<String> = self
            .elements
            .iter()
            .map(|e| format!("element={}", super::client::encode(e)))
            .collect();
        query.extend(self.version.map(|version| format!("version={version}")));
        let path = format!("/fhir/r4/{}/$proof?{}", self.record, query.join("&"));
        let answer = self.target.connect()?.get(&path).await?;
        if let Some(out) = &self.out {
            super::client::write_new(out, &serde_json::to_string_pretty(&answer)?)?;
        }
        let proof: RecordProof = serde_json::from_value(answer).context("the node's proof")?;
        let (anchor, trusted) = anchor(&self.target, self.genesis.as_ref()).await?;
        Ok(say(
            proof.verify(&anchor),
            &proof_words(&proof),
            Some(trusted),
            self.json,
        ))
    }
}

impl Proof {
    fn run(self) -> Result<Answer> {
        let text = fs::read_to_string(&self.file)
            .with_context(|| format!("reading {}", self.file.display()))?;
        let anchor = read_anchor(&self.genesis)?;
        let proof: RecordProof = match serde_json::from_str(&text) {
            Ok(proof) => proof,
            Err(error) => {
                if let Some(answer) = bundle::verify(&text, &anchor, self.json) {
                    return Ok(answer);
                }
                let no = json!({ "ok": false, "what": format!("not a proof file: {error}"), "where": "format" });
                return Ok(answer_no(&no, self.json));
            }
        };
        Ok(say(
            proof.verify(&anchor),
            &proof_words(&proof),
            Some("genesis file"),
            self.json,
        ))
    }
}

impl Proof {
    fn read(&self) -> Result<(String, TrustAnchor)> {
        // Bytes that are no text are a changed file, not one that could not be read.
        let bytes =
            fs::read(&self.file).with_context(|| format!("reading {}", self.file.display()))?;
        Ok((
            String::from_utf8_lossy(&bytes).into_owned(),
            read_anchor(&self.genesis)?,
        ))
    }

    fn export(self) -> Result<Answer> {
        let (text, anchor) = self.read()?;
        let outcome = if text.trim_start().starts_with('<') {
            export::verify_page(&text, &anchor)
        } else {
            export::verify(&text, &anchor)
        };
        Ok(match outcome {
            Ok(proven) => {
                let line = format!(
                    "Verified: {} records of {} are what was recorded, as of block {} at {}.\n  signed by {} ({:?}), made {}\n  {} with content elsewhere, {} left out, {} versions in the log",
                    proven.records,
                    proven.patient,
                    proven.height,
                    proven.timestamp,
                    proven.signer,
                    proven.role,
                    proven.made,
                    proven.elsewhere,
                    proven.withheld.len(),
                    proven.log_size
                );
                yes(&json!(proven), &line, self.json)
            }
            Err(error) => export_no(&error, self.json),
        })
    }

    fn audit(self) -> Result<Answer> {
        let (text, anchor) = self.read()?;
        Ok(match export::verify_accesses(&text, &anchor) {
            Ok(ProvenAccesses::Patient(proven)) => {
                let line = format!(
                    "Verified: {} accesses to {} ({} refused) stand where the ledger has them, as of block {} at {}.\n  signed by {} ({:?}), made {}",
                    proven.accesses,
                    proven.patient,
                    proven.refused,
                    proven.height,
                    proven.timestamp,
                    proven.signer,
                    proven.role,
                    proven.made
                );
                yes(&json!(proven), &line, self.json)
            }
            Ok(ProvenAccesses::Member(proven)) => {
                let line = format!(
                    "Verified: {} accesses by {} ({} refused) to {} records stand where the ledger has them in the sequence of {}, as of block {} at {}.\n  signed by {}, made {}",
                    proven.accesses,
                    proven.member,
                    proven.refused,
                    proven.patients,
                    proven.organization,
                    proven.height,
                    proven.timestamp,
                    proven.signer,
                    proven.made
                );
                yes(&json!(proven), &line, self.json)
            }
            Err(error) => export_no(&error, self.json),
        })
    }
}

fn yes(proven: &Value, line: &str, as_json: bool) -> Answer {
    if as_json {
        output::json(&json!({ "ok": true, "proven": proven, "trusted": "genesis file" }));
    } else {
        output::line(line);
    }
    Answer::Yes
}

fn export_no(error: &ExportError, as_json: bool) -> Answer {
    let no = json!({ "ok": false, "what": error.what, "where": error.part });
    answer_no(&no, as_json)
}

/// What is proven of the record, for people: disclosed elements with their values, or the content's size.
fn proof_words(proof: &RecordProof) -> Value {
    use stele_core::proof::Disclosure;
    let disclosed = match &proof.disclosure {
        Disclosure::Whole { .. } => json!("everything"),
        Disclosure::Nothing => json!("nothing"),
        Disclosure::Elements { proof } => proof
            .elements
            .iter()
            .map(|element| json!({ "path": element.pointer, "value": element.literal }))
            .collect(),
    };
    json!({
        "record": format!("{}/{}", proof.resource_type, proof.id),
        "organization": proof.organization,
        "disclosed": disclosed
    })
}

fn say(
    outcome: Result<Proven, stele_core::proof::ProofError>,
    about: &Value,
    trusted: Option<&str>,
    as_json: bool,
) -> Answer {
    match outcome {
        Ok(proven) => {
            let mut yes = json!({ "ok": true, "proven": proven, "trusted": trusted });
            if let (Value::Object(yes), Value::Object(about)) = (&mut yes, about) {
                yes.extend(about.clone());
            }
            if as_json {
                output::json(&yes);
            } else {
                output::line(format_args!(
                    "Verified: {} is what was recorded in block {} ({}) at {}.\n  author {}\n  log {} position {} of {}\n  trusted: {}",
                    about
                        .get("record")
                        .and_then(Value::as_str)
                        .unwrap_or("the log"),
                    proven.height,
                    proven.block_hash,
                    proven.timestamp,
                    proven
                        .author
                        .map_or_else(|| "-".to_owned(), |author| author.to_string()),
                    proven.log,
                    proven
                        .index
                        .map_or_else(|| "-".to_owned(), |index| index.to_string()),
                    proven.size,
                    trusted.unwrap_or("-")
                ));
            }
            Answer::Yes
        }
        Err(error) => answer_no(
            &json!({ "ok": false, "what": error.to_string(), "where": error.link() }),
            as_json,
        ),
    }
}

pub(super) fn answer_no(no: &Value, as_json: bool) -> Answer {
    if as_json {
        output::json(no);
    } else {
        output::line(format_args!(
            "NOT verified: {} (at {})",
            no.get("what").and_then(Value::as_str).unwrap_or_default(),
            no.get("where").and_then(Value::as_str).unwrap_or_default()
        ));
    }
    Answer::No
}

impl Patient {
    async fn run(self) -> Result<Answer> {
        let path = format!("/fhir/r4/Patient/{}/$log-proof", self.id);
        let answer = self.target.connect()?.get(&path).await?;
        let proof: LogProof =
            serde_json::from_value(answer.get("log").cloned().unwrap_or_default())
                .context("the node's proof")?;
        let leaves: Vec<Leaf> =
            serde_json::from_value(answer.get("leaves").cloned().unwrap_or_default())
                .context("the node's leaves")?;
        let (anchor, trusted) = anchor(&self.target, self.genesis.as_ref()).await?;
        let values: Vec<_> = leaves.iter().map(|leaf| leaf.leaf).collect();
        let unnamed = leaves
            .iter()
            .filter(|leaf| leaf.resource.is_none() && !leaf.erased)
            .count();
        if unnamed > 0 {
            let no = json!({
                "ok": false,
                "what": format!("{unnamed} of {} records in the log are not shown", leaves.len()),
                "where": "log"
            });
            return Ok(answer_no(&no, self.json));
        }
        let about = json!({
            "patient": self.id,
            "records": leaves.len(),
            "erased": leaves.iter().filter(|leaf| leaf.erased).count()
        });
        Ok(say(
            proof.verify_complete(&anchor, &values),
            &about,
            Some(trusted),
            self.json,
        ))
    }
}

#[derive(serde::Deserialize)]
struct Leaf {
    leaf: alloy_primitives::B256,
    #[serde(default)]
    resource: Option<String>,
    #[serde(default)]
    erased: bool,
}

impl Stopped {
    async fn vault(self) -> Result<Answer> {
        let config = self.settings.resolve()?;
        let stores = Stores::open(&config, None).await?;
        let bar = indicatif::ProgressBar::new_spinner();
        let report = stores
            .vault
            .store()
            .verify_all(|progress| bar.set_message(format!("{} blobs", progress.checked)))
            .await
            .context("reading the vault")?;
        let records = super::store::offline(&stores)?.inspect_vault(&report)?;
        bar.finish_and_clear();
        let is_good = report.bad.is_empty() && report.unreadable.is_empty() && records.is_empty();
        let words = format!(
            "{} blobs, {} wrong, {} records withheld",
            report.checked.checked,
            report.bad.len().saturating_add(report.unreadable.len()),
            records.len()
        );
        note_upkeep(&config, Task::VaultCheck, is_good, words);
        if is_good {
            if self.json {
                output::json(&json!({ "ok": true, "blobs": report.checked.checked }));
            } else {
                output::line(format_args!(
                    "All {} blobs match their addresses.",
                    report.checked.checked
                ));
            }
            return Ok(Answer::Yes);
        }
        let mut places: Vec<String> = records
            .iter()
            .map(|one| format!("{} version {}: {}", one.resource, one.version, one.problem))
            .collect();
        places.extend(
            report
                .bad
                .iter()
                .map(|bad| format!("{}: {}", bad.cid, bad.problem)),
        );
        places.extend(
            report
                .unreadable
                .iter()
                .map(|table| format!("the table of {table} can't be listed to its end")),
        );
        let no = json!({
            "ok": false,
            "what": format!(
                "{} of {} blobs do not match their addresses, {} records are withheld",
                report.bad.len(), report.checked.checked, records.len()
            ),
            "where": places.join(", "),
            "records": records,
        });
        Ok(answer_no(&no, self.json))
    }

    fn chain(self) -> Result<Answer> {
        let config = self.settings.resolve()?;
        let path = config.data.join("genesis.json");
        let text = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let genesis = Genesis::from_json(&text)?;
        let bar = indicatif::ProgressBar::new(0);
        let mut executed = false;
        let checked = verify_chain(
            &config.data.join("chain"),
            None,
            &genesis,
            Certificates::Required,
            &mut |step| match step {
                CheckStep::Executed(done, all) => {
                    executed = true;
                    bar.set_length(all);
                    bar.set_position(done);
                }
                CheckStep::Stored(_) => bar.tick(),
            },
        );
        bar.finish_and_clear();
        match checked {
            Ok(report) => {
                let words = format!("block {}", report.height);
                note_upkeep(&config, Task::ChainCheck, true, words);
                if self.json {
                    output::json(&json!({
                        "ok": true,
                        "height": report.height,
                        "hash": report.hash,
                        "stateRoot": report.state_root,
                        "transactions": report.transactions,
                        "certificates": report.certificates
                    }));
                } else {
                    output::line(format_args!(
                        "All {} blocks with {} transactions and {} certificates are good, up to block {} ({}).",
                        report.blocks,
                        report.transactions,
                        report.certificates,
                        report.height,
                        report.hash
                    ));
                }
                Ok(Answer::Yes)
            }
            Err(error) => {
                let mut text = format!("{:#}", anyhow::Error::from(error));
                note_upkeep(&config, Task::ChainCheck, false, text.clone());
                if !executed && !text.contains("height") {
                    // The store does not open: all blocks are out of reach, the first one too.
                    text = format!("no block can be read, from height 0 on: {text}");
                }
                Ok(answer_no(
                    &json!({ "ok": false, "what": text, "where": "chain" }),
                    self.json,
                ))
            }
        }
    }
}
