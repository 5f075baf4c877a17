//! `stele export` and `stele audit`: a patient's record, and the trail of accesses to it, to take along.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use serde_json::{Value, json};
use stele_core::{
    export::{self, AuditReport, ExportLog, ExportProofs, ExportRecord, FORMAT, Page},
    proof::{Disclosure, LogProof},
    time::{Clock as _, SystemClock},
};
use stele_service::{Stored, Verification, export::Collected};

use super::{
    Answer,
    client::Target,
    own_keys::{KeyOfPatient, Own},
};
use crate::output;

/// Name of the page in a folder.
const PAGE: &str = "health-record.html";
/// Name of the Bundle in a folder.
const BUNDLE: &str = "health-record.fhir.json";

/// What a file is to hold, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Folder,
    Json,
    Html,
    Csv,
}

fn form(path: &Path) -> Result<Form> {
    match path.extension().and_then(|name| name.to_str()) {
        None => Ok(Form::Folder),
        Some("json") => Ok(Form::Json),
        Some("html") => Ok(Form::Html),
        Some("csv") => Ok(Form::Csv),
        Some(other) => bail!(
            "{}: files that end in .{other} are not made; use .html, .json, .csv or a folder",
            path.display()
        ),
    }
}

/// Written beside and renamed, so that no half file is taken for a whole one.
fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(parent) = path.parent().filter(|parent| *parent != Path::new("")) {
        fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
    }
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    fs::write(&part, text).with_context(|| format!("writing {}", path.display()))?;
    fs::rename(&part, path).with_context(|| format!("writing {}", path.display()))
}

/// Take a patient's record out as one signed file: a page to read and print with the FHIR Bundle and all proofs in it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stele export p1 --out p1/                      # p1/health-record.html and p1/health-record.fhir.json
  stele export p1 --out p1.html                  # one file: the page, with the signed Bundle in it
  stele export p1 --out p1.json                  # the signed Bundle alone
  stele export p1 --out p1/ --key-file-of-patient p1.key --passphrase-file p1.txt
  stele verify export p1.html --genesis genesis.json

With a patient's key file the records are opened here and the patient's own key signs.")]
pub(crate) struct Export {
    /// FHIR id of the Patient.
    patient: String,
    /// A folder, or a file that ends in .html or .json.
    #[arg(long, value_name = "DIR|FILE")]
    out: PathBuf,
    #[command(flatten)]
    key: KeyOfPatient,
    #[command(flatten)]
    target: Target,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

impl Export {
    pub(crate) async fn run(self) -> Result<Answer> {
        let form = form(&self.out)?;
        ensure!(
            form != Form::Csv,
            "a record is exported as .html or .json, not as .csv"
        );
        let page = match self.key.sign_in(&self.target).await? {
            Some(own) => own_export(&own, &self.patient).await?,
            None => {
                let path = format!(
                    "/fhir/r4/Patient/{}/$signed-export?format=html",
                    self.patient
                );
                self.target.connect()?.text(&path).await?
            }
        };
        let (_, bundle) = Page::split(&page)?;
        let files: Vec<(PathBuf, &str)> = match form {
            Form::Html => vec![(self.out.clone(), page.as_str())],
            Form::Json | Form::Csv => vec![(self.out.clone(), bundle.as_str())],
            Form::Folder => vec![
                (self.out.join(PAGE), page.as_str()),
                (self.out.join(BUNDLE), bundle.as_str()),
            ],
        };
        for (path, text) in &files {
            write(path, text)?;
        }
        let proofs = export::proofs_of(&bundle)?;
        let names: Vec<&PathBuf> = files.iter().map(|(path, _)| path).collect();
        if self.json {
            output::json(&json!({
                "files": names, "records": proofs.records.len(), "withheld": proofs.withheld,
                "signer": proofs.signer.account
            }));
        } else {
            output::line(format_args!(
                "{} records, signed by {}:",
                proofs.records.len(),
                proofs.signer.account
            ));
            names
                .iter()
                .for_each(|path| output::line(format_args!("  {}", path.display())));
        }
        for record in &proofs.withheld {
            output::note(format_args!(
                "left out: {record} does not match what was recorded"
            ));
        }
        Ok(if proofs.withheld.is_empty() {
            Answer::Yes
        } else {
            Answer::No
        })
    }
}

/// An export made where the patient's key is: the node hands out sealed records, this program opens, checks, signs.
async fn own_export(own: &Own, patient_id: &str) -> Result<String> {
    let list = own.records().await?;
    let mut resources = Vec::with_capacity(list.len());
    let mut records = Vec::with_capacity(list.len());
    let mut organization = None;
    for entry in &list {
        let (content, proof) = own.record(&entry.record, None).await?;
        let Disclosure::Whole { element_salt, .. } = proof.disclosure else {
            bail!("{}: the node's proof has another form", entry.record);
        };
        // A streamed Binary is no text: that it is recorded is proven, its content stays in the vault.
        let (text, salt) = match String::from_utf8(content) {
            Ok(text) if text.trim_start().starts_with('{') => (text, Some(element_salt)),
            _ => (
                json!({ "resourceType": proof.resource_type, "id": proof.id }).to_string(),
                None,
            ),
        };
        organization = Some(proof.organization);
        records.push(ExportRecord {
            resource_type: proof.resource_type.clone(),
            id: proof.id.clone(),
            log: 0,
            index: proof.index,
            path: Vec::new(),
            leaf: proof.leaf.clone(),
            leaf_salt: proof.leaf_salt,
            element_salt: salt,
            around: export::trim(&text).1,
        });
        resources.push(Stored {
            resource_type: proof.resource_type,
            id: proof.id,
            version: proof.leaf.version,
            last_updated: entry.last_updated,
            deleted: false,
            text: Arc::from(text),
            state: Verification::Verified,
        });
    }
    let log = log_of(own, patient_id).await?;
    let collected = Collected {
        patient_id: patient_id.to_owned(),
        made: SystemClock.now(),
        resources,
        proofs: ExportProofs {
            format: FORMAT.into(),
            organization: organization.context("there are no records to export")?,
            patient: own.account(),
            signer: own.signer_proof().await?,
            logs: vec![log],
            records,
            page: None,
            withheld: Vec::new(),
        },
    };
    let unsigned = stele_gateway::export::unsigned(collected, &own.fhir_url)?;
    let signed = own.sign_export(&unsigned.bundle)?;
    Ok(unsigned.page.with(&signed))
}

/// The patient's whole log, with its proof.
async fn log_of(own: &Own, patient_id: &str) -> Result<ExportLog> {
    let path = format!("/fhir/r4/Patient/{patient_id}/$log-proof");
    let answer = own.client.get(&path).await?;
    let part = |name: &str| answer.get(name).cloned().unwrap_or_default();
    let proof: LogProof = serde_json::from_value(part("log")).context("the node's log proof")?;
    ensure!(
        proof.log == own.account(),
        "Patient/{patient_id} is not the patient of this key file"
    );
    let leaves = part("leaves");
    let leaves = leaves
        .as_array()
        .into_iter()
        .flatten()
        .map(|leaf| {
            let leaf = leaf.get("leaf").and_then(Value::as_str).unwrap_or_default();
            leaf.parse().context("a leaf of the log")
        })
        .collect::<Result<Vec<_>>>()?;
    ensure!(
        u64::try_from(leaves.len()) == Ok(proof.size),
        "something was recorded this moment; try again"
    );
    Ok(ExportLog { proof, leaves })
}

/// Who accessed a patient's records, refused attempts too.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stele audit p1
  stele audit p1 --count 200 --json
  stele audit p1 --out accesses/                 # accesses.json (signed, with proofs), .csv and .html
  stele audit p1 --key-file-of-patient p1.key --passphrase-file p1.txt
  stele verify audit accesses/accesses.json --genesis genesis.json")]
pub(crate) struct Audit {
    /// FHIR id of the Patient.
    patient: String,
    /// How many are listed, newest first; a report has all.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    count: u32,
    /// Write a report: a folder, or a file that ends in .json (signed, with proofs), .csv or .html.
    #[arg(long, value_name = "DIR|FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    key: KeyOfPatient,
    #[command(flatten)]
    target: Target,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

impl Audit {
    pub(crate) async fn run(self) -> Result<Answer> {
        let client = self.key.client(&self.target).await?;
        if let Some(out) = &self.out {
            let form = form(out)?;
            let path = format!("/fhir/r4/Patient/{}/$signed-audit", self.patient);
            let signed = client.text(&path).await?;
            return self.report(out, form, &signed);
        }
        let path = format!(
            "/fhir/r4/AuditEvent?patient={}&_count={}",
            super::client::encode(&self.patient),
            self.count
        );
        let answer = client.get(&path).await?;
        if self.json {
            output::json(&answer);
            return Ok(Answer::Yes);
        }
        let entries = answer.get("entry").and_then(Value::as_array);
        for entry in entries.into_iter().flatten() {
            let at = |pointer: &str| {
                entry
                    .pointer(pointer)
                    .and_then(Value::as_str)
                    .unwrap_or("-")
                    .to_owned()
            };
            output::line(format_args!(
                "{}  {:<12} {:<8} by {}  for {}  records {}",
                at("/resource/recorded"),
                at("/resource/subtype/0/code"),
                at("/resource/outcomeDesc"),
                at("/resource/agent/0/who/identifier/value"),
                at("/resource/purposeOfEvent/0/coding/0/code"),
                at("/resource/entity/0/detail/0/valueString"),
            ));
        }
        Ok(Answer::Yes)
    }

    fn report(&self, out: &Path, form: Form, signed: &str) -> Result<Answer> {
        let report = AuditReport::parse(signed)?;
        let table = || stele_gateway::export::audit_csv(&report);
        let page = || stele_gateway::export::audit_page(&report);
        let files: Vec<(PathBuf, String)> = match form {
            Form::Json => vec![(out.to_owned(), signed.to_owned())],
            Form::Csv => vec![(out.to_owned(), table())],
            Form::Html => vec![(out.to_owned(), page())],
            Form::Folder => vec![
                (out.join("accesses.json"), signed.to_owned()),
                (out.join("accesses.csv"), table()),
                (out.join("accesses.html"), page()),
            ],
        };
        for (path, text) in &files {
            write(path, text)?;
        }
        let names: Vec<&PathBuf> = files.iter().map(|(path, _)| path).collect();
        if self.json {
            output::json(&json!({
                "files": names, "accesses": report.receipts.len(), "signer": report.signer.account
            }));
        } else {
            output::line(format_args!("{} accesses:", report.receipts.len()));
            names
                .iter()
                .for_each(|path| output::line(format_args!("  {}", path.display())));
        }
        Ok(Answer::Yes)
    }
}
