//! Several members on this machine: how many grants and records a second, how soon they are final, and what it costs each.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use alloy_primitives::{Address, B256, B512, Bytes, TxKind, aliases::U40, keccak256};
use alloy_sol_types::SolCall as _;
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use stele_core::{
    abi::{consent::IConsent, identity::IIdentity},
    account::AccountKey,
    certificate::{CommitCertificate, ValidatorSignature},
    id::{CONSENT, IDENTITY},
};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::{
    Bench,
    anchoring::{self, Sender},
    ethereum::{key, sign},
    load::{Took, count, milliseconds},
    process::Process,
    relay::Relay,
    report::{Benchmark, Figure},
    rpc::Rpc,
};

/// Patients that grant at the same time, and how many grants each sends before it waits for the last of them.
const PATIENTS: usize = 100;
const WINDOW: usize = 8;
/// Between two looks at whether the last of them is final.
const LOOK: Duration = Duration::from_millis(100);
/// Ports that a member takes in a row, and which of them its validator listens on.
const PORTS: u16 = 5;
const LISTEN: u16 = 1;
/// The key of the organisation that the load's patients are of, and of the one whose grants are timed one by one.
const ORGANIZATION: usize = 1_000_000;
const PROBE: usize = PATIENTS;
/// A patient's first number: the one before let the organisation write.
const FIRST: usize = 1;

/// One point of the curve.
struct Setting {
    members: usize,
    /// One way, between any two members.
    delay: Duration,
    /// How long grants are sent.
    grants: Duration,
    /// Batches of leaves that are anchored.
    batches: usize,
}

/// What was measured at it.
struct Measured {
    grants_a_second: f64,
    final_ms: Took,
    cpu_us_a_grant: f64,
    records_a_second: f64,
    memory_mb: f64,
}

pub(crate) async fn run(bench: &Bench) -> Result<Benchmark> {
    let mut figures = Vec::new();
    for setting in curve(bench) {
        let name = setting.name();
        bench.doing(&name);
        let measured = measure(bench, &setting).await.context(name)?;
        bench.doing(&format!(
            "{:.0} grants/s, {:.0} records/s",
            measured.grants_a_second, measured.records_a_second
        ));
        figures.extend(setting.figures(&measured));
    }
    Ok(Benchmark {
        name: "consortium",
        about: format!(
            "All members, and the client, on this machine's processors: a member on a machine of its own has them for \
             itself. {PATIENTS} patients sign grants and send each to a member of theirs, {WINDOW} ahead of what is final; \
             meanwhile one more sends one after the other, which is the time to finality (looked at each 5 ms). Then \
             batches of 256 leaves are anchored at one member. Delay is that of a relay between any two members, each way.",
        ),
        figures,
    })
}

/// Four members are measured for a minute; the others say how it goes on.
fn curve(bench: &Bench) -> Vec<Setting> {
    let point = |members, delay_ms, seconds| Setting {
        members,
        delay: Duration::from_millis(delay_ms),
        grants: Duration::from_secs(if bench.smoke { 3 } else { seconds }),
        batches: bench.size(400, 8),
    };
    if bench.smoke {
        return vec![point(1, 0, 3), point(4, 20, 3)];
    }
    vec![
        point(1, 0, 15),
        point(4, 0, 60),
        point(4, 20, 15),
        point(7, 0, 15),
        point(7, 20, 15),
        point(13, 0, 15),
        point(13, 20, 15),
    ]
}

impl Setting {
    fn name(&self) -> String {
        match (self.members, self.delay.as_millis()) {
            (1, _) => "one member".to_owned(),
            (members, 0) => format!("{members} members"),
            (members, delay) => format!("{members} members {delay} ms apart"),
        }
    }

    fn figures(&self, measured: &Measured) -> Vec<Figure> {
        let name = self.name();
        let figure = |what: &str, value, unit| Figure::new(format!("{name}: {what}"), value, unit);
        let mut rate = figure("grants", measured.grants_a_second, "grants/s");
        let mut records = figure("records anchored", measured.records_a_second, "records/s");
        let mut p95 = figure("final, p95", measured.final_ms.p95_ms(), "ms");
        let mut memory = figure("memory of the largest member", measured.memory_mb, "MB");
        let mut cpu = figure("CPU of a grant and member", measured.cpu_us_a_grant, "µs");
        if self.members == 4 && self.delay.is_zero() {
            rate = rate.at_least(1_000.0).rows("NFR-SCA2");
            records = records.at_least(30_000.0).rows("NFR-SCA3");
            p95 = p95.at_most(1_000.0);
            memory = memory.at_most(400.0);
            cpu = cpu.at_most(250.0);
        }
        let p50 = figure("final, p50", measured.final_ms.p50_ms(), "ms");
        let bytes = count(certificate_bytes(self.members));
        let certificate = figure("a certificate", bytes, "bytes");
        vec![rate, p50, p95, cpu, memory, records, certificate]
    }
}

/// Bytes of a certificate with the fewest signatures that so many validators need.
fn certificate_bytes(validators: usize) -> usize {
    let quorum = validators - (validators - 1) / 3;
    let signatures = (0..quorum).filter_map(|validator| {
        Some(ValidatorSignature {
            validator: u16::try_from(validator).ok()?,
            signature: B512::repeat_byte(0xff),
        })
    });
    let certificate = CommitCertificate {
        epoch: 1,
        view: 100_000,
        parent_view: 99_999,
        block: B256::repeat_byte(0xff),
        signatures: signatures.collect(),
    };
    certificate.encode().len()
}

async fn measure(bench: &Bench, setting: &Setting) -> Result<Measured> {
    let consortium = Consortium::start(bench, setting).await?;
    let organization = key(ORGANIZATION)?;
    consortium.admit(organization.address()).await?;
    let rpc = consortium.rpc(0)?;
    let patients = (0..=PROBE).map(key).collect::<Result<Vec<_>>>()?;
    let mut sender = Sender::new(rpc.clone(), organization).await?;
    anchoring::admit(&mut sender, &patients).await?;

    let (cpu, started) = (consortium.cpu_s()?, Instant::now());
    let (granted, final_ms) = grant(&consortium, patients, setting.grants).await?;
    let wall_s = started.elapsed().as_secs_f64();
    let cpu_s = consortium.cpu_s()? - cpu;

    let logs: Vec<Address> = (0..PATIENTS)
        .map(|number| key(number).map(|key| key.address()))
        .collect::<Result<_>>()?;
    let leaves = anchoring::leaves(logs.len(), setting.batches);
    let signed = (0..setting.batches)
        .map(|batch| sender.sign_batch(batch, &logs, &leaves))
        .collect::<Result<Vec<_>>>()?;
    let began = Instant::now();
    sender.send_all(signed).await?;
    let records = count(setting.batches * anchoring::LEAVES);
    Ok(Measured {
        grants_a_second: count(granted) / wall_s,
        final_ms,
        cpu_us_a_grant: cpu_s * 1e6 / count(granted) / count(setting.members),
        records_a_second: records / began.elapsed().as_secs_f64(),
        memory_mb: consortium.memory_mb()?,
    })
}

/// Grants of all patients until time is over: how many became final, and how long one takes meanwhile.
async fn grant(
    consortium: &Consortium,
    mut patients: Vec<AccountKey>,
    time: Duration,
) -> Result<(usize, Took)> {
    let over = Arc::new(AtomicBool::new(false));
    let probe = patients.pop().context("somebody to time")?;
    let mut running = JoinSet::new();
    for (number, patient) in patients.into_iter().enumerate() {
        let (rpc, over) = (consortium.rpc(number)?, Arc::clone(&over));
        running.spawn(async move {
            let mut nonce = FIRST;
            while !over.load(Ordering::Relaxed) {
                let mut last = B256::ZERO;
                for _ in 0..WINDOW {
                    last = rpc.send(&signed_grant(&patient, nonce)?).await?;
                    nonce += 1;
                }
                while rpc.receipt(last).await?.is_none() {
                    tokio::time::sleep(LOOK).await;
                }
            }
            anyhow::Ok(nonce - FIRST)
        });
    }
    let rpc = consortium.rpc(PROBE)?;
    let mut timed = Vec::new();
    let ends = Instant::now() + time;
    let mut nonce = FIRST;
    while Instant::now() < ends {
        let grant = signed_grant(&probe, nonce)?;
        let began = Instant::now();
        let hash = rpc.send(&grant).await?;
        while rpc.receipt(hash).await?.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        timed.push(milliseconds(began.elapsed()));
        nonce += 1;
        if let Some(ended) = running.try_join_next() {
            // Nobody ends by itself but by an error.
            ended.context("a patient stopped")??;
        }
    }
    over.store(true, Ordering::Relaxed);
    let mut granted = timed.len();
    while let Some(done) = running.join_next().await {
        granted += done.context("a patient stopped")??;
    }
    Ok((granted, Took::of(timed, time.as_secs_f64())))
}

/// A grant to somebody new: patient and number say to whom.
fn signed_grant(patient: &AccountKey, nonce: usize) -> Result<Bytes> {
    let mut whom = patient.address().to_vec();
    whom.extend(nonce.to_be_bytes());
    let call = IConsent::grantCall {
        grantee: Address::from_word(keccak256(whom)),
        terms: IConsent::Terms {
            categories: 1,
            permissions: 1,
            purposes: 1,
            notBefore: U40::ZERO,
            expires: U40::from(4_000_000_000_u64),
            recordsFrom: 0,
            recordsTo: 1_000,
        },
        envelopeDigest: B256::repeat_byte(3),
        request: 0,
    };
    let input = call.abi_encode().into();
    sign(patient, nonce, TxKind::Call(CONSENT), input, 1_000_000)
}

/// Members as processes of their own, with relays between them when they are to be far apart.
struct Consortium {
    binary: PathBuf,
    members: Vec<Process>,
    rpc: Vec<Rpc>,
    _relays: Vec<Relay>,
    /// Last: members that still run would miss their files.
    folder: TempDir,
}

impl Consortium {
    async fn start(bench: &Bench, setting: &Setting) -> Result<Self> {
        let folder = tempfile::tempdir().context("making a folder")?;
        let mut consortium = Self {
            binary: bench.stele.clone(),
            folder,
            members: Vec::new(),
            rpc: Vec::new(),
            _relays: Vec::new(),
        };
        let members = setting.members;
        let first = free_ports(PORTS * u16::try_from(members)?)?;
        consortium.stele(
            None,
            &[
                "network",
                "init",
                "--members",
                &members.to_string(),
                "--out",
                &consortium.net().display().to_string(),
                "--port",
                &first.to_string(),
            ],
        )?;
        if !setting.delay.is_zero() {
            consortium.move_apart(members, first, setting.delay).await?;
        }
        for number in 0..members {
            let mut process = Process::start(
                Command::new(&consortium.binary)
                    .args(["node", "--config"])
                    .arg(consortium.member(number).join("stele.toml"))
                    .env("STELE_LOG", "error")
                    .stdout(Stdio::piped()),
            )?;
            let ready = process.ready_line()?;
            let rpc = ready.get("rpc").and_then(Value::as_str);
            consortium
                .rpc
                .push(Rpc::new(rpc.context("no address for JSON-RPC")?));
            consortium.members.push(process);
        }
        Ok(consortium)
    }

    /// Puts a relay between each two, one for each direction in which a connection can be made.
    async fn move_apart(&mut self, members: usize, first: u16, delay: Duration) -> Result<()> {
        let validator = |number: usize| -> Result<SocketAddr> {
            let port = first + PORTS * u16::try_from(number)? + LISTEN;
            Ok(SocketAddr::from(([127, 0, 0, 1], port)))
        };
        for from in 0..members {
            let path = self.member(from).join("stele.toml");
            let mut config = fs::read_to_string(&path)?;
            for to in (0..members).filter(|to| *to != from) {
                let relay = Relay::new(validator(to)?, delay).await?;
                let (near, far) = (relay.address(), validator(to)?);
                ensure!(
                    config.contains(&format!("\"{far}\"")),
                    "member without an address"
                );
                config = config.replace(&format!("\"{far}\""), &format!("\"{near}\""));
                self._relays.push(relay);
            }
            fs::write(&path, config)?;
        }
        Ok(())
    }

    fn net(&self) -> PathBuf {
        self.folder.path().join("net")
    }

    fn member(&self, number: usize) -> PathBuf {
        self.net().join(format!("member-{}", number + 1))
    }

    /// Runs the program, for a member's folder if there is one; what it printed.
    fn stele(&self, member: Option<usize>, arguments: &[&str]) -> Result<Value> {
        let mut command = Command::new(&self.binary);
        command.args(arguments).arg("--json");
        if let Some(number) = member {
            command.env("STELE_DATA", self.member(number).join("data"));
        }
        let output = command.output().context("running stele")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "stele {arguments:?}: {said}");
        serde_json::from_slice(&output.stdout).with_context(|| format!("stele {arguments:?}"))
    }

    /// An organisation becomes a member by the others' votes.
    async fn admit(&self, organization: Address) -> Result<()> {
        let account = organization.to_string();
        let propose = ["governance", "propose", "admit", &account];
        let proposed = self.stele(Some(0), &propose)?;
        let id = proposed.get("proposal").context("no proposal")?.to_string();
        for member in 1..self.members.len() {
            let vote = ["governance", "vote", &id, "yes"];
            let mut left = 100;
            // It may not have come to this member yet, and is carried out before all have voted.
            while let Err(error) = self.stele(Some(member), &vote) {
                if is_active(&self.rpc(member)?, organization).await? {
                    return Ok(());
                }
                left -= 1;
                ensure!(left > 0, "member {member} can't vote: {error:#}");
                tokio::time::sleep(LOOK).await;
            }
        }
        Ok(())
    }

    /// JSON-RPC of a member: whoever has this number always speaks to the same one.
    fn rpc(&self, number: usize) -> Result<Rpc> {
        let at = number.checked_rem(self.rpc.len()).context("nobody")?;
        self.rpc.get(at).cloned().context("nobody")
    }

    /// CPU seconds of all members.
    fn cpu_s(&self) -> Result<f64> {
        self.members.iter().map(Process::cpu_s).sum()
    }

    /// Memory of the member that takes most.
    fn memory_mb(&self) -> Result<f64> {
        let mut each = self.members.iter().map(Process::memory_mb);
        each.try_fold(0.0, |most, one| Ok(f64::max(most, one?)))
    }
}

async fn is_active(rpc: &Rpc, who: Address) -> Result<bool> {
    let asked = Bytes::from(IIdentity::isActiveCall { who }.abi_encode());
    let answer = rpc
        .call(
            "eth_call",
            &json!([{"to": IDENTITY, "data": asked}, "latest"]),
        )
        .await?;
    let word: B256 = serde_json::from_value(answer).context("Identity.isActive")?;
    Ok(!word.is_zero())
}

/// First of so many ports in a row that are free, below those that connections going out take for themselves.
fn free_ports(wanted: u16) -> Result<u16> {
    const FIRST: u16 = 20_000;
    const LAST: u16 = 32_000;
    let free = |port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
    let mut first = FIRST + u16::try_from(std::process::id() % 1_000)?;
    while first + wanted < LAST {
        if (first..first + wanted).all(free) {
            return Ok(first);
        }
        first += wanted;
    }
    anyhow::bail!("no {wanted} free ports in a row")
}
