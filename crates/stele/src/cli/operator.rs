//! What an operator does on a running node: organisations, staff, patients, consent, records, erasure.

use std::path::PathBuf;

use alloy_primitives::Address;
use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    Answer,
    client::{Client, Target},
};
use crate::output;

/// Print an access token for the operator of a data folder.
#[derive(Debug, Args)]
pub(crate) struct Token {
    #[command(flatten)]
    target: Target,
    /// Scopes, separated by spaces.
    #[arg(long, default_value = "system/*.cruds")]
    scope: String,
    /// Account to act as: a practitioner's, or an organisation's of this node.
    #[arg(long = "as", value_name = "ACCOUNT")]
    act_as: Option<Address>,
    /// How long it lives, in seconds.
    #[arg(long, default_value_t = 3600, value_parser = clap::value_parser!(u64).range(60..=86_400))]
    lifetime: u64,
    #[arg(long)]
    json: bool,
}

impl Token {
    pub(crate) async fn run(self) -> Result<Answer> {
        let token = match self.act_as {
            Some(account) => {
                self.target
                    .mint_for(&self.scope, account, self.lifetime)
                    .await?
            }
            None => self.target.mint(&self.scope, self.lifetime)?,
        };
        if self.json {
            output::json(
                &json!({ "token": token, "scope": self.scope, "expiresIn": self.lifetime }),
            );
        } else {
            output::line(token);
        }
        Ok(Answer::Yes)
    }
}

/// Prints an answer: as it is with `--json`, else member by member.
fn print(answer: &Value, as_json: bool) {
    if as_json {
        output::json(answer);
        return;
    }
    match answer {
        Value::Object(members) => {
            for (name, value) in members {
                output::line(format_args!("{name}: {}", plain(value)));
            }
        }
        Value::Array(items) => items.iter().for_each(|item| output::line(plain(item))),
        other => output::line(plain(other)),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Organisations of this node.
#[derive(Debug, Args)]
pub(crate) struct OrgCommand {
    #[command(subcommand)]
    what: OrgWhat,
}

#[derive(Debug, Subcommand)]
enum OrgWhat {
    /// Admit an organisation and keep its keys here.
    Add {
        /// Its name, for people; kept in the directory, never on chain.
        name: String,
        /// hospital, laboratory, pharmacy, insurer, regulator or research.
        #[arg(long, default_value = "hospital")]
        kind: String,
        #[command(flatten)]
        target: Target,
        #[arg(long)]
        json: bool,
    },
    /// List them.
    List {
        #[command(flatten)]
        target: Target,
        #[arg(long)]
        json: bool,
    },
}

impl OrgCommand {
    pub(crate) async fn run(self) -> Result<Answer> {
        match self.what {
            OrgWhat::Add {
                name,
                kind,
                target,
                json,
            } => {
                let body = json!({ "name": name, "kind": kind });
                print(
                    &target
                        .connect()?
                        .post("/admin/organizations", &body)
                        .await?,
                    json,
                );
            }
            OrgWhat::List { target, json } => {
                print(&target.connect()?.get("/admin/organizations").await?, json);
            }
        }
        Ok(Answer::Yes)
    }
}

/// Staff of an organisation.
#[derive(Debug, Args)]
pub(crate) struct PractitionerCommand {
    #[command(subcommand)]
    what: PractitionerWhat,
}

#[derive(Debug, Subcommand)]
enum PractitionerWhat {
    /// Register a member of staff and keep the keys here.
    Add {
        /// Name, for people; kept in the directory, never on chain.
        name: String,
        /// Organisation [default: the node's own].
        #[arg(long)]
        org: Option<Address>,
        /// Roles, separated by commas: doctor, nurse, pharmacist, laboratory, insurance, administrator, auditor,
        /// researcher.
        #[arg(long, default_value = "doctor", value_delimiter = ',')]
        roles: Vec<String>,
        /// Number of the licence; only a salted commitment is recorded.
        #[arg(long, default_value = "")]
        licence: String,
        #[command(flatten)]
        target: Target,
        #[arg(long)]
        json: bool,
    },
    /// Suspend a member; acts in its block.
    Suspend {
        /// Account of the member.
        account: Address,
        #[command(flatten)]
        target: Target,
    },
    /// Reinstate a member.
    Reinstate {
        /// Account of the member.
        account: Address,
        #[command(flatten)]
        target: Target,
    },
}

impl PractitionerCommand {
    pub(crate) async fn run(self) -> Result<Answer> {
        match self.what {
            PractitionerWhat::Add {
                name,
                org,
                roles,
                licence,
                target,
                json,
            } => {
                let body = json!({
                    "name": name, "organization": org, "roles": roles, "licence": licence
                });
                print(
                    &target
                        .connect()?
                        .post("/admin/practitioners", &body)
                        .await?,
                    json,
                );
            }
            PractitionerWhat::Suspend { account, target } => {
                status(&target.connect()?, account, false).await?;
            }
            PractitionerWhat::Reinstate { account, target } => {
                status(&target.connect()?, account, true).await?;
            }
        }
        Ok(Answer::Yes)
    }
}

async fn status(client: &Client, account: Address, active: bool) -> Result<()> {
    let path = format!("/admin/practitioners/{account}/status");
    print(
        &client.post(&path, &json!({ "active": active })).await?,
        false,
    );
    Ok(())
}

/// Patients.
#[derive(Debug, Args)]
pub(crate) struct PatientCommand {
    #[command(subcommand)]
    what: PatientWhat,
}

#[derive(Debug, Subcommand)]
enum PatientWhat {
    /// Register a patient: managed by the organisation, or with their own key file.
    Add {
        /// File with the FHIR Patient resource.
        #[arg(value_name = "PATIENT.json")]
        file: PathBuf,
        /// The patient's own key file: only its public part is registered.
        #[arg(long, value_name = "FILE", requires = "passphrase_file")]
        key_file_of_patient: Option<PathBuf>,
        /// File with the passphrase of the patient's key file.
        #[arg(long, value_name = "FILE", env = "STELE_PATIENT_PASSPHRASE_FILE")]
        passphrase_file: Option<PathBuf>,
        #[command(flatten)]
        target: Target,
        #[arg(long)]
        json: bool,
    },
}

impl PatientCommand {
    pub(crate) async fn run(self) -> Result<Answer> {
        let PatientWhat::Add {
            file,
            key_file_of_patient,
            passphrase_file,
            target,
            json,
        } = self.what;
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("reading {}", file.display()))?;
        let mut patient: Value =
            serde_json::from_str(&text).with_context(|| file.display().to_string())?;
        let client = target.connect()?;
        if let (Some(key_file), Some(passphrase_file)) = (key_file_of_patient, passphrase_file) {
            let account = super::own_keys::register(&client, &key_file, &passphrase_file).await?;
            own_account(&mut patient, account)?;
        }
        let answer = client.post("/fhir/r4/Patient", &patient).await?;
        print(&answer, json);
        Ok(Answer::Yes)
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

/// Let somebody see or add to a patient's records.
#[derive(Debug, Args)]
pub(crate) struct Grant {
    /// FHIR id of the Patient.
    patient: String,
    /// Account of whoever gets access.
    #[arg(long, value_name = "ACCOUNT")]
    to: Address,
    /// Parts of the record, separated by commas; see docs/categories.md. `all` is every part.
    #[arg(long, value_delimiter = ',', required = true)]
    categories: Vec<String>,
    /// read, write, share; separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "read")]
    permissions: Vec<String>,
    /// Purposes of use, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "TREAT")]
    purposes: Vec<String>,
    /// For how many days from now.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
    /// The request it answers.
    #[arg(long)]
    request: Option<u32>,
    /// The patient's own key file, where the patient keeps their keys.
    #[arg(long, value_name = "FILE", requires = "passphrase_file")]
    key_file_of_patient: Option<PathBuf>,
    /// File with the passphrase of the patient's key file.
    #[arg(long, value_name = "FILE", env = "STELE_PATIENT_PASSPHRASE_FILE")]
    passphrase_file: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
    #[arg(long)]
    json: bool,
}

impl Grant {
    pub(crate) async fn run(self) -> Result<Answer> {
        let client = self.target.connect()?;
        let body = json!({
            "patient": self.patient,
            "grantee": self.to,
            "categories": self.categories,
            "permissions": self.permissions,
            "purposes": self.purposes,
            "days": self.days,
            "request": self.request
        });
        let answer = match (&self.key_file_of_patient, &self.passphrase_file) {
            (Some(key_file), Some(passphrase_file)) => {
                super::own_keys::grant(&client, key_file, passphrase_file, &body).await?
            }
            _ => client.post("/admin/grants", &body).await?,
        };
        print(&answer, self.json);
        Ok(Answer::Yes)
    }
}

/// End a grant.
#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// FHIR id of the Patient.
    patient: String,
    /// Account of whoever has access.
    #[arg(long, value_name = "ACCOUNT")]
    from: Address,
    /// Number of the grant, as `stele grant` printed it.
    #[arg(long)]
    id: u32,
    #[command(flatten)]
    target: Target,
    #[arg(long)]
    json: bool,
}

impl Revoke {
    pub(crate) async fn run(self) -> Result<Answer> {
        let body = json!({ "patient": self.patient, "grantee": self.from, "id": self.id });
        print(
            &self
                .target
                .connect()?
                .post("/admin/grants/revoke", &body)
                .await?,
            self.json,
        );
        Ok(Answer::Yes)
    }
}

/// Ask a patient for access.
#[derive(Debug, Args)]
pub(crate) struct Request {
    /// FHIR id of the Patient.
    patient: String,
    /// Account that asks.
    #[arg(long = "as", value_name = "ACCOUNT")]
    act_as: Address,
    /// What is asked for and why; stays off chain.
    #[arg(long)]
    reason: String,
    /// Decline this request instead.
    #[arg(long, value_name = "REQUEST")]
    decline: Option<u32>,
    #[command(flatten)]
    target: Target,
    #[arg(long)]
    json: bool,
}

impl Request {
    pub(crate) async fn run(self) -> Result<Answer> {
        let client = self.target.connect()?;
        let answer = match self.decline {
            Some(request) => {
                let body = json!({ "patient": self.patient, "request": request });
                client.post("/admin/requests/decline", &body).await?
            }
            None => {
                let body = json!({
                    "patient": self.patient, "requester": self.act_as, "reason": self.reason
                });
                client.post("/admin/requests", &body).await?
            }
        };
        print(&answer, self.json);
        Ok(Answer::Yes)
    }
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
    Show {
        /// `Type/id`.
        #[arg(value_name = "TYPE/ID")]
        record: String,
        /// Version [default: the current one].
        #[arg(long)]
        version: Option<u32>,
        #[command(flatten)]
        target: Target,
        #[arg(long)]
        json: bool,
    },
}

impl RecordCommand {
    pub(crate) async fn run(self) -> Result<Answer> {
        let RecordWhat::Show {
            record,
            version,
            target,
            json,
        } = self.what;
        let path = match version {
            Some(version) => format!("/fhir/r4/{record}/_history/{version}"),
            None => format!("/fhir/r4/{record}"),
        };
        let answer = target.connect()?.get(&path).await?;
        if json {
            output::json(&answer);
        } else {
            output::line(serde_json::to_string_pretty(&answer)?);
        }
        Ok(Answer::Yes)
    }
}

/// Who accessed a patient's records, refused attempts too.
#[derive(Debug, Args)]
pub(crate) struct Audit {
    /// FHIR id of the Patient.
    patient: String,
    /// How many, newest first.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    count: u32,
    #[command(flatten)]
    target: Target,
    #[arg(long)]
    json: bool,
}

impl Audit {
    pub(crate) async fn run(self) -> Result<Answer> {
        let path = format!(
            "/fhir/r4/AuditEvent?patient={}&_count={}",
            self.patient, self.count
        );
        let answer = self.target.connect()?.get(&path).await?;
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
}

/// Erase a record: its key, salt and pepper are destroyed, a tombstone is recorded.
#[derive(Debug, Args)]
pub(crate) struct Erase {
    /// `Type/id`.
    #[arg(value_name = "TYPE/ID")]
    record: String,
    /// Coded reason, 0 to 255; 1 is the person's request.
    #[arg(long, default_value_t = 1)]
    reason: u8,
    /// Yes, for good.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    target: Target,
    #[arg(long)]
    json: bool,
}

impl Erase {
    pub(crate) async fn run(self) -> Result<Answer> {
        if !self.yes {
            bail!("erasing {} cannot be undone; say --yes", self.record);
        }
        let body = json!({ "record": self.record, "reason": self.reason });
        print(
            &self.target.connect()?.post("/admin/erase", &body).await?,
            self.json,
        );
        Ok(Answer::Yes)
    }
}
