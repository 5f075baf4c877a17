//! `stele node`: a member of a consortium.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::{Addresses, Answer};
use crate::{
    config::Config,
    node::{Node, Start},
    output,
};

/// Start a member of a consortium, as its configuration says.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stele node --config net/member-1/stele.toml

  Prints one JSON line when it is ready: {\"ready\":true,\"http\":…}; also in DATA/ready.json. It is ready without the
  other members, too: it then reads, and writes once more than two thirds of the validators are connected.")]
pub(crate) struct NodeCommand {
    /// Configuration file, with the section `[network]`; paths in it are read from where it lies.
    #[arg(long, env = "STELE_CONFIG", value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    addresses: Addresses,
}

impl NodeCommand {
    pub(crate) async fn run(self) -> Result<Answer> {
        let mut config = Config::read(&self.config)?;
        self.addresses.apply(&mut config);
        let node = Node::start(&config, Start::Member).await?;
        output::json(&node.ready);
        node.run().await?;
        Ok(Answer::Yes)
    }
}
