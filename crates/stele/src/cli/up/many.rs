//! `stele up --members N`: a whole consortium on this machine, one process and one log a member, and one page that
//! shows them.

mod demo;
mod page;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpListener,
    process::{Child, Command},
};

use crate::{
    cli::{Answer, network},
    config::Config,
    node::{self, Ready},
    output,
};

/// How long a member may take to start.
const START: Duration = Duration::from_secs(120);
/// How long a member may take to stop.
const STOP: Duration = Duration::from_secs(30);

/// What is to be started.
pub(super) struct Many {
    pub(super) members: u16,
    pub(super) folder: PathBuf,
    pub(super) page: SocketAddr,
    pub(super) first_port: u16,
    pub(super) chain_id: u64,
    pub(super) demo: bool,
}

/// A member that runs as a process of its own.
struct Member {
    name: String,
    data: PathBuf,
    log: PathBuf,
    ready: Ready,
    child: Child,
}

/// What the page and the ready line say of a member.
#[derive(Clone, Debug, Serialize)]
struct Shown {
    name: String,
    process: u32,
    log: PathBuf,
    data: PathBuf,
    #[serde(flatten)]
    ready: Ready,
}

impl Many {
    pub(super) async fn run(self) -> Result<Answer> {
        if self.folder.join("genesis.json").exists() && self.folder.join("vault").exists() {
            bail!(
                "{} holds a single node; name another folder with --data",
                self.folder.display()
            );
        }
        if !self.folder.exists() {
            network::Init::here(self.members, &self.folder, self.first_port, self.chain_id)
                .make()
                .await?;
        }
        let configs = self.configs()?;
        let mut members = Vec::with_capacity(configs.len());
        let started = start_all(&configs, &mut members).await;
        let ended = match started {
            Ok(()) => self.serve(&members).await,
            Err(error) => Err(error),
        };
        stop_all(members).await;
        ended.map(|()| Answer::Yes)
    }

    /// The members' configurations in the folder: as many as were asked for.
    fn configs(&self) -> Result<Vec<(String, PathBuf)>> {
        let mut found = Vec::new();
        for number in 1.. {
            let name = format!("member-{number}");
            let path = self.folder.join(&name).join("stele.toml");
            if !path.exists() {
                break;
            }
            found.push((name, path));
        }
        if found.len() != usize::from(self.members) {
            bail!(
                "{} holds {} members, not {}; name another folder with --data",
                self.folder.display(),
                found.len(),
                self.members
            );
        }
        Ok(found)
    }

    async fn serve(&self, members: &[Member]) -> Result<()> {
        if self.demo {
            demo::load(&self.folder, members).await?;
        }
        let listener = TcpListener::bind(self.page)
            .await
            .with_context(|| format!("listening for the page on {}", self.page))?;
        let page = format!("http://localhost:{}", listener.local_addr()?.port());
        let shown: Arc<Vec<Shown>> = Arc::new(members.iter().map(Member::shown).collect());
        table(&shown, &page);
        output::json(&serde_json::json!({ "ready": true, "page": page, "members": &*shown }));
        let serving = axum::serve(listener, page::router(shown)).into_future();
        tokio::select! {
            ended = serving => ended.context("serving the page"),
            () = node::signal() => Ok(()),
        }
    }
}

impl Member {
    fn shown(&self) -> Shown {
        Shown {
            name: self.name.clone(),
            process: self.child.id().unwrap_or_default(),
            log: self.log.clone(),
            data: self.data.clone(),
            ready: self.ready.clone(),
        }
    }
}

/// Starts all members, then waits for each: they need each other to go on, not to start.
async fn start_all(configs: &[(String, PathBuf)], members: &mut Vec<Member>) -> Result<()> {
    let program = std::env::current_exe().context("finding this program")?;
    let mut starting = Vec::new();
    for (name, path) in configs {
        let config = Config::read(path)?;
        let log = path.with_file_name("log");
        let child = spawn(&program, path, &log)?;
        starting.push((name.clone(), config.data, log, child));
    }
    let mut failed = None;
    for (name, data, log, mut child) in starting {
        match ready(&mut child).await {
            Ok(ready) => members.push(Member {
                name,
                data,
                log,
                ready,
                child,
            }),
            Err(error) => {
                drop(child.start_kill());
                failed = Some(error.context(format!(
                    "{name} did not start; its log is {}",
                    log.display()
                )));
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

fn spawn(program: &Path, config: &Path, log: &Path) -> Result<Child> {
    let to = fs::File::options()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("opening {}", log.display()))?;
    Command::new(program)
        .arg("node")
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(to)
        // A group of its own: the signal of the terminal reaches this process, which stops them in order.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting {}", program.display()))
}

async fn ready(child: &mut Child) -> Result<Ready> {
    let stdout = child.stdout.take().context("its output")?;
    let mut lines = BufReader::new(stdout).lines();
    let line = tokio::time::timeout(START, lines.next_line())
        .await
        .with_context(|| format!("it is not ready after {} s", START.as_secs()))??
        .context("it ended")?;
    serde_json::from_str(&line).context("its ready line")
}

/// Asks every member to stop, then waits for all.
async fn stop_all(mut members: Vec<Member>) {
    for member in &mut members {
        let pid = member.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            // Gone already is stopped, too.
            let asked = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            if let Err(error) = asked {
                tracing::debug!(%error, "it is gone already");
            }
        }
    }
    for mut member in members {
        if tokio::time::timeout(STOP, member.child.wait())
            .await
            .is_err()
        {
            output::note(format_args!("{} does not stop; it is killed", member.name));
            drop(member.child.kill().await);
        }
    }
}

fn table(members: &[Shown], page: &str) {
    output::note(format_args!("\nA consortium of {}: {page}", members.len()));
    output::note(format_args!(
        "  {:<10} {:>8}  {:<24} {:<24} log",
        "member", "process", "gateway", "JSON-RPC"
    ));
    for one in members {
        output::note(format_args!(
            "  {:<10} {:>8}  {:<24} {:<24} {}",
            one.name,
            one.process,
            one.ready.http,
            one.ready.rpc,
            one.log.display()
        ));
    }
    output::note("Kill one: the others go on. Its process is started again with `stele node`.\n");
}
