//! `stele up`: one member with everything embedded.

mod many;

use std::{net::SocketAddr, path::PathBuf};

use anyhow::{Result, bail};
use clap::Args;

use super::{Addresses, Answer, Settings, demo};
use crate::{
    node::{NewConsortium, Node, Start},
    output,
};

/// Start one member with everything embedded.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stele up --demo
  stele up --data /srv/stele --key-file /run/secrets/stele.key
  stele up --members 4 --demo
  stele up --http 127.0.0.1:0 --rpc 127.0.0.1:0 --metrics 127.0.0.1:0
  
  Prints one JSON line when it is ready: {\"ready\":true,\"http\":…}; also in DATA/ready.json.")]
pub(crate) struct Up {
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    addresses: Addresses,
    /// Load the bundled demonstration: six synthetic patients, two hospitals, a laboratory, doctors, a pharmacist.
    #[arg(long)]
    demo: bool,
    /// Development: any sender may transact and deploy contracts. Chosen when the data folder is made.
    #[arg(long)]
    open: bool,
    /// A whole consortium on this machine, one process and one log a member, below the data folder
    /// [default there: ./stele-net]; from two on.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=13))]
    members: Option<u16>,
    /// With --members: first port of the members, five each.
    #[arg(long, default_value_t = 8480, value_parser = clap::value_parser!(u16).range(1..=65_000))]
    port: u16,
    /// With --members: where the page that shows them is; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:8479", value_name = "ADDR")]
    page: SocketAddr,
    /// Chain id of a new data folder.
    #[arg(long, default_value_t = stele_core::id::DEFAULT_CHAIN_ID)]
    chain_id: u64,
}

impl Up {
    pub(crate) async fn run(self) -> Result<Answer> {
        if let Some(members) = self.members.filter(|members| *members > 1) {
            return self.run_many(members).await;
        }
        let mut config = self.settings.resolve()?;
        self.addresses.apply(&mut config);
        let node = Node::start(
            &config,
            Start::Up(NewConsortium {
                open: self.open,
                chain_id: self.chain_id,
            }),
        )
        .await?;
        if stele_vault::unlock::is_inside(&config.key_file(), &config.data) {
            output::note(format_args!(
                "warning: the key file {} lies in the data folder: a thief of the one has the other too",
                config.key_file().display()
            ));
        }
        if self.demo {
            demo::load(&config, &node).await?;
        }
        output::json(&node.ready);
        node.run().await?;
        Ok(Answer::Yes)
    }

    async fn run_many(self, members: u16) -> Result<Answer> {
        if self.open {
            bail!("--open is for a consortium of one: leave out --members");
        }
        let one_nodes = [
            ("--config", self.settings.config.is_some()),
            ("--key-file", self.settings.key_file.is_some()),
            ("--http", self.addresses.http.is_some()),
            ("--rpc", self.addresses.rpc.is_some()),
            ("--metrics", self.addresses.metrics.is_some()),
            ("--mllp", self.addresses.mllp.is_some()),
        ];
        if let Some((flag, _)) = one_nodes.iter().find(|(_, given)| *given) {
            bail!("{flag} is for a single node: with --members name --port and --page");
        }
        let folder = self
            .settings
            .data
            .unwrap_or_else(|| PathBuf::from("stele-net"));
        many::Many {
            members,
            folder,
            page: self.page,
            first_port: self.port,
            chain_id: self.chain_id,
            demo: self.demo,
        }
        .run()
        .await
    }
}
