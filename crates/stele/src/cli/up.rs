//! `stele up`: one member with everything embedded.

use anyhow::Result;
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
    /// Chain id of a new data folder.
    #[arg(long, default_value_t = stele_core::id::DEFAULT_CHAIN_ID)]
    chain_id: u64,
}

impl Up {
    pub(crate) async fn run(self) -> Result<Answer> {
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
}
