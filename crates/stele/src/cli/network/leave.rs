//! `stele network leave`: what a member destroys once it is none any more.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::json;

use crate::{
    cli::{Answer, store::offline},
    config::Config,
    node::Stores,
    output,
};

#[derive(Debug, Args)]
pub(super) struct Leave {
    /// The member's data folder.
    #[arg(
        long,
        env = "STELE_DATA",
        default_value = "stele-data",
        value_name = "DIR"
    )]
    data: PathBuf,
    /// Also where this member's own ledger does not say that it is no active member any more: it is told nothing after the
    /// vote, so it may have missed it.
    #[arg(long)]
    yes: bool,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

impl Leave {
    pub(super) async fn run(self) -> Result<Answer> {
        if !self.data.join("genesis.json").exists() {
            bail!("{} holds no node", self.data.display());
        }
        let config = Config {
            data: self.data,
            ..Config::default()
        };
        let stores = Stores::open(&config, None).await?;
        let organization = stores.organization;
        let is_member = offline(&stores)?.is_member(organization)?;
        if is_member && !self.yes {
            bail!(
                "organisation {organization} is an active member by its own ledger: the others count on what it holds. If \
                 they have suspended it, and it was not told, say --yes"
            );
        }
        let trees = stores.vault.custodian().destroy_others()?;
        if self.json {
            output::json(&json!({ "ok": true, "organization": organization, "trees": trees }));
        } else {
            output::line(format_args!(
                "{trees} trees of pepper shares that others dealt to {organization} are destroyed. What it wrote itself is still \
                 here; backups made before hold the trees."
            ));
        }
        Ok(Answer::Yes)
    }
}
