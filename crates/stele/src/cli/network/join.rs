//! `stele network join` and `stele network config`: members of a consortium that runs already.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::json;
use stele_chain::Genesis;
use stele_core::id::OrganizationId;

use super::files::Place;
use crate::{
    cli::Answer,
    config::{Config, PeerConfig},
    node::{self, ORGANIZATION_FILE},
    output,
};

/// Where the member lives.
#[derive(Debug, Args)]
pub(super) struct At {
    /// Host by which the others reach it; this machine without.
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// First of the five ports it takes in a row.
    #[arg(long, default_value_t = 8480, value_parser = clap::value_parser!(u16).range(1..=65_000))]
    port: u16,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

impl At {
    pub(super) const fn is_json(&self) -> bool {
        self.json
    }

    pub(super) fn place(&self) -> Result<Place> {
        if let Some(host) = &self.host {
            super::check_host(host)?;
        }
        Ok(Place {
            number: 0,
            host: self.host.clone(),
            first: self.port,
        })
    }
}

#[derive(Debug, Args)]
pub(super) struct Join {
    /// The consortium's `genesis.json`, from a member that is trusted.
    #[arg(long, value_name = "FILE")]
    genesis: PathBuf,
    /// A member to begin with: its organisation's account and its gateway. One is enough; once for each.
    #[arg(long = "member", value_name = "ACCOUNT=URL", required = true, value_parser = member)]
    members: Vec<PeerConfig>,
    /// Folder to make; it may not exist yet.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    at: At,
}

#[derive(Debug, Args)]
pub(super) struct Write {
    /// The member's data folder.
    #[arg(
        long,
        env = "STELE_DATA",
        default_value = "stele-data",
        value_name = "DIR"
    )]
    data: PathBuf,
    /// File to write; it may not exist yet.
    #[arg(long, default_value = "stele.toml", value_name = "FILE")]
    out: PathBuf,
    /// Another member to begin with: its organisation's account and its gateway. Once for each.
    #[arg(long = "member", value_name = "ACCOUNT=URL", value_parser = member)]
    members: Vec<PeerConfig>,
    #[command(flatten)]
    at: At,
}

#[derive(Debug, Args)]
pub(super) struct NewKey {
    /// The member's data folder.
    #[arg(
        long,
        env = "STELE_DATA",
        default_value = "stele-data",
        value_name = "DIR"
    )]
    data: PathBuf,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

impl NewKey {
    pub(super) async fn run(self) -> Result<Answer> {
        if !self.data.join("genesis.json").exists() {
            bail!("{} holds no node", self.data.display());
        }
        let config = Config {
            data: self.data,
            ..Config::default()
        };
        let key = node::new_validator_key(&config).await?;
        if self.json {
            output::json(&json!({ "ok": true, "validator": key }));
        } else {
            output::line(format_args!("{key}"));
        }
        Ok(Answer::Yes)
    }
}

fn member(text: &str) -> Result<PeerConfig> {
    let (account, gateway) = text
        .split_once('=')
        .context("write it as ACCOUNT=URL, such as 0x12…=https://a.example.org")?;
    let account = account.trim().parse().context("the account")?;
    Ok(PeerConfig {
        name: String::new(),
        organization: Some(OrganizationId(account)),
        key: None,
        address: None,
        gateway: Some(gateway.trim().to_owned()),
    })
}

pub(super) fn read_genesis(path: &Path) -> Result<(Genesis, Vec<u8>)> {
    let text = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let genesis = Genesis::from_json(&text).with_context(|| path.display().to_string())?;
    if genesis.open {
        bail!(
            "{} is of a development network: any sender may transact there, so nobody else can join",
            path.display()
        );
    }
    Ok((genesis, text))
}

impl Join {
    pub(super) async fn run(self) -> Result<Answer> {
        let (genesis, text) = read_genesis(&self.genesis)?;
        let place = self.at.place()?;
        let made = super::whole(&self.out, async |part: PathBuf| {
            self.make(&part, &place, &genesis, &text).await
        })
        .await?;
        let config = self.out.join("stele.toml");
        if self.at.json {
            output::json(&json!({
                "ok": true,
                "config": config,
                "organization": made.organization,
                "validator": made.validator,
                "gateway": place.gateway(),
            }));
            return Ok(Answer::Yes);
        }
        output::line(format_args!(
            "Organisation {}, validator {}\n\nThe members let it in, more than two thirds of them:\n  \
             stele governance propose admit {}\nThen it follows the ledger:\n  stele node --config {}\n\
             Once it has caught up, they seat its validator:\n  \
             stele governance propose validator {} seat --of {}",
            made.organization,
            made.validator,
            made.organization,
            config.display(),
            made.validator,
            made.organization
        ));
        Ok(Answer::Yes)
    }

    async fn make(
        &self,
        folder: &Path,
        place: &Place,
        genesis: &Genesis,
        text: &[u8],
    ) -> Result<node::NewMember> {
        let data = folder.join("data");
        let made = node::make_member(&data).await?;
        let write = |path: PathBuf, text: &[u8]| {
            fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
        };
        write(data.join("genesis.json"), text)?;
        let organization = format!("{}\n", made.organization);
        write(data.join(ORGANIZATION_FILE), organization.as_bytes())?;
        let consortium = (genesis.consortium.as_str(), genesis.block()?.hash());
        let config = place.config("A member", "data", consortium, &self.members);
        write(folder.join("stele.toml"), config.as_bytes())?;
        Ok(made)
    }
}

impl Write {
    pub(super) fn run(self) -> Result<Answer> {
        let (genesis, _) = read_genesis(&self.data.join("genesis.json"))?;
        let place = self.at.place()?;
        let data = std::path::absolute(&self.data)
            .with_context(|| format!("finding {}", self.data.display()))?;
        let consortium = (genesis.consortium.as_str(), genesis.block()?.hash());
        let data = data
            .to_str()
            .with_context(|| format!("{} can't be written into a file", data.display()))?;
        let text = place.config("A member", data, consortium, &self.members);
        crate::cli::client::write_new(&self.out, &text)?;
        let config = Config::read(&self.out)?;
        if self.at.json {
            output::json(&json!({
                "ok": true,
                "config": self.out,
                "gateway": place.gateway(),
                "listen": config.network.map(|network| network.listen),
            }));
            return Ok(Answer::Yes);
        }
        output::line(format_args!(
            "Written to {0}. Start the member with: stele node --config {0}",
            self.out.display()
        ));
        Ok(Answer::Yes)
    }
}
