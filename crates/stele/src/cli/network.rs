//! `stele network`: making a consortium of several members.

mod cards;
mod files;
mod join;
mod leave;
mod recover;

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use alloy_primitives::B256;
use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use serde_json::json;
use stele_chain::{Genesis, Organization, Seat};
use stele_core::{
    id::DEFAULT_CHAIN_ID,
    time::{Clock as _, SystemClock},
};

use super::Answer;
use crate::{node, output};
use files::Place;

/// Most members that `init` makes: each validator sends its votes to all others.
const MEMBERS_MAX: u16 = 50;

/// Make a consortium of several members, or join one.
#[derive(Debug, Args)]
pub(crate) struct NetworkCommand {
    #[command(subcommand)]
    what: NetworkWhat,
}

#[derive(Debug, Subcommand)]
enum NetworkWhat {
    /// Make keys, one genesis and a configuration for each member.
    #[command(after_help = "Examples:
  stele network init --members 4 --out net
  stele network init --members 3 --out net --host a.example.org --host b.example.org --host c.example.org

  Then, for each member: stele node --config net/member-1/stele.toml
  Whoever runs this sees every member's keys for a moment: hand each folder and its key file over, and delete them here.

  Where nobody should, each member runs `stele network new-member`, hands in its card, and gets back what this makes:
  stele network init --cards a.json,b.json,c.json,d.json --out net")]
    Init(Init),
    /// Make the keys of one member of a consortium that is being founded, and a card of their public halves.
    #[command(after_help = "Examples:
  stele network new-member --name \"Green Valley Hospital\" --out green-valley --host a.example.org

  Hand in green-valley/card.json: whoever founds the consortium runs `stele network init --cards …` over all members' cards.")]
    NewMember(cards::NewMember),
    /// Put genesis and configuration in place that were made from members' cards, once they are what this member expects.
    #[command(after_help = "Examples:
  stele network adopt --member green-valley --genesis net/genesis.json --config net/member-1/stele.toml --cards b.json,c.json,d.json")]
    Adopt(cards::Adopt),
    /// Make keys and a configuration for a new member of a consortium that runs.
    #[command(after_help = "Examples:
  stele network join --genesis genesis.json --member 0x…=https://a.example.org --out member-5 --host e.example.org

  Then the members let it in: stele governance propose admit ACCOUNT, and votes. Started, it takes a verified
  snapshot of the ledger and follows it:
  stele node --config member-5/stele.toml. Once it has caught up, they seat its validator:
  stele governance propose validator KEY seat --of ACCOUNT, and votes.")]
    Join(join::Join),
    /// Make a new key for this member's validator; its node must be stopped.
    #[command(after_help = "Examples:
  stele network new-key --data net/member-3/data

  Start the node again: it goes on with the key in use until the members seat the new one and unseat the other, with
  stele governance propose validator KEY seat|unseat --of ACCOUNT. The node then changes over by itself.")]
    NewKey(join::NewKey),
    /// Destroy what other members dealt to this one, which is none any more; its node must be stopped.
    #[command(after_help = "Examples:
  stele network leave --data net/member-3/data

  First the others hand on what it holds, which they do by themselves once it is suspended.")]
    Leave(leave::Leave),
    /// Write a configuration for a member that has a data folder, such as one made by `stele up`, so that others can
    /// join it.
    #[command(after_help = "Examples:
  stele network config --data stele-data --out stele.toml --host a.example.org")]
    Config(join::Write),
    /// Go on after more than a third of the validators were lost for good, by a document that more than half of them sign.
    #[command(after_help = "Examples:
  stele network recover propose --lost 0xORGANISATION --lost 0xORGANISATION --out recovery.json --config stele.toml
  stele network recover sign recovery.json --config stele.toml     # at each member that is left, its node stopped
  stele network recover apply recovery.json --config stele.toml    # then at each of them; then start the nodes

  Until every member that is left has the same last block, none may sign: start them beside each other first. A member
  that has signed starts again only with the document in force. docs/operating.md has all the steps.")]
    Recover(recover::RecoverCommand),
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// How many members, 1 to 50; four or more go on when one is down.
    #[arg(long, required_unless_present = "cards", value_parser = clap::value_parser!(u16).range(1..=i64::from(MEMBERS_MAX)))]
    members: Option<u16>,
    /// Folder to make; it may not exist yet.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Cards of all members, made with `stele network new-member`: no keys are made here. Separated by commas, or once
    /// for each.
    #[arg(long, value_name = "FILE", value_delimiter = ',', conflicts_with_all = ["members", "host", "port"])]
    cards: Vec<PathBuf>,
    /// Host of a member, once for each in order; all on this machine without.
    #[arg(long, value_name = "HOST")]
    host: Vec<String>,
    /// First port: on one machine a member takes five in a row, on machines of their own all take the same five.
    #[arg(long, default_value_t = 8480, value_parser = clap::value_parser!(u16).range(1..=65_000))]
    port: u16,
    /// What the consortium is called.
    #[arg(long, default_value = "Consortium")]
    name: String,
    /// Chain id.
    #[arg(long, default_value_t = DEFAULT_CHAIN_ID)]
    chain_id: u64,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

impl NetworkCommand {
    pub(crate) async fn run(self) -> Result<Answer> {
        match self.what {
            NetworkWhat::Init(init) => init.run().await,
            NetworkWhat::NewMember(new) => new.run().await,
            NetworkWhat::Adopt(adopt) => adopt.run(),
            NetworkWhat::Join(join) => join.run().await,
            NetworkWhat::NewKey(new) => new.run().await,
            NetworkWhat::Leave(leave) => leave.run().await,
            NetworkWhat::Config(write) => write.run(),
            NetworkWhat::Recover(recover) => recover.run().await,
        }
    }
}

impl Init {
    /// As `stele network init` for members on this machine.
    pub(crate) fn here(members: u16, out: &Path, port: u16, chain_id: u64) -> Self {
        Self {
            members: Some(members),
            cards: Vec::new(),
            out: out.to_owned(),
            host: Vec::new(),
            port,
            name: "Consortium".to_owned(),
            chain_id,
            json: false,
        }
    }

    async fn run(self) -> Result<Answer> {
        let (places, genesis) = self.make().await?;
        self.answer(&places, &genesis)
    }

    /// Makes the folder, whole or not at all.
    pub(crate) async fn make(&self) -> Result<(Vec<Place>, Genesis)> {
        if !self.cards.is_empty() {
            let made = whole(&self.out, async |part: PathBuf| {
                cards::make(&part, &self.cards, &self.name, self.chain_id)
            })
            .await?;
            return Ok((made.places, made.genesis));
        }
        let places = self.places()?;
        let genesis = whole(&self.out, async |part: PathBuf| {
            make(&part, &places, &self.name, self.chain_id).await
        })
        .await?;
        Ok((places, genesis))
    }

    fn places(&self) -> Result<Vec<Place>> {
        let members = self.members.unwrap_or_default();
        let count = usize::from(members);
        if !self.host.is_empty() && self.host.len() != count {
            bail!(
                "--host is given {} times for {members} members",
                self.host.len()
            );
        }
        let mut places = Vec::with_capacity(count);
        for number in 1..=members {
            let position = usize::from(number.saturating_sub(1));
            let host = self.host.get(position).cloned();
            if let Some(host) = &host {
                check_host(host)?;
            }
            let first = match &host {
                Some(_) => Some(self.port),
                None => number
                    .saturating_sub(1)
                    .checked_mul(PORTS)
                    .and_then(|offset| self.port.checked_add(offset)),
            };
            let first = first
                .filter(|first| first.checked_add(PORTS).is_some())
                .with_context(|| format!("--port {}: not enough ports above it", self.port))?;
            places.push(Place {
                number,
                host,
                first,
            });
        }
        Ok(places)
    }

    fn answer(&self, places: &[Place], genesis: &Genesis) -> Result<Answer> {
        let hash = genesis.block()?.hash();
        if self.json {
            let members: Vec<_> = places
                .iter()
                .zip(&genesis.validators)
                .map(|(place, seat)| {
                    json!({
                        "name": place.name(),
                        "config": self.out.join(place.name()).join("stele.toml"),
                        "organization": seat.organization,
                        "validator": seat.key,
                        "gateway": place.gateway(),
                    })
                })
                .collect();
            output::json(&json!({ "ok": true, "genesis": hash, "members": members }));
            return Ok(Answer::Yes);
        }
        output::line(format_args!(
            "Consortium of {} in {}",
            places.len(),
            self.out.display()
        ));
        for place in places {
            let config = self.out.join(place.name()).join("stele.toml");
            let begin = if self.cards.is_empty() {
                "stele node --config "
            } else {
                ""
            };
            output::line(format_args!("  {begin}{}", config.display()));
        }
        if !self.cards.is_empty() {
            output::line(format_args!(
                "Give each member its stele.toml and {}; it runs stele network adopt",
                self.out.join("genesis.json").display()
            ));
        }
        if places.len() < 4 {
            output::note(format_args!(
                "note: {} validators stop when one is down; four go on without one",
                places.len()
            ));
        }
        Ok(Answer::Yes)
    }
}

/// Ports of one member: gateway, validator, JSON-RPC, metrics, HL7 v2.
const PORTS: u16 = 5;

/// Refuses what is no host that others could reach.
fn check_host(host: &str) -> Result<()> {
    let probe = format!("{host}:1");
    probe
        .parse::<stele_consensus::PeerAddress>()
        .with_context(|| format!("--host {host}"))?;
    if host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()) {
        bail!("--host {host}: name the address at which the others reach this member");
    }
    Ok(())
}

/// Makes a folder whole or not at all: beside, and renamed, so that whoever finds it finds all of it.
async fn whole<T>(out: &Path, make: impl AsyncFnOnce(PathBuf) -> Result<T>) -> Result<T> {
    if out.exists() {
        bail!(
            "{} exists already; name a folder that does not",
            out.display()
        );
    }
    let mut part = out.to_owned().into_os_string();
    part.push(".part");
    let part = PathBuf::from(part);
    if part.exists() {
        fs::remove_dir_all(&part)
            .with_context(|| format!("removing what an earlier run left in {}", part.display()))?;
    }
    let made = match make(part.clone()).await {
        Ok(made) => made,
        Err(error) => {
            drop(fs::remove_dir_all(&part));
            return Err(error);
        }
    };
    fs::rename(&part, out).with_context(|| format!("naming {}", out.display()))?;
    Ok(made)
}

/// The first block of a consortium that begins now.
fn new_genesis(
    organizations: Vec<Organization>,
    validators: Vec<Seat>,
    name: &str,
    chain_id: u64,
) -> Genesis {
    Genesis {
        chain_id,
        protocol: stele_chain::PROTOCOL,
        timestamp_ms: SystemClock.now().0,
        consortium: name.to_owned(),
        open: false,
        organizations,
        validators,
        parameters: Default::default(),
        deployers: Vec::new(),
        alloc: Default::default(),
    }
}

async fn make(folder: &Path, places: &[Place], name: &str, chain_id: u64) -> Result<Genesis> {
    let mut organizations = Vec::new();
    let mut validators = Vec::new();
    for place in places {
        let member = node::make_member(&folder.join(place.name()).join("data"))
            .await
            .with_context(|| format!("making the keys of {}", place.name()))?;
        organizations.push(Organization {
            address: member.organization.0,
            kind: 1,
            endpoints_digest: B256::ZERO,
            keys_digest: B256::ZERO,
        });
        validators.push(Seat {
            key: member.validator,
            organization: member.organization.0,
        });
    }
    let genesis = new_genesis(organizations, validators, name, chain_id);
    let hash = genesis.block()?.hash();
    let text = genesis.to_json()?;
    let write = |path: PathBuf, text: &str| {
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    };
    write(folder.join("genesis.json"), &text)?;
    for place in places {
        let member = folder.join(place.name());
        write(member.join("data").join("genesis.json"), &text)?;
        let others = places.iter().zip(&genesis.validators);
        let others = others.filter(|(other, _)| other.number != place.number);
        let peers: Vec<_> = others.map(|(other, seat)| other.peer(seat)).collect();
        let consortium = (genesis.consortium.as_str(), hash);
        let config = place.config(&place.name(), "data", consortium, &peers);
        write(member.join("stele.toml"), &config)?;
    }
    Ok(genesis)
}
