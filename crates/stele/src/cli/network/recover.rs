//! `stele network recover`: the end of an epoch by hand, after more than a third of its validators were lost for good.

use std::{
    fs,
    path::{Path, PathBuf},
    str::FromStr,
};

use alloy_primitives::{Address, B256, B512};
use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use serde_json::json;
use stele_chain::Recovered;
use stele_core::{
    block::Validator,
    certificate::ValidatorSignature,
    epoch::{Epoch, recovery::Recovery},
};

use crate::{
    cli::{Answer, Settings, client::write_new},
    config::Config,
    node::{Stores, promise, signers},
    output,
};

#[derive(Debug, Args)]
pub(crate) struct RecoverCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Write the document: the last final block of this member, whose node is stopped, and the validators from then on.
    #[command(
        after_help = "Example:\n  stele network recover propose --config stele.toml --lost 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed --out end.json"
    )]
    Propose(Propose),
    /// Sign it for this member's validator. The node then starts again only with the document in force.
    #[command(after_help = "Example:\n  stele network recover sign end.json --config stele.toml")]
    Sign(Sign),
    /// Put it into force in this member's data folder, once more than half of the validators have signed it.
    #[command(
        after_help = "Example:\n  stele network recover apply end-a.json end-b.json end-c.json --config stele.toml"
    )]
    Apply(Apply),
}

#[derive(Debug, Args)]
struct Propose {
    #[command(flatten)]
    settings: Settings,
    /// Who was lost: an organisation's account, or a validator's key. Once for each.
    #[arg(long, required = true, value_name = "ACCOUNT|KEY")]
    lost: Vec<Lost>,
    /// A validator that takes a seat as well: its key, and the account of the organisation that runs it.
    #[arg(long, value_name = "KEY=ACCOUNT")]
    seat: Vec<Seat>,
    /// File to write; it may not exist yet.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Sign {
    /// The document; the signature is added to it.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    settings: Settings,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Apply {
    /// The document; several copies that were signed apart count together.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    settings: Settings,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

/// Who was lost.
#[derive(Clone, Copy, Debug)]
enum Lost {
    Organization(Address),
    Validator(B256),
}

impl FromStr for Lost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(organization) = text.parse() {
            return Ok(Self::Organization(organization));
        }
        let key = text.parse().map(Self::Validator);
        key.map_err(|_| "neither an account (20 bytes) nor a validator's key (32 bytes)".into())
    }
}

impl Lost {
    fn is(self, seat: &Validator) -> bool {
        match self {
            Self::Organization(organization) => seat.organization == organization,
            Self::Validator(key) => seat.key == key,
        }
    }
}

/// A validator that takes a seat.
#[derive(Clone, Debug)]
struct Seat(Validator);

impl FromStr for Seat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "not KEY=ACCOUNT".to_owned();
        let (key, organization) = text.split_once('=').ok_or_else(wrong)?;
        Ok(Self(Validator {
            key: key.parse().map_err(|_| wrong())?,
            organization: organization.parse().map_err(|_| wrong())?,
        }))
    }
}

impl RecoverCommand {
    pub(crate) async fn run(self) -> Result<Answer> {
        match self.what {
            What::Propose(propose) => propose.run().await,
            What::Sign(sign) => sign.run().await,
            What::Apply(apply) => apply.run().await,
        }
    }
}

impl Propose {
    async fn run(self) -> Result<Answer> {
        if self.out.exists() {
            bail!(
                "{} exists already; name a file that does not",
                self.out.display()
            );
        }
        let stores = open(&self.settings.resolve()?).await?;
        let ended = stores.chain.epoch();
        let validators = self.validators(&ended)?;
        let recovery = stores.chain.draft_recovery(validators)?;
        write_new(&self.out, &text(&recovery)?)?;
        say(&recovery, &ended, self.json, "proposed");
        Ok(Answer::Yes)
    }

    /// Who validates from then on.
    fn validators(&self, ended: &Epoch) -> Result<Vec<Validator>> {
        let mut left = ended.validators().to_vec();
        for lost in &self.lost {
            let before = left.len();
            left.retain(|seat| !lost.is(seat));
            if left.len() == before {
                bail!(
                    "--lost {}: it has no seat in epoch {}, or is named twice",
                    lost.text(),
                    ended.number()
                );
            }
        }
        let (count, all) = (left.len(), ended.validators().len());
        let (quorum, majority) = (ended.set().quorum(), ended.set().majority());
        if count >= quorum {
            bail!(
                "{count} of {all} validators are left, which is a quorum: the ledger goes on by itself, and the others \
                 lose their seats by vote (stele governance propose validator)"
            );
        }
        if count < majority {
            bail!(
                "{count} of {all} validators are left, and {majority} have to sign: fewer could make two ledgers of one. \
                 Nothing but a backup of a lost validator brings this ledger back"
            );
        }
        left.extend(self.seat.iter().map(|seat| seat.0.clone()));
        Ok(left)
    }
}

impl Lost {
    fn text(self) -> String {
        match self {
            Self::Organization(organization) => organization.to_string(),
            Self::Validator(key) => key.to_string(),
        }
    }
}

impl Sign {
    async fn run(self) -> Result<Answer> {
        let config = self.settings.resolve()?;
        let stores = open(&config).await?;
        let mut recovery = read(&self.file)?;
        stores.chain.examine_recovery(&recovery)?;
        let ended = stores.chain.epoch();
        let own = signers(&config.data, &stores.vault)?;
        let own = own.iter().find_map(|signer| {
            let keys = ended.set().keys();
            let position = keys.iter().position(|key| *key == signer.public_key())?;
            Some((u16::try_from(position).ok()?, signer))
        });
        let (validator, signer) = own.with_context(|| {
            format!(
                "this member's validator has no seat in epoch {}",
                ended.number()
            )
        })?;
        // The promise comes before the signature: a crash between the two leaves a member that votes no more.
        promise::make(&config.data, &recovery)?;
        recovery.add(ValidatorSignature {
            validator,
            signature: B512::from(signer.sign_recovery(&recovery)),
        });
        stores.chain.examine_recovery(&recovery)?;
        replace(&self.file, &text(&recovery)?)?;
        say(&recovery, &ended, self.json, "signed");
        Ok(Answer::Yes)
    }
}

impl Apply {
    async fn run(self) -> Result<Answer> {
        let stores = open(&self.settings.resolve()?).await?;
        let mut recovery: Option<Recovery> = None;
        for file in &self.files {
            let read = read(file)?;
            match &mut recovery {
                None => recovery = Some(read),
                Some(first) => first
                    .merge(&read)
                    .with_context(|| format!("{} beside the others", file.display()))?,
            }
        }
        let recovery = recovery.context("no file was named")?;
        let ended = stores.chain.epoch();
        match stores.chain.recover(&recovery)? {
            Recovered::New => say(&recovery, &ended, self.json, "in force"),
            Recovered::Again => say(&recovery, &ended, self.json, "in force already"),
        }
        Ok(Answer::Yes)
    }
}

/// The stores of a data folder whose node is stopped, and which has taken in all that it knows to be final.
async fn open(config: &Config) -> Result<Stores> {
    let stores = Stores::open(config, None).await?;
    let (head, _) = stores.chain.finalized();
    let stored = stele_consensus::stored_height(&config.data.join("consensus"))
        .context("looking for final blocks that the ledger has not taken in")?;
    if stored > head.number {
        bail!(
            "block {stored} is final, and the ledger here ends at block {}: start the node so that it takes that in, then \
             stop it again",
            head.number
        );
    }
    Ok(stores)
}

fn read(file: &Path) -> Result<Recovery> {
    let text = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is no recovery", file.display()))
}

fn text(recovery: &Recovery) -> Result<String> {
    let mut text = serde_json::to_string_pretty(recovery)?;
    text.push('\n');
    Ok(text)
}

/// Written beside and renamed: a crash leaves the old text or the new one.
fn replace(file: &Path, text: &str) -> Result<()> {
    let mut part = file.to_owned().into_os_string();
    part.push(".part");
    let part = PathBuf::from(part);
    fs::write(&part, text)
        .and_then(|()| fs::rename(&part, file))
        .with_context(|| format!("writing {}", file.display()))
}

/// What people compare before they go on.
fn say(recovery: &Recovery, ended: &Epoch, json: bool, state: &str) {
    let needed = ended.set().majority();
    let signed = recovery.signatures.len();
    if json {
        output::json(&json!({
            "ok": true,
            "state": state,
            "document": recovery.digest(),
            "epoch": recovery.epoch,
            "height": recovery.height,
            "block": recovery.block,
            "validators": recovery.validators,
            "signatures": signed,
            "needed": needed,
        }));
        return;
    }
    output::line(format_args!("Document {}: {state}", recovery.digest()));
    output::line(format_args!(
        "  ends epoch {} at block {}, {}",
        recovery.epoch, recovery.height, recovery.block
    ));
    for seat in &recovery.validators {
        output::line(format_args!(
            "  seat: validator {} of {}",
            seat.key, seat.organization
        ));
    }
    let lost = ended.validators().iter();
    for seat in lost.filter(|seat| !recovery.validators.contains(seat)) {
        output::line(format_args!(
            "  lost: validator {} of {}",
            seat.key, seat.organization
        ));
    }
    output::line(format_args!("  {signed} signatures, {needed} are needed"));
}
