//! Servers under measurement: started on free ports with folders of their own, asked what they cost, stopped.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

/// How long a server may take to be ready.
pub(crate) const READY_S: u64 = 60;
/// Clock ticks a second in `/proc/*/stat`: the same on every Linux since 2.6.
const TICKS_A_SECOND: f64 = 100.0;

/// A process under measurement; killed when dropped.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let child = command
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        Ok(Self { child })
    }

    /// The first line of standard output that is a JSON object.
    pub(crate) fn ready_line(&mut self) -> Result<Value> {
        let output = self.child.stdout.take().context("its output is not read")?;
        let (sender, receiver) = std::sync::mpsc::channel();
        // Goes on reading to the end, so that the server never writes into a closed pipe.
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if line.starts_with('{') {
                    let _ = sender.send(line);
                }
            }
        });
        let line = receiver
            .recv_timeout(Duration::from_secs(READY_S))
            .context("it did not say that it is ready")?;
        serde_json::from_str(&line).context("its first line is not JSON")
    }

    /// CPU seconds used so far, of all threads, in the program and in the kernel for it.
    pub(crate) fn cpu_s(&self) -> Result<f64> {
        let path = format!("/proc/{}/stat", self.child.id());
        let stat = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        // The name in brackets may hold anything; what follows is numbers. utime and stime are fields 14 and 15.
        let (_, fields) = stat.rsplit_once(')').context("reading a process's times")?;
        let mut times = fields.split_whitespace().skip(11).map(str::parse::<f64>);
        let (Some(Ok(user)), Some(Ok(system))) = (times.next(), times.next()) else {
            bail!("reading a process's times");
        };
        Ok((user + system) / TICKS_A_SECOND)
    }

    /// Memory held now, in megabytes (10^6 bytes).
    pub(crate) fn memory_mb(&self) -> Result<f64> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
        Ok(kilobytes.context("reading a process's memory")? * 1024.0 / 1e6)
    }

    /// Asks it to stop, as an operator would, and waits.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let id = self.child.id().to_string();
        let status = Command::new("kill")
            .arg(&id)
            .status()
            .context("stopping a server")?;
        if !status.success() {
            bail!("process {id} is gone before it was stopped");
        }
        self.child.wait().context("waiting for a server to stop")?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have stopped by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A `stele` node with its data folder.
pub(crate) struct Node {
    pub(crate) process: Process,
    pub(crate) http: String,
    pub(crate) rpc: String,
    binary: PathBuf,
    folder: TempDir,
}

impl Node {
    /// An empty node.
    pub(crate) fn start(binary: &Path, more: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir().context("making a data folder")?;
        let any = "127.0.0.1:0";
        let mut process = Process::start(
            Command::new(binary)
                .args(["up", "--http", any, "--rpc", any, "--data"])
                .arg(folder.path().join("data"))
                .args(more)
                .env("STELE_LOG", "warn")
                .stdout(Stdio::piped()),
        )?;
        let ready = process.ready_line().context("stele up")?;
        let at = |name: &str| {
            let url = ready.get(name).and_then(Value::as_str).map(str::to_owned);
            url.with_context(|| format!("the ready line has no {name}"))
        };
        Ok(Self {
            http: at("http")?,
            rpc: at("rpc")?,
            process,
            binary: binary.to_owned(),
            folder,
        })
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Runs `stele` on the node's data folder; what it printed.
    pub(crate) fn stele(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new(&self.binary)
            .args(arguments)
            .arg("--data")
            .arg(self.data())
            .stderr(Stdio::inherit())
            .output()
            .context("running stele")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stdout);
            bail!(
                "stele {} ended with {}: {said}",
                arguments.join(" "),
                output.status
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// As [`Node::stele`] with `--json`.
    pub(crate) fn stele_json(&self, arguments: &[&str]) -> Result<Value> {
        let mut arguments = arguments.to_vec();
        arguments.push("--json");
        let text = self.stele(&arguments)?;
        serde_json::from_str(&text).with_context(|| format!("stele {}", arguments.join(" ")))
    }

    /// Stops it; the bytes that parts of its data folder take on disk.
    pub(crate) fn stop(mut self, parts: &[&str]) -> Result<Vec<u64>> {
        self.process.stop()?;
        let data = self.data();
        parts
            .iter()
            .map(|part| bytes_on_disk(&data.join(part)))
            .collect()
    }
}

/// When a development chain makes a block.
#[derive(Clone, Copy)]
pub(crate) enum Mining {
    /// For each transaction.
    Instant,
    /// Once a second, with all that came.
    EverySecond,
}

/// A peer that listens on a port: started, and waited for.
pub(crate) struct PeerServer {
    pub(crate) process: Process,
    pub(crate) url: String,
    /// What its callers show; empty where it asks for nothing.
    pub(crate) token: String,
}

impl PeerServer {
    /// Foundry's development chain.
    pub(crate) async fn anvil(peers: &Path, chain_id: u64, mining: Mining) -> Result<Self> {
        let binary = peers.join("node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil");
        let port = free_port()?;
        let mining: &[&str] = match mining {
            // The states of old blocks, which each block would keep whole, are left out.
            Mining::Instant => &["--prune-history"],
            Mining::EverySecond => &["--block-time", "1"],
        };
        let process = Process::start(
            Command::new(binary)
                .args(["--silent", "--accounts", "1", "--order", "fifo"])
                .args(mining)
                .args([
                    "--gas-price",
                    "0",
                    "--block-base-fee-per-gas",
                    "0",
                    "--disable-min-priority-fee",
                ])
                .args([
                    "--gas-limit",
                    "1000000000",
                    "--chain-id",
                    &chain_id.to_string(),
                ])
                .args(["--port", &port.to_string()])
                .stdout(Stdio::null()),
        )?;
        answers(port).await.context("anvil")?;
        let url = format!("http://127.0.0.1:{port}");
        let token = String::new();
        Ok(Self {
            process,
            url,
            token,
        })
    }

    /// Hardhat's network, with a block a second.
    pub(crate) async fn hardhat(peers: &Path, clients: &Path, chain_id: u64) -> Result<Self> {
        let port = free_port()?;
        let config = fs::canonicalize(peers.join("hardhat.config.cjs"))
            .context("Hardhat's configuration")?;
        let process = Process::start(
            Command::new("node")
                .arg("node_modules/hardhat/internal/cli/bootstrap.js")
                .arg("--config")
                .arg(config)
                .args(["node", "--port", &port.to_string()])
                .env("BENCH_CHAIN_ID", chain_id.to_string())
                .env("HARDHAT_DISABLE_TELEMETRY_PROMPT", "true")
                .current_dir(clients)
                .stdout(Stdio::null()),
        )?;
        answers(port).await.context("Hardhat")?;
        Ok(Self {
            process,
            url: format!("http://127.0.0.1:{port}"),
            token: String::new(),
        })
    }

    /// Medplum's FHIR router, in memory.
    pub(crate) fn medplum(peers: &Path) -> Result<Self> {
        Self::script(peers, "medplum.mjs", &[])
    }

    /// A central store before a PostgreSQL on `port`.
    pub(crate) fn central(peers: &Path, port: u16) -> Result<Self> {
        Self::script(peers, "central.mjs", &[("PGPORT", port.to_string())])
    }

    /// A script that says on which port it listens, and which token it wants.
    fn script(peers: &Path, name: &str, settings: &[(&str, String)]) -> Result<Self> {
        let mut process = Process::start(
            Command::new("node")
                .arg(name)
                .envs(settings.iter().map(|(name, value)| (name, value)))
                .current_dir(peers)
                .stdout(Stdio::piped()),
        )?;
        let ready = process.ready_line().with_context(|| name.to_owned())?;
        let port = ready.get("port").and_then(Value::as_u64);
        let port = port.with_context(|| format!("{name} gave no port"))?;
        let token = ready.get("token").and_then(Value::as_str);
        Ok(Self {
            process,
            url: format!("http://127.0.0.1:{port}"),
            token: token.unwrap_or_default().to_owned(),
        })
    }
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("looking for a free port")?;
    Ok(listener
        .local_addr()
        .context("looking for a free port")?
        .port())
}

/// Waits until somebody listens on a port.
pub(crate) async fn answers(port: u16) -> Result<()> {
    let started = Instant::now();
    while tokio::net::TcpStream::connect(("127.0.0.1", port))
        .await
        .is_err()
    {
        if started.elapsed().as_secs() > READY_S {
            bail!("nobody listens on port {port} after {READY_S} s");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Bytes that a folder takes on disk: blocks in use, not lengths, so that files with holes count as what they are.
pub(crate) fn bytes_on_disk(path: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let what =
        fs::symlink_metadata(path).with_context(|| format!("looking at {}", path.display()))?;
    let mut bytes = what.blocks() * 512;
    if what.is_dir() {
        let entries = fs::read_dir(path).with_context(|| format!("listing {}", path.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("listing {}", path.display()))?;
            bytes += bytes_on_disk(&entry.path())?;
        }
    }
    Ok(bytes)
}
