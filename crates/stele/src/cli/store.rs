//! Commands on a data folder whose node is stopped: index, backup, restore, configuration, keys.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use serde_json::json;
use stele_core::{
    account::AccountKey,
    crypto::{keystore::Unlock, os_rng},
    id::RecordId,
    time::{Clock as _, SystemClock},
};
use stele_service::{
    Service,
    upkeep::{Done, Task, Upkeep},
};
use stele_vault::keys::{RootKey, key_file::PatientKeys};
use zeroize::Zeroizing;

use super::{Answer, Settings};
use crate::{
    config::Config,
    node::{Stores, gossip, ledger::NodeLedger},
    output,
};

/// The index, which can be dropped and rebuilt.
#[derive(Debug, Args)]
pub(crate) struct IndexCommand {
    #[command(subcommand)]
    what: IndexWhat,
}

#[derive(Debug, Subcommand)]
enum IndexWhat {
    /// Drop what is found by search and what was followed from the chain, and fill both again.
    #[command(after_help = "Examples:
  stele index rebuild --data stele-data")]
    Rebuild(Rebuild),
}

#[derive(Debug, Args)]
struct Rebuild {
    #[command(flatten)]
    settings: Settings,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

impl IndexCommand {
    pub(crate) async fn run(self) -> Result<Answer> {
        let IndexWhat::Rebuild(rebuild) = self.what;
        let config = rebuild.settings.resolve()?;
        let stores = Stores::open(&config, None).await?;
        if stores.vault.custodian().current().is_some() && config.network.is_none() {
            bail!(
                "the peppers of these records are shared with other members: name the member's configuration, \
                 --config stele.toml, so that they can be asked"
            );
        }
        stores
            .index
            .chain()
            .clear()
            .context("emptying the chain index")?;
        let service = offline(&stores)?;
        crate::node::reach_members_of(&config, &stores, &service)?;
        let bar = indicatif::ProgressBar::new(0);
        let progress = bar.clone();
        let done = service
            .rebuild_search(move |done, all| {
                progress.set_length(all);
                progress.set_position(done);
            })
            .await?;
        bar.finish_and_clear();
        if rebuild.json {
            output::json(&done);
        } else {
            output::line(format_args!(
                "{} versions of {} logs indexed, {} left out",
                done.versions, done.logs, done.skipped
            ));
        }
        Ok(Answer::Yes)
    }
}

/// The use cases over stores whose node is stopped: for maintenance, which sends no transaction. The ledger does
/// not move, so its age says nothing.
pub(crate) fn offline(stores: &Stores) -> Result<Arc<Service>> {
    let ledger = NodeLedger::new(
        Arc::clone(&stores.chain),
        Arc::clone(&stores.index),
        Arc::clone(&stores.vault),
        Arc::new(gossip::channel(Vec::new()).0),
    );
    ledger
        .catch_up()
        .context("bringing the index to the ledger")?;
    stores.vault.custodian().set_staleness_ms(u64::MAX);
    Ok(Service::new(
        ledger,
        Arc::clone(&stores.vault),
        Arc::clone(&stores.index),
        Arc::new(SystemClock),
        stores.organization,
    ))
}

/// Copy a data folder into one file (the node must be stopped).
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stele backup --out stele-2026-11-22.tar.gz")]
pub(crate) struct Backup {
    #[command(flatten)]
    settings: Settings,
    /// The backup, a compressed tar file. The key file is not in it: keep that apart.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

/// Files of a data folder that are of one run only.
const TRANSIENT: &[&str] = &["lock", "ready.json", crate::node::spare::NAME];

impl Backup {
    pub(crate) fn run(self) -> Result<Answer> {
        let config = self.settings.resolve()?;
        let _lock = crate::node::lock(&config.data)?;
        let part = self.out.with_extension("part");
        let file = fs::File::create(&part).with_context(|| format!("making {}", part.display()))?;
        let encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        let mut archive = tar::Builder::new(encoder);
        for entry in fs::read_dir(&config.data)
            .with_context(|| format!("listing {}", config.data.display()))?
        {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_owned();
            if TRANSIENT.iter().any(|transient| name == *transient) {
                continue;
            }
            let added = if path.is_dir() {
                archive.append_dir_all(&name, &path)
            } else {
                archive.append_path_with_name(&path, &name)
            };
            added.with_context(|| format!("adding {}", path.display()))?;
        }
        let mut file = archive
            .into_inner()
            .and_then(flate2::write::GzEncoder::finish)?;
        file.flush()
            .and_then(|()| file.sync_all())
            .context("writing the backup")?;
        fs::rename(&part, &self.out).with_context(|| format!("naming {}", self.out.display()))?;
        let size_bytes = fs::metadata(&self.out)?.len();
        let name = self.out.file_name().unwrap_or_default().to_string_lossy();
        let words = format!("{name}, {} MB", size_bytes >> 20);
        note_upkeep(&config, Task::Backup, true, words);
        if self.json {
            output::json(&json!({ "ok": true, "file": self.out, "bytes": size_bytes }));
        } else {
            output::line(format_args!(
                "{} ({} MB)",
                self.out.display(),
                size_bytes >> 20
            ));
        }
        Ok(Answer::Yes)
    }
}

/// Make a data folder from a backup; what was erased since stays erased.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stele restore --from stele-2026-11-22.tar.gz --data stele-data")]
pub(crate) struct Restore {
    #[command(flatten)]
    settings: Settings,
    /// The backup.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// List of erased records [default: DATA.tombstones, which a node keeps beside its data folder].
    #[arg(long, value_name = "FILE")]
    tombstones: Option<PathBuf>,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

impl Restore {
    pub(crate) async fn run(self) -> Result<Answer> {
        let config = self.settings.resolve()?;
        if config.data.exists() && fs::read_dir(&config.data)?.next().is_some() {
            bail!("{} is not empty; move it away first", config.data.display());
        }
        let file = fs::File::open(&self.from)
            .with_context(|| format!("opening {}", self.from.display()))?;
        fs::create_dir_all(&config.data)
            .with_context(|| format!("making {}", config.data.display()))?;
        tar::Archive::new(flate2::read::GzDecoder::new(file))
            .unpack(&config.data)
            .with_context(|| format!("unpacking {}", self.from.display()))?;
        crate::node::recover::note(&config.data)?;
        let path = self.tombstones.unwrap_or_else(|| config.tombstones_file());
        let records = tombstones(&path)?;
        if !records.is_empty() {
            let stores = Stores::open(&config, None).await?;
            offline(&stores)?.apply_tombstones(&records).await?;
        }
        if self.json {
            output::json(&json!({ "ok": true, "data": config.data, "erased": records.len() }));
        } else {
            output::line(format_args!(
                "{} restored; {} erased records stay erased",
                config.data.display(),
                records.len()
            ));
        }
        Ok(Answer::Yes)
    }
}

fn tombstones(path: &Path) -> Result<Vec<RecordId>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    text.lines()
        .map(|line| {
            line.trim()
                .parse()
                .with_context(|| path.display().to_string())
        })
        .collect()
}

/// Show or check the configuration.
#[derive(Debug, Args)]
pub(crate) struct ConfigCommand {
    #[command(subcommand)]
    what: ConfigWhat,
}

#[derive(Debug, Subcommand)]
enum ConfigWhat {
    /// Print the configuration in force, as a `stele.toml`.
    #[command(after_help = "Examples:
  stele config show > stele.toml")]
    Show {
        #[command(flatten)]
        settings: Settings,
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
    /// Say whether a configuration file is good.
    #[command(after_help = "Examples:
  stele config check --config stele.toml")]
    Check {
        #[command(flatten)]
        settings: Settings,
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
}

impl ConfigCommand {
    pub(crate) fn run(self) -> Result<Answer> {
        match self.what {
            ConfigWhat::Show { settings, json } => {
                let config = settings.resolve()?;
                if json {
                    output::json(&config);
                } else {
                    output::line(toml::to_string_pretty(&config)?.trim_end());
                }
                Ok(Answer::Yes)
            }
            ConfigWhat::Check { settings, json } => {
                let checked = settings.resolve().and_then(|config| config.check());
                let what = match &checked {
                    Ok(()) => "The configuration is good.".to_owned(),
                    Err(error) => format!("{error:#}"),
                };
                if json {
                    output::json(&json!({ "ok": checked.is_ok(), "what": what }));
                } else {
                    output::line(what);
                }
                Ok(if checked.is_ok() {
                    Answer::Yes
                } else {
                    Answer::No
                })
            }
        }
    }
}

/// Keys that unlock the vault, and key files of patients who keep their own.
#[derive(Debug, Args)]
pub(crate) struct KeysCommand {
    #[command(subcommand)]
    what: KeysWhat,
}

#[derive(Debug, Subcommand)]
enum KeysWhat {
    /// Unlock the vault with another key file from now on (the node must be stopped).
    #[command(after_help = "Examples:
  stele keys rotate --to /run/secrets/stele-new.key")]
    Rotate {
        #[command(flatten)]
        settings: Settings,
        /// The new key file; made if it does not exist.
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make a key file for a patient who keeps their own keys; the passphrase is read from a file.
    #[command(after_help = "Examples:
  stele keys patient --out p1.key --passphrase-file p1.txt")]
    Patient {
        /// The key file.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// File with the passphrase.
        #[arg(long, value_name = "FILE", env = "STELE_PATIENT_PASSPHRASE_FILE")]
        passphrase_file: PathBuf,
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
}

impl KeysCommand {
    pub(crate) async fn run(self) -> Result<Answer> {
        match self.what {
            KeysWhat::Rotate { settings, to, json } => {
                let config = settings.resolve()?;
                let old = config.unlock(false)?;
                let token_key = crate::config::token_key(&config.data, &old, false)?;
                let stores = Stores::open(&config, None).await?;
                let new = if to.exists() {
                    stele_vault::unlock::read_key_file(&to)?
                } else {
                    stele_vault::unlock::create_key_file(&to)?
                };
                stores
                    .vault
                    .change_unlock(&new)
                    .context("changing the key")?;
                crate::config::write_token_key(&config.data, &new, &token_key)?;
                let name = to.file_name().unwrap_or_default().to_string_lossy();
                note_upkeep(&config, Task::KeyRotation, true, name.into_owned());
                if json {
                    output::json(&json!({ "file": to, "data": config.data }));
                } else {
                    output::line(format_args!(
                        "{} now opens {}",
                        to.display(),
                        config.data.display()
                    ));
                }
                Ok(Answer::Yes)
            }
            KeysWhat::Patient {
                out,
                passphrase_file,
                json,
            } => {
                if out.exists() {
                    bail!("{} exists; key files are never replaced", out.display());
                }
                let unlock = passphrase(&passphrase_file)?;
                let key = AccountKey::random(&mut os_rng())?;
                let keys = PatientKeys {
                    account: key.address(),
                    root: RootKey::random(&mut os_rng()),
                    signing: key.secret().clone(),
                };
                let wrapped = keys.wrap(&unlock, &mut os_rng())?;
                fs::write(&out, wrapped).with_context(|| format!("writing {}", out.display()))?;
                let made = json!({ "account": key.address(), "file": out });
                super::operator::print(&made, json);
                Ok(Answer::Yes)
            }
        }
    }
}

/// Notes for the administrator's page that a task was done. The task itself stands, whatever becomes of the note.
pub(super) fn note_upkeep(config: &Config, task: Task, ok: bool, words: String) {
    let at = SystemClock.now();
    let path = config.upkeep_file();
    if let Err(error) = Upkeep::note(&path, task, Done { at, ok, words }) {
        output::note(format_args!("{} was not written: {error}", path.display()));
    }
}

/// The passphrase in a file, for a patient's key file.
pub(crate) fn passphrase(path: &Path) -> Result<Unlock> {
    let text = Zeroizing::new(
        fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?,
    );
    let trimmed = text.trim_end_matches(['\r', '\n']);
    if trimmed.len() < 8 {
        bail!(
            "the passphrase in {} is shorter than 8 characters",
            path.display()
        );
    }
    Ok(Unlock::Passphrase(Zeroizing::new(trimmed.to_owned())))
}
