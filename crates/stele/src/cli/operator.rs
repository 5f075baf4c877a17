//! What an operator does on a running node: tokens, organisations, staff, erasure.

use alloy_primitives::Address;
use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    Answer,
    client::{Client, Target},
};
use crate::output;

/// Print an access token for the operator of a data folder.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stele token --scope 'system/*.rs'
  stele token --scope 'system/*.cruds' --as 0x… --lifetime 600")]
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
    /// Answer in JSON.
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
pub(super) fn print(answer: &Value, as_json: bool) {
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
    #[command(after_help = "Examples:
  stele org add 'Kos Heart Centre' --kind hospital")]
    Add {
        /// Its name, for people; kept in the directory, never on chain.
        name: String,
        /// hospital, laboratory, pharmacy, insurer, regulator or research.
        #[arg(long, default_value = "hospital")]
        kind: String,
        #[command(flatten)]
        target: Target,
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
    /// List them.
    #[command(after_help = "Examples:
  stele org list --json")]
    List {
        #[command(flatten)]
        target: Target,
        /// Answer in JSON.
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
    #[command(after_help = "Examples:
  stele practitioner add 'Dr Ana Reyes' --roles doctor
  stele practitioner add 'Lab desk' --org 0x… --roles laboratory")]
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
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
    /// Suspend a member; acts in its block.
    #[command(after_help = "Examples:
  stele practitioner suspend 0x…")]
    Suspend {
        /// Account of the member.
        account: Address,
        #[command(flatten)]
        target: Target,
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
    /// Reinstate a member.
    #[command(after_help = "Examples:
  stele practitioner reinstate 0x…")]
    Reinstate {
        /// Account of the member.
        account: Address,
        #[command(flatten)]
        target: Target,
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
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
            PractitionerWhat::Suspend {
                account,
                target,
                json,
            } => print(&status(&target.connect()?, account, false).await?, json),
            PractitionerWhat::Reinstate {
                account,
                target,
                json,
            } => print(&status(&target.connect()?, account, true).await?, json),
        }
        Ok(Answer::Yes)
    }
}

async fn status(client: &Client, account: Address, active: bool) -> Result<Value> {
    let path = format!("/admin/practitioners/{account}/status");
    client.post(&path, &json!({ "active": active })).await
}

/// Erase a record: its key, salt and pepper are destroyed, a tombstone is recorded.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stele erase Observation/o1 --yes
  stele erase Observation/o1 --reason 2 --yes --json")]
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
    /// Answer in JSON.
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
