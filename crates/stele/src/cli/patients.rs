//! Patients and their records on the command line.

use std::path::PathBuf;

use alloy_primitives::Address;
use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    Answer,
    client::Target,
    consent::{Asked, Scope},
    operator::print,
    own_keys::{self, KeyOfPatient},
    verify,
};
use crate::output;

/// Patients.
#[derive(Debug, Args)]
pub(crate) struct PatientCommand {
    #[command(subcommand)]
    what: PatientWhat,
}

#[derive(Debug, Subcommand)]
enum PatientWhat {
    /// Register a patient: managed by the organisation, or with their own key file.
    #[command(after_help = "Examples:
  stele patient add patient.json
  stele keys patient --out p1.key --passphrase-file p1.txt
  stele patient add patient.json --key-file-of-patient p1.key --passphrase-file p1.txt")]
    Add {
        /// File with the FHIR Patient resource.
        #[arg(value_name = "PATIENT.json")]
        file: PathBuf,
        #[command(flatten)]
        key: KeyOfPatient,
        /// With a key file: for how many days the patient lets the organisation see and add, for treatment.
        #[arg(long, default_value_t = 1825, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        treatment_days: u32,
        #[command(flatten)]
        target: Target,
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
    /// A managed patient takes the account over: makes their key file; the organisation's keys stop speaking for
    /// the account and open nothing that is written from then on.
    #[command(after_help = "Examples:
  stele patient claim p1 --key-file-of-patient p1.key --passphrase-file p1.txt")]
    Claim {
        /// FHIR id of the Patient.
        patient: String,
        #[command(flatten)]
        key: KeyOfPatient,
        #[command(flatten)]
        target: Target,
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
}

impl PatientCommand {
    pub(crate) async fn run(self) -> Result<Answer> {
        match self.what {
            PatientWhat::Add {
                file,
                key,
                treatment_days,
                target,
                json,
            } => print(&add(&file, &key, treatment_days, &target).await?, json),
            PatientWhat::Claim {
                patient,
                key,
                target,
                json,
            } => print(
                &own_keys::claim(&target.connect()?, &patient, &key).await?,
                json,
            ),
        }
        Ok(Answer::Yes)
    }
}

async fn add(
    file: &PathBuf,
    key: &KeyOfPatient,
    treatment_days: u32,
    target: &Target,
) -> Result<Value> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let mut patient: Value =
        serde_json::from_str(&text).with_context(|| file.display().to_string())?;
    let client = target.connect()?;
    if key.files()?.is_some() {
        let account = own_keys::register(&client, key).await?;
        own_account(&mut patient, account)?;
        let own = key.sign_in(target).await?.context("the patient's key")?;
        let organization = client
            .get(&format!("/admin/accounts/{account}"))
            .await?
            .get("organization")
            .and_then(Value::as_str)
            .and_then(|text| text.parse::<Address>().ok())
            .context("the patient's organisation")?;
        let asked = Asked {
            grantee: organization,
            request: None,
            scope: Scope::treatment(treatment_days),
        };
        own.grant(&asked).await?;
    }
    match patient.get("id").and_then(Value::as_str) {
        Some(id) => {
            let path = format!("/fhir/r4/Patient/{id}");
            client.put(&path, &patient).await
        }
        None => client.post("/fhir/r4/Patient", &patient).await,
    }
}

/// Names the patient's own account in the resource, which ties the record to it.
fn own_account(patient: &mut Value, account: Address) -> Result<()> {
    let Value::Object(members) = patient else {
        bail!("the file holds no Patient")
    };
    let identifiers = members.entry("identifier").or_insert_with(|| json!([]));
    let Value::Array(identifiers) = identifiers else {
        bail!("Patient.identifier is no list")
    };
    identifiers.push(json!({
        "system": stele_service::records::ACCOUNT_SYSTEM,
        "value": account.to_string()
    }));
    Ok(())
}

/// Records.
#[derive(Debug, Args)]
pub(crate) struct RecordCommand {
    #[command(subcommand)]
    what: RecordWhat,
}

#[derive(Debug, Subcommand)]
enum RecordWhat {
    /// Show a record, or one of its versions.
    #[command(after_help = "Examples:
  stele record show Observation/o1
  stele record show Observation/o1 --version 2 --json
  stele record show Observation/o1 --key-file-of-patient p1.key --passphrase-file p1.txt

With a patient's key file the node hands the record out sealed; it is opened and checked here.")]
    Show {
        /// `Type/id`.
        #[arg(value_name = "TYPE/ID")]
        record: String,
        /// Version [default: the current one].
        #[arg(long)]
        version: Option<u32>,
        #[command(flatten)]
        key: KeyOfPatient,
        /// With a key file: genesis file to check against [default: that of the data folder, else what the node
        /// says].
        #[arg(long, value_name = "FILE")]
        genesis: Option<PathBuf>,
        #[command(flatten)]
        target: Target,
        /// Answer in JSON, on one line.
        #[arg(long)]
        json: bool,
    },
    /// List a patient's own records (needs the patient's key file).
    #[command(after_help = "Examples:
  stele record list --key-file-of-patient p1.key --passphrase-file p1.txt")]
    List {
        #[command(flatten)]
        key: KeyOfPatient,
        #[command(flatten)]
        target: Target,
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
}

impl RecordCommand {
    pub(crate) async fn run(self) -> Result<Answer> {
        match self.what {
            RecordWhat::Show {
                record,
                version,
                key,
                genesis,
                target,
                json,
            } => {
                let Some(own) = key.sign_in(&target).await? else {
                    return show(&target, &record, version, json).await;
                };
                let (content, proof) = own.record(&record, version).await?;
                let (anchor, trusted) = verify::anchor(&target, genesis.as_ref()).await?;
                let proven = match proof.verify(&anchor) {
                    Ok(proven) => proven,
                    Err(error) => {
                        let no = json!({
                            "ok": false, "what": error.to_string(), "where": error.link()
                        });
                        return Ok(verify::answer_no(&no, json));
                    }
                };
                let text = String::from_utf8(content)
                    .context("this record is no text; export it with `stele export`")?;
                let value: Value = serde_json::from_str(&text).context("the record")?;
                if json {
                    output::json(&value);
                } else {
                    output::line(serde_json::to_string_pretty(&value)?);
                    output::note(format_args!(
                        "Verified: what was recorded in block {} at {}; trusted: {trusted}",
                        proven.height, proven.timestamp
                    ));
                }
                Ok(Answer::Yes)
            }
            RecordWhat::List { key, target, json } => {
                let own = key
                    .sign_in(&target)
                    .await?
                    .context("listing needs the patient's key file: --key-file-of-patient")?;
                let records = own.records().await?;
                if json {
                    output::json(&records);
                    return Ok(Answer::Yes);
                }
                for one in &records {
                    output::line(format_args!(
                        "{}  version {}  {}  {}",
                        one.record, one.version, one.category, one.last_updated
                    ));
                }
                Ok(Answer::Yes)
            }
        }
    }
}

async fn show(
    target: &Target,
    record: &str,
    version: Option<u32>,
    as_json: bool,
) -> Result<Answer> {
    let path = match version {
        Some(version) => format!("/fhir/r4/{record}/_history/{version}"),
        None => format!("/fhir/r4/{record}"),
    };
    let answer = target.connect()?.get(&path).await?;
    if as_json {
        output::json(&answer);
    } else {
        output::line(serde_json::to_string_pretty(&answer)?);
    }
    Ok(Answer::Yes)
}
