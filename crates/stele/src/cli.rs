//! The command line. Every command has `--help` and `--json`; exit code 0 is yes, 1 is no, 2 is "could not tell".

mod client;
mod consent;
mod demo;
mod dev;
mod export;
mod governance;
mod import;
mod mllp;
mod network;
mod node;
mod operator;
mod own_keys;
mod patients;
mod portal;
mod store;
mod up;
mod verify;

use std::{io::IsTerminal as _, net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};

use crate::{
    config::{Config, Listen, LogFormat},
    output,
};

/// A health-record ledger for consortia of hospitals.
#[derive(Debug, Parser)]
#[command(name = "stele", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start one member with everything embedded.
    Up(up::Up),
    /// Start a member of a consortium, as its configuration says.
    Node(node::NodeCommand),
    /// Make a consortium of several members.
    Network(network::NetworkCommand),
    /// Start a local chain for developing contracts, in memory.
    Dev(dev::Dev),
    /// Take in FHIR Bundles, resources and NDJSON (also .bz2 and .gz), in files and folders.
    Import(import::Import),
    /// HL7 v2 messages: send them, see what waits, write or drop what is parked.
    Mllp(mllp::MllpCommand),
    /// Print an access token for the operator of a data folder.
    Token(operator::Token),
    /// Organisations of this node.
    Org(operator::OrgCommand),
    /// Staff of an organisation.
    Practitioner(operator::PractitionerCommand),
    /// Patients.
    Patient(patients::PatientCommand),
    /// The web portal: invite people to it.
    Portal(portal::PortalCommand),
    /// Let somebody see or add to a patient's records.
    Grant(consent::Grant),
    /// End a grant: refused from its block on.
    Revoke(consent::Revoke),
    /// List who may see or add what, ended grants too.
    Grants(consent::Grants),
    /// Ask a patient for access.
    Request(consent::Request),
    /// List the requests made to a patient.
    Requests(consent::Requests),
    /// Approve a request.
    Approve(consent::Approve),
    /// Decline a request.
    Decline(consent::Decline),
    /// Records.
    Record(patients::RecordCommand),
    /// Take a patient's record out as one signed file.
    Export(export::Export),
    /// Who accessed a patient's records, refused attempts too; or a signed report of it.
    Audit(export::Audit),
    /// The consortium's decisions: propose, vote, show.
    Governance(governance::GovernanceCommand),
    /// Erase a record: its key, salt and pepper are destroyed, a tombstone is recorded.
    Erase(operator::Erase),
    /// Check a record, a proof file, a patient's log, the vault or the chain.
    Verify(verify::VerifyCommand),
    /// The index, which can be dropped and rebuilt.
    Index(store::IndexCommand),
    /// Copy a data folder into one file (the node must be stopped).
    Backup(store::Backup),
    /// Make a data folder from a backup; what was erased since stays erased.
    Restore(store::Restore),
    /// Show or check the configuration.
    Config(store::ConfigCommand),
    /// Keys that unlock the vault, and key files of patients who keep their own.
    Keys(store::KeysCommand),
}

/// Where the configuration comes from; every flag also has an environment variable.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Settings {
    /// Configuration file.
    #[arg(long, env = "STELE_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Data folder [default: ./stele-data].
    #[arg(long, env = "STELE_DATA", value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Key file that unlocks the vault [default: DATA.key].
    #[arg(long, env = "STELE_KEY_FILE", value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
}

/// Addresses a node listens on.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Addresses {
    /// Gateway and portal [default: 127.0.0.1:8480]; port 0 picks a free one.
    #[arg(long, env = "STELE_HTTP", value_name = "ADDR")]
    pub(crate) http: Option<SocketAddr>,
    /// Ethereum JSON-RPC, HTTP and WebSocket [default: 127.0.0.1:8545].
    #[arg(long, env = "STELE_RPC", value_name = "ADDR")]
    pub(crate) rpc: Option<SocketAddr>,
    /// Unix socket for JSON-RPC as well [default: none].
    #[arg(long, env = "STELE_IPC", value_name = "PATH")]
    pub(crate) ipc: Option<PathBuf>,
    /// OpenMetrics [default: 127.0.0.1:9464]; port 0 picks a free one.
    #[arg(long, env = "STELE_METRICS", value_name = "ADDR")]
    pub(crate) metrics: Option<SocketAddr>,
    /// HL7 v2 over MLLP, or `off` [default: 127.0.0.1:2575].
    #[arg(long, env = "STELE_MLLP", value_name = "ADDR")]
    pub(crate) mllp: Option<Listen>,
}

impl Settings {
    pub(crate) fn resolve(&self) -> Result<Config> {
        let mut config = match &self.config {
            Some(path) => Config::read(path)?,
            None if PathBuf::from("stele.toml").exists() => Config::read("stele.toml".as_ref())?,
            None => Config::default(),
        };
        if let Some(data) = &self.data {
            config.data.clone_from(data);
        }
        if let Some(key_file) = &self.key_file {
            config.key_file = Some(key_file.clone());
        }
        Ok(config)
    }
}

impl Addresses {
    pub(crate) fn apply(&self, config: &mut Config) {
        if let Some(http) = self.http {
            config.http = http;
        }
        if let Some(rpc) = self.rpc {
            config.rpc = rpc;
        }
        if let Some(ipc) = &self.ipc {
            config.rpc_ipc = Some(ipc.clone());
        }
        if let Some(metrics) = self.metrics {
            config.metrics = metrics;
        }
        if let Some(mllp) = self.mllp {
            config.mllp.address = mllp;
        }
    }
}

/// What a command answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Yes,
    No,
}

/// Parses the arguments and runs the command.
pub(crate) fn run() -> ExitCode {
    let cli = Cli::parse();
    let format = std::env::var("STELE_LOG_FORMAT")
        .ok()
        .and_then(|text| <LogFormat as clap::ValueEnum>::from_str(&text, true).ok())
        .unwrap_or_default();
    telemetry(format);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the runtime");
    let answer = runtime.and_then(|runtime| runtime.block_on(dispatch(cli.command)));
    match answer {
        Ok(Answer::Yes) => ExitCode::SUCCESS,
        Ok(Answer::No) => ExitCode::from(1),
        Err(error) => {
            output::note(format_args!("error: {error:#}"));
            ExitCode::from(2)
        }
    }
}

async fn dispatch(command: Command) -> Result<Answer> {
    match command {
        Command::Up(up) => up.run().await,
        Command::Node(node) => node.run().await,
        Command::Network(command) => command.run().await,
        Command::Dev(dev) => dev.run().await,
        Command::Import(import) => import.run().await,
        Command::Mllp(command) => command.run().await,
        Command::Token(token) => token.run().await,
        Command::Org(command) => command.run().await,
        Command::Practitioner(command) => command.run().await,
        Command::Patient(command) => command.run().await,
        Command::Portal(command) => command.run().await,
        Command::Grant(grant) => grant.run().await,
        Command::Revoke(revoke) => revoke.run().await,
        Command::Grants(grants) => grants.run().await,
        Command::Request(request) => request.run().await,
        Command::Requests(requests) => requests.run().await,
        Command::Approve(approve) => approve.run().await,
        Command::Decline(decline) => decline.run().await,
        Command::Record(command) => command.run().await,
        Command::Export(export) => export.run().await,
        Command::Audit(audit) => audit.run().await,
        Command::Governance(command) => command.run().await,
        Command::Erase(erase) => erase.run().await,
        Command::Verify(command) => command.run().await,
        Command::Index(command) => command.run().await,
        Command::Backup(backup) => backup.run(),
        Command::Restore(restore) => restore.run().await,
        Command::Config(command) => command.run(),
        Command::Keys(command) => command.run().await,
    }
}

/// Logs go to standard error; `STELE_LOG` chooses what (`info` by default, `stele_chain=debug` and the like).
fn telemetry(format: LogFormat) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("STELE_LOG").unwrap_or_else(|_| {
        tracing_subscriber::EnvFilter::new("warn,stele=info,stele_gateway=warn")
    });
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Colours are for people at a terminal: in a file or a journal they would be noise.
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    /// Every command says what it does, shows examples, answers in JSON, documents each of its flags, and stands in
    /// `docs/cli.md`; no flag takes a secret itself but the token, which may be `@FILE`.
    #[test]
    fn every_command_is_documented() {
        let document = include_str!("../../../docs/cli.md");
        let mut commands = vec![("stele".to_owned(), <Cli as clap::CommandFactory>::command())];
        let mut leaves = Vec::new();
        while let Some((path, command)) = commands.pop() {
            if command.has_subcommands() {
                for sub in command.get_subcommands() {
                    commands.push((format!("{path} {}", sub.get_name()), sub.clone()));
                }
                continue;
            }
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(help.contains(&format!("  {path}")), "{path} has no example");
            assert!(
                command.get_about().is_some(),
                "{path} does not say what it does"
            );
            let mut has_json = ["stele up", "stele node"].contains(&path.as_str());
            for flag in command.get_arguments() {
                let name = flag.get_id().as_str();
                has_json |= name == "json";
                assert!(flag.get_help().is_some(), "{path} does not document {name}");
                let is_secret = ["passphrase", "secret", "password", "key"].contains(&name);
                let names_a_key = path.ends_with("propose validator");
                assert!(!is_secret || names_a_key, "{path} takes {name} as a flag");
            }
            assert!(has_json, "{path} has no --json");
            assert!(
                document.contains(&format!("`{path}")),
                "docs/cli.md lacks {path}"
            );
            leaves.push(path);
        }
        let listed: Vec<&str> = document
            .lines()
            .filter_map(|line| line.strip_prefix("| `stele"))
            .map(|line| line.split('`').next().unwrap_or_default())
            .collect();
        assert_eq!(listed.len(), leaves.len(), "{listed:?}\n{leaves:?}");
    }
}
