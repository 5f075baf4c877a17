//! The web portal: who is invited to it.

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::json;

use super::{Answer, client::Target, operator::print};

/// The web portal.
#[derive(Debug, Args)]
pub(crate) struct PortalCommand {
    #[command(subcommand)]
    what: PortalWhat,
}

#[derive(Debug, Subcommand)]
enum PortalWhat {
    /// Print an invitation code, with which a person makes the first passkey. It works once, for a day; hand it over
    /// in person: whoever has it can act as them.
    #[command(after_help = "Examples:
  stele portal invite PATIENT
  stele portal invite 0x… --json")]
    Invite {
        /// FHIR id of a Patient, or the account of a member of staff.
        #[arg(value_name = "PATIENT|ACCOUNT")]
        who: String,
        #[command(flatten)]
        target: Target,
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
}

impl PortalCommand {
    pub(crate) async fn run(self) -> Result<Answer> {
        let PortalWhat::Invite { who, target, json } = self.what;
        let body = json!({ "who": who });
        print(
            &target.connect()?.post("/admin/invitations", &body).await?,
            json,
        );
        Ok(Answer::Yes)
    }
}
