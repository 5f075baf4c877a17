//! Sharing one patient's records with another organisation: Stele beside central databases on the same machine.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tokio_postgres::{Client, NoTls, error::SqlState};

use crate::{
    Bench,
    fhir::{Fhir, files, unpack},
    helios::Helios,
    load::milliseconds,
    process::{Node, PeerServer, Process, READY_S, answers, free_port},
    report::{Benchmark, Figure},
};

/// Times of one way of sharing, for each patient.
#[derive(Default)]
struct Times {
    store_ms: Vec<f64>,
    share_ms: Vec<f64>,
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

pub(crate) async fn run(bench: &Bench) -> Result<Benchmark> {
    let all = files(bench)?;
    let (directories, patients): (Vec<_>, Vec<_>) = all.into_iter().partition(|path| {
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().starts_with("0-")
    });
    // From the middle of the list, which is sorted by size.
    let most = bench.size(9, 2);
    let skipped = patients.len().saturating_sub(most) / 2;
    let bundles: Vec<String> = patients
        .iter()
        .skip(skipped)
        .take(most)
        .map(|path| unpack(path))
        .collect::<Result<_>>()?;
    bench.doing("sharing through Stele");
    let (stele, resources) = stele(bench, &directories, &bundles)
        .await
        .context("Stele")?;
    let database = Database::start(bench).await?;
    bench.doing("sharing through a central FHIR server");
    let helios = helios(bench, &database, &directories, &bundles)
        .await
        .context("Helios FHIR Server")?;
    bench.doing("sharing through rows in the clear of a server, and of a table");
    let plain = central(bench, &database, &bundles)
        .await
        .context("a plain server")?;
    let table = table(&database, &bundles).await.context("PostgreSQL")?;
    database.stop()?;
    const HELIOS: &str = "Helios FHIR Server on PostgreSQL";
    const PLAIN: &str = "a plain server on PostgreSQL";
    const TABLE: &str = "a table, in the clear";
    const STORE: &str = "store one patient's life, p50";
    const SHARE: &str = "share it: grant, then the other side has it all, p50";
    let (stored, shared) = (median(&stele.store_ms), median(&stele.share_ms));
    let central_ms = median(&helios.share_ms);
    Ok(Benchmark {
        name: "share",
        about: format!(
            "{} patients of {resources:.0} resources at the median. Stele: store is one transaction Bundle over HTTP \
             (validated, encrypted, anchored, final, searchable); share is a grant by the patient on the ledger, then \
             all of `$everything` by the other organisation, decrypted, checked and with receipts. Helios FHIR Server \
             {} is a central FHIR server in Rust over PostgreSQL: the same Bundles, the same `$everything`, accesses \
             traced as AuditEvents in its database; nobody grants anything, nothing is encrypted or proven. The plain \
             server is the least that can hold records centrally: Node's HTTP server with a token, rows encrypted under \
             one key, a row of permission and one durable row of trace for each record; it knows no FHIR, no search, no \
             proof. A table in the clear: the same database asked by the client itself: the lower bound of any store.",
            bundles.len(),
            crate::helios::VERSION
        ),
        figures: vec![
            Figure::new(STORE, stored, "ms").beside(HELIOS, median(&helios.store_ms)),
            Figure::new(SHARE, shared, "ms")
                .at_most(central_ms)
                .beside(HELIOS, central_ms)
                .rows("S12"),
            Figure::new(STORE, stored, "ms").beside(PLAIN, median(&plain.store_ms)),
            Figure::new(SHARE, shared, "ms").beside(PLAIN, median(&plain.share_ms)),
            Figure::new(STORE, stored, "ms").beside(TABLE, median(&table.store_ms)),
            Figure::new(SHARE, shared, "ms").beside(TABLE, median(&table.share_ms)),
        ],
    })
}

async fn stele(bench: &Bench, directories: &[PathBuf], bundles: &[String]) -> Result<(Times, f64)> {
    let node = Node::start(&bench.stele, &[])?;
    let mut import = vec!["import".to_owned()];
    import.extend(directories.iter().map(|path| path.display().to_string()));
    node.stele(&import.iter().map(String::as_str).collect::<Vec<_>>())?;
    let other = node.stele_json(&["org", "add", "Second hospital"])?;
    let other = other.get("organization");
    let other = other
        .and_then(Value::as_str)
        .context("the account of the second organisation")?
        .to_owned();
    let operator = Fhir::of(&node, &["--scope", "admin system/*.cruds"])?;
    let grantee = Fhir::of(&node, &["--as", &other, "--scope", "system/*.rs"])?;
    let mut times = Times::default();
    let mut sizes = Vec::new();
    for bundle in bundles {
        let began = Instant::now();
        let stored = operator
            .json(Method::POST, "", Some(bundle.clone()))
            .await?;
        times.store_ms.push(milliseconds(began.elapsed()));
        let patient = patient_of(&stored)?;
        let before = grantee
            .send(Method::GET, &format!("Patient/{patient}"), None)
            .await;
        ensure!(
            before.is_err(),
            "the other organisation reads without a grant"
        );
        let began = Instant::now();
        let grant = json!({
            "patient": patient, "grantee": other, "categories": ["all"], "permissions": ["read"],
            "purposes": ["TREAT"], "days": 30
        });
        let admin = format!("{}/admin/grants", node.http);
        operator
            .send(Method::POST, &admin, Some(grant.to_string()))
            .await?;
        let everything = format!("Patient/{patient}/$everything?_count=1000");
        let got = grantee.pages(&everything, usize::MAX).await?;
        times.share_ms.push(milliseconds(began.elapsed()));
        let entries = stored
            .get("entry")
            .and_then(Value::as_array)
            .map_or(0, Vec::len);
        ensure!(
            got.len() >= entries,
            "{} of {entries} resources arrived",
            got.len()
        );
        sizes.push(entries as f64);
    }
    Ok((times, median(&sizes)))
}

/// Id of the Patient that a transaction created, which is its first entry.
fn patient_of(stored: &Value) -> Result<String> {
    let entries = stored
        .get("entry")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let mut locations = entries.filter_map(|entry| entry.pointer("/response/location")?.as_str());
    let location = locations.find_map(|location| location.split_once("Patient/"));
    let id = location.and_then(|(_, rest)| rest.split('/').next());
    id.map(str::to_owned)
        .context("the transaction created no Patient")
}

/// The same over a central FHIR server.
async fn helios(
    bench: &Bench,
    database: &Database,
    directories: &[PathBuf],
    bundles: &[String],
) -> Result<Times> {
    let server = Helios::start(bench, database.port).await?;
    let client = Fhir::new(server.url.clone(), String::new());
    for path in directories {
        client.json(Method::POST, "", Some(unpack(path)?)).await?;
    }
    let mut times = Times::default();
    for bundle in bundles {
        let began = Instant::now();
        let stored = client.json(Method::POST, "", Some(bundle.clone())).await?;
        times.store_ms.push(milliseconds(began.elapsed()));
        let patient = patient_of(&stored)?;
        let entries = stored
            .get("entry")
            .and_then(Value::as_array)
            .map_or(0, Vec::len);
        let began = Instant::now();
        let everything = format!("Patient/{patient}/$everything?_count=1000");
        let got = client.pages(&everything, usize::MAX).await?;
        times.share_ms.push(milliseconds(began.elapsed()));
        ensure!(
            got.len() >= entries,
            "{} of {entries} resources arrived",
            got.len()
        );
    }
    Ok(times)
}

/// The same over the least server that keeps records centrally.
async fn central(bench: &Bench, database: &Database, bundles: &[String]) -> Result<Times> {
    let server = PeerServer::central(&bench.peers, database.port)?;
    let client = Fhir::new(server.url.clone(), server.token.clone());
    let mut times = Times::default();
    for (patient, bundle) in bundles.iter().enumerate() {
        let began = Instant::now();
        let path = format!("patients/{patient}/records");
        let stored = client
            .json(Method::POST, &path, Some(bundle.clone()))
            .await?;
        times.store_ms.push(milliseconds(began.elapsed()));
        let everything = format!("patients/{patient}/everything");
        let before = client.send(Method::GET, &everything, None).await;
        ensure!(before.is_err(), "the other one reads without permission");
        let began = Instant::now();
        let permission = json!({ "grantee": "other", "days": 30 }).to_string();
        let path = format!("patients/{patient}/permissions");
        client.send(Method::POST, &path, Some(permission)).await?;
        let got = client.pages(&everything, usize::MAX).await?;
        times.share_ms.push(milliseconds(began.elapsed()));
        ensure!(
            stored.get("stored") == Some(&json!(got.len())),
            "{} resources arrived: {stored}",
            got.len()
        );
    }
    Ok(times)
}

/// The same in a table that its owner reads in clear.
async fn table(database: &Database, bundles: &[String]) -> Result<Times> {
    let mut client = database.connect().await?;
    client
        .batch_execute(
            "CREATE TABLE resource (patient int, type text, id text, body jsonb, PRIMARY KEY (type, id));
             CREATE INDEX ON resource (patient);
             CREATE TABLE permission (patient int, grantee text, until timestamptz, PRIMARY KEY (patient, grantee));",
        )
        .await?;
    let mut times = Times::default();
    for (patient, bundle) in (0_i32..).zip(bundles) {
        let began = Instant::now();
        let stored = store(&mut client, patient, bundle).await?;
        times.store_ms.push(milliseconds(began.elapsed()));
        let began = Instant::now();
        client
            .execute(
                "INSERT INTO permission VALUES ($1, 'other', now() + interval '30 days')",
                &[&patient],
            )
            .await?;
        let rows = client
            .query(
                "SELECT body::text FROM resource r JOIN permission p USING (patient)
                 WHERE patient = $1 AND grantee = 'other' AND until > now()",
                &[&patient],
            )
            .await?;
        times.share_ms.push(milliseconds(began.elapsed()));
        ensure!(
            rows.len() == stored,
            "{} of {stored} rows arrived",
            rows.len()
        );
    }
    Ok(times)
}

async fn store(client: &mut Client, patient: i32, bundle: &str) -> Result<usize> {
    let bundle: Value = serde_json::from_str(bundle).context("a Bundle")?;
    let entries = bundle
        .get("entry")
        .and_then(Value::as_array)
        .context("a Bundle without entries")?;
    let transaction = client.transaction().await?;
    let insert = transaction
        .prepare("INSERT INTO resource VALUES ($1, $2, $3, $4::text::jsonb)")
        .await?;
    for (number, entry) in entries.iter().enumerate() {
        let resource = entry.get("resource").context("an entry without resource")?;
        let kind = resource
            .get("resourceType")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let id = format!("{patient}-{number}");
        transaction
            .execute(&insert, &[&patient, &kind, &id, &resource.to_string()])
            .await?;
    }
    transaction.commit().await?;
    Ok(entries.len())
}

/// PostgreSQL as Debian packages it, with its defaults: a commit is durable when it is acknowledged.
struct Database {
    process: Process,
    port: u16,
    folder: PathBuf,
}

impl Database {
    async fn start(bench: &Bench) -> Result<Self> {
        let programs = match &bench.postgres {
            Some(folder) => folder.clone(),
            None => newest_postgres()?,
        };
        let folder = tempfile::tempdir().context("making a data folder")?.keep();
        let port = free_port()?;
        if is_root()? {
            // PostgreSQL refuses to run as root; the package made an account for it.
            succeed(Command::new("chown").arg("postgres").arg(&folder))?;
        }
        let data = folder.join("data");
        succeed(
            as_postgres(&programs.join("initdb"))?
                .args(["--auth=trust", "--username=bench", "-D"])
                .arg(&data),
        )?;
        let process = Process::start(
            as_postgres(&programs.join("postgres"))?
                .arg("-D")
                .arg(&data)
                .args([
                    "-p",
                    &port.to_string(),
                    "-c",
                    "listen_addresses=127.0.0.1",
                    "-c",
                    "unix_socket_directories=",
                ])
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        )?;
        answers(port).await?;
        Ok(Self {
            process,
            port,
            folder,
        })
    }

    async fn connect(&self) -> Result<Client> {
        let settings = format!(
            "host=127.0.0.1 port={} user=bench dbname=postgres",
            self.port
        );
        let started = Instant::now();
        let (client, connection) = loop {
            // It listens before it takes clients.
            match tokio_postgres::connect(&settings, NoTls).await {
                Err(error)
                    if error.code() == Some(&SqlState::CANNOT_CONNECT_NOW)
                        && started.elapsed() < Duration::from_secs(READY_S) =>
                {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                done => break done?,
            }
        };
        tokio::spawn(connection);
        Ok(client)
    }

    fn stop(mut self) -> Result<()> {
        self.process.stop()?;
        fs::remove_dir_all(&self.folder).context("removing the database")
    }
}

/// A program, run as the database's own account where this is run as root.
fn as_postgres(program: &Path) -> Result<Command> {
    if !is_root()? {
        return Ok(Command::new(program));
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
        .arg(program);
    Ok(command)
}

fn is_root() -> Result<bool> {
    let output = Command::new("id")
        .arg("-u")
        .output()
        .context("asking who runs this")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim() == "0")
}

fn succeed(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("starting {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn newest_postgres() -> Result<PathBuf> {
    let root = Path::new("/usr/lib/postgresql");
    let versions =
        fs::read_dir(root).context("PostgreSQL is not installed (Debian package postgresql)")?;
    let newest = versions
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .max();
    newest.context("PostgreSQL is not installed (Debian package postgresql)")
}
