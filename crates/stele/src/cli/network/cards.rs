//! A consortium whose members make their keys apart: `stele network new-member` gives a card of public halves,
//! `stele network init --cards` makes genesis and configurations from cards alone, `stele network adopt` puts them in place
//! once they are what this member expects.

use std::{
    fs,
    path::{Path, PathBuf},
};

use alloy_primitives::B256;
use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::json;
use stele_chain::{Genesis, Organization, Seat};
use stele_core::{
    crypto::jws,
    id::OrganizationId,
    time::{Clock as _, SystemClock},
};

use super::{
    files::Place,
    join::{At, read_genesis},
    new_genesis,
};
use crate::{
    cli::{Answer, client::write_new},
    config::{Config, PeerConfig},
    node::{self, ORGANIZATION_FILE},
    output,
};

/// Format of a card, in its first field.
const FORMAT: &str = "stele-member-card/1";
/// Longest name in characters.
const NAME_MAX: usize = 64;

/// What a member hands in: public halves of its keys, and where it will be. Signed with its on-chain key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Card {
    format: String,
    /// What people call it.
    name: String,
    /// Its organisation's account.
    organization: OrganizationId,
    /// Its validator's ed25519 public key.
    validator: B256,
    /// Host by which the others reach it; this machine without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    /// First of the five ports it takes in a row.
    port: u16,
    /// ES256K of the organisation over all of this, detached (RFC 7515 appendix F).
    signature: String,
}

impl Card {
    fn signed(&self) -> Vec<u8> {
        let Self {
            name,
            organization,
            validator,
            port,
            ..
        } = self;
        let host = self.host.as_deref().unwrap_or_default();
        format!("{FORMAT}\n{name}\n{organization}\n{validator}\n{host}\n{port}").into_bytes()
    }

    /// Refuses a card that nobody could have made, or that was altered.
    fn check(&self) -> Result<()> {
        ensure!(
            self.format == FORMAT,
            "format {:?}: {FORMAT:?} is expected",
            self.format
        );
        check_name(&self.name)?;
        if let Some(host) = &self.host {
            super::check_host(host).context("host")?;
        }
        ensure!(
            self.port >= 1 && self.port.checked_add(super::PORTS).is_some(),
            "port {}: five in a row are needed",
            self.port
        );
        let signer = jws::verify(&self.signature, &self.signed())
            .map_err(|_| anyhow::anyhow!("it is not signed by its organisation, or was altered"))?;
        ensure!(
            (signer.account, signer.key) == (self.organization.0, self.organization.0),
            "it is signed by another account than its organisation {}",
            self.organization
        );
        Ok(())
    }

    fn read(path: &Path) -> Result<Self> {
        let text = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let card: Self = serde_json::from_slice(&text)
            .with_context(|| format!("{} is no member's card", path.display()))?;
        card.check().with_context(|| path.display().to_string())?;
        Ok(card)
    }

    fn place(&self, number: u16) -> Place {
        Place {
            number,
            host: self.host.clone(),
            first: self.port,
        }
    }
}

fn check_name(name: &str) -> Result<()> {
    let is_printable = name.chars().all(|letter| !letter.is_control());
    ensure!(
        !name.trim().is_empty() && name.chars().count() <= NAME_MAX && is_printable,
        "name {name:?}: 1 to {NAME_MAX} characters on one line"
    );
    Ok(())
}

/// Reads cards, which have to be of different members.
fn read_all(paths: &[PathBuf]) -> Result<Vec<Card>> {
    ensure!(
        paths.len() <= usize::from(super::MEMBERS_MAX),
        "--cards: at most {} members",
        super::MEMBERS_MAX
    );
    let cards = paths.iter().map(|path| Card::read(path));
    let cards: Vec<Card> = cards.collect::<Result<_>>()?;
    for ((position, card), path) in cards.iter().enumerate().zip(paths) {
        for (other, of) in cards.iter().zip(paths).take(position) {
            let what = if other.organization == card.organization {
                "organisation"
            } else if other.validator == card.validator {
                "validator's key"
            } else if other.name == card.name {
                "name"
            } else if (&other.host, other.port) == (&card.host, card.port) {
                "host and port"
            } else {
                continue;
            };
            bail!(
                "{} and {} have the same {what}",
                of.display(),
                path.display()
            );
        }
    }
    Ok(cards)
}

/// What `stele network init --cards` makes: one genesis, and a configuration for each member, in order.
pub(super) struct Made {
    pub(super) places: Vec<Place>,
    pub(super) genesis: Genesis,
}

/// Makes them in `folder`, which must not exist, from cards alone.
pub(super) fn make(folder: &Path, paths: &[PathBuf], name: &str, chain_id: u64) -> Result<Made> {
    let cards = read_all(paths)?;
    let organizations = cards.iter().map(|card| Organization {
        address: card.organization.0,
        kind: 1,
        endpoints_digest: B256::ZERO,
        keys_digest: B256::ZERO,
    });
    let seats = cards.iter().map(|card| Seat {
        key: card.validator,
        organization: card.organization.0,
    });
    let genesis = new_genesis(organizations.collect(), seats.collect(), name, chain_id);
    let consortium = (name, genesis.block()?.hash());
    let places: Vec<Place> = (1..)
        .zip(&cards)
        .map(|(number, card)| card.place(number))
        .collect();
    let all = || places.iter().zip(&cards).zip(&genesis.validators);
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    write_new(&folder.join("genesis.json"), &genesis.to_json()?)?;
    for ((place, card), _) in all() {
        let others = all().filter(|((other, _), _)| other.number != place.number);
        let peers = others.map(|((other, card), seat)| PeerConfig {
            name: card.name.clone(),
            ..other.peer(seat)
        });
        let peers: Vec<PeerConfig> = peers.collect();
        let config = place.config(&card.name, "data", consortium, &peers);
        let folder = folder.join(place.name());
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        write_new(&folder.join("stele.toml"), &config)?;
    }
    Ok(Made { places, genesis })
}

#[derive(Debug, Args)]
pub(super) struct NewMember {
    /// Folder to make; it may not exist yet.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// What people call this member.
    #[arg(long)]
    name: String,
    #[command(flatten)]
    at: At,
}

impl NewMember {
    pub(super) async fn run(self) -> Result<Answer> {
        check_name(&self.name).context("--name")?;
        let place = self.at.place()?;
        let card = super::whole(&self.out, async |part: PathBuf| {
            self.make(&part, &place).await
        })
        .await?;
        let path = self.out.join("card.json");
        if self.at.is_json() {
            output::json(&json!({ "ok": true, "card": path, "member": card }));
            return Ok(Answer::Yes);
        }
        output::line(format_args!(
            "Organisation {}, validator {}\n\n\
             Hand in {}: nothing in it is secret. Keep {} apart: it unlocks everything.\n\
             With what comes back: stele network adopt --member {} --genesis genesis.json --config stele.toml",
            card.organization,
            card.validator,
            path.display(),
            self.out.join("data.key").display(),
            self.out.display()
        ));
        Ok(Answer::Yes)
    }

    async fn make(&self, folder: &Path, place: &Place) -> Result<Card> {
        let data = folder.join("data");
        let made = node::make_member(&data).await?;
        let organization = format!("{}\n", made.organization);
        write_new(&data.join(ORGANIZATION_FILE), &organization)?;
        let mut card = Card {
            format: FORMAT.to_owned(),
            name: self.name.clone(),
            organization: made.organization,
            validator: made.validator,
            host: place.host.clone(),
            port: place.first,
            signature: String::new(),
        };
        let now = SystemClock.now();
        let signed = jws::sign(&made.key, made.organization.0, now, &card.signed());
        card.signature = signed.context("signing the card")?;
        card.check()?;
        let text = serde_json::to_string_pretty(&card)?;
        write_new(&folder.join("card.json"), &format!("{text}\n"))?;
        Ok(card)
    }
}

#[derive(Debug, Args)]
pub(super) struct Adopt {
    /// Folder that `stele network new-member` made.
    #[arg(long, value_name = "DIR")]
    member: PathBuf,
    /// The consortium's `genesis.json`.
    #[arg(long, value_name = "FILE")]
    genesis: PathBuf,
    /// This member's `stele.toml`.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The card of each other member, as that member gave it: the genesis has to seat exactly these and this one. Once for
    /// each, or separated by commas; without, the genesis is believed.
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    cards: Vec<PathBuf>,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

impl Adopt {
    pub(super) fn run(self) -> Result<Answer> {
        let (genesis, text) = read_genesis(&self.genesis)?;
        let hash = genesis.block()?.hash();
        let own_path = self.member.join("card.json");
        let own = Card::read(&own_path)?;
        self.check_genesis(&genesis, &own)?;
        let config = Config::read(&self.config)?;
        let network = config.network.as_ref();
        let expected = network.map(|network| network.genesis);
        ensure!(
            expected == Some(hash),
            "{}: network.genesis is not {hash}, the digest of {}",
            self.config.display(),
            self.genesis.display()
        );
        let data = self.member.join("data");
        let kept = fs::read_to_string(data.join(ORGANIZATION_FILE))
            .with_context(|| format!("{} holds no member", data.display()))?;
        ensure!(
            kept.trim() == own.organization.to_string(),
            "{} is not of the organisation whose keys are in {}",
            own_path.display(),
            data.display()
        );
        for (path, content) in [
            (
                self.member.join("stele.toml"),
                fs::read(&self.config)
                    .with_context(|| format!("reading {}", self.config.display()))?,
            ),
            (data.join("genesis.json"), text),
        ] {
            ensure!(
                !path.exists(),
                "{} exists already: this member has joined a consortium",
                path.display()
            );
            fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
        }
        let started = self.member.join("stele.toml");
        if self.json {
            output::json(&json!({ "ok": true, "genesis": hash, "config": started }));
            return Ok(Answer::Yes);
        }
        output::line(format_args!(
            "Member of a consortium of {}, genesis {hash}\n  stele node --config {}",
            genesis.organizations.len(),
            started.display()
        ));
        Ok(Answer::Yes)
    }

    /// Whether the genesis seats this member and those whose cards are given, and nobody else.
    fn check_genesis(&self, genesis: &Genesis, own: &Card) -> Result<()> {
        let path = self.genesis.display();
        let names = |card: &Card| {
            let seat = |seat: &&Seat| seat.organization == card.organization.0;
            let seats: Vec<&Seat> = genesis.validators.iter().filter(seat).collect();
            seats.len() == 1 && seats.iter().all(|seat| seat.key == card.validator)
        };
        ensure!(
            names(own),
            "{path} does not seat this member: organisation {} with validator {}",
            own.organization,
            own.validator
        );
        if self.cards.is_empty() {
            return Ok(());
        }
        let mut cards = read_all(&self.cards)?;
        cards.retain(|card| card.organization != own.organization);
        for card in &cards {
            ensure!(
                names(card),
                "{path} does not seat {:?} as its card says: organisation {} with validator {}",
                card.name,
                card.organization,
                card.validator
            );
        }
        let is_known = |organization: &Organization| {
            organization.address == own.organization.0
                || cards
                    .iter()
                    .any(|card| card.organization.0 == organization.address)
        };
        let stranger = genesis.organizations.iter().find(|one| !is_known(one));
        if let Some(stranger) = stranger {
            bail!(
                "{path} has an organisation of which no card was given: {}",
                stranger.address
            );
        }
        Ok(())
    }
}
