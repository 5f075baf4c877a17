//! FHIR: import, create, read, search, 1 MB there and back, a mix of requests; beside Medplum's router in memory.

use std::{fs, io::Read as _, path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result, bail, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    Bench,
    load::{self, count},
    process::{Node, PeerServer, bytes_on_disk},
    report::{Benchmark, Figure},
};

/// Folder of synthetic patients, beside the project's root.
pub(crate) const PATIENTS: &str = "../shared/data/fhir/synthea";
/// Connections of the read benchmark, and of the mix.
const READERS: usize = 64;
const MIXERS: usize = 8;
/// Resources that the peer in memory is given, searches and requests of the mix that it is asked: its searches look at
/// each resource, which takes it up to a second.
const PEER_RESOURCES: usize = 1_000;
const PEER_SEARCHES: usize = 10;
const PEER_MIXED: usize = 60;

/// A FHIR server, as a client that keeps its connections.
#[derive(Clone)]
pub(crate) struct Fhir {
    http: reqwest::Client,
    base: String,
    token: String,
}

/// An answer of success.
struct Reply {
    location: Option<String>,
    body: Vec<u8>,
}

/// An Observation that can be asked for.
#[derive(Clone, Debug)]
struct Observation {
    id: String,
    patient: String,
    code: String,
}

impl Fhir {
    pub(crate) fn new(base: String, token: String) -> Self {
        let http = reqwest::Client::new();
        Self { http, base, token }
    }

    /// A client of a node with an operator's token.
    pub(crate) fn of(node: &Node, more: &[&str]) -> Result<Self> {
        let mut arguments = vec!["token", "--lifetime", "7200"];
        arguments.extend(more);
        Ok(Self::new(
            format!("{}/fhir/r4", node.http),
            node.stele(&arguments)?,
        ))
    }

    /// Sends a request; the body of an answer of success.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<Vec<u8>> {
        let body = body.map(|text| ("application/fhir+json", text.into_bytes()));
        Ok(self.send_as(method, path, body, &[]).await?.body)
    }

    async fn send_as(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, Vec<u8>)>,
        headers: &[(&'static str, String)],
    ) -> Result<Reply> {
        // Links to next pages are whole.
        let url = match path.starts_with("http") {
            true => path.to_owned(),
            false => format!("{}/{path}", self.base),
        };
        let mut request = self.http.request(method.clone(), url);
        if !self.token.is_empty() {
            request = request.bearer_auth(&self.token);
        }
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        if let Some((kind, body)) = body {
            request = request.header("content-type", kind).body(body);
        }
        let response = request
            .send()
            .await
            .with_context(|| format!("{method} {path}"))?;
        let status = response.status();
        let location = response.headers().get("location");
        let location = location
            .and_then(|url| url.to_str().ok())
            .map(str::to_owned);
        let body = response
            .bytes()
            .await
            .with_context(|| format!("{method} {path}"))?;
        if !status.is_success() {
            let said = String::from_utf8_lossy(body.get(..body.len().min(400)).unwrap_or(&body))
                .into_owned();
            bail!("{method} {path}: {status}: {said}");
        }
        let body = body.into();
        Ok(Reply { location, body })
    }

    pub(crate) async fn json(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<Value> {
        let answer = self.send(method, path, body).await?;
        serde_json::from_slice(&answer).with_context(|| path.to_owned())
    }

    /// Every page of a search, until there are `most` resources.
    pub(crate) async fn pages(&self, path: &str, most: usize) -> Result<Vec<Value>> {
        let mut found = Vec::new();
        let mut next = Some(path.to_owned());
        while let Some(path) = next.take().filter(|_| found.len() < most) {
            let mut page = self.json(Method::GET, &path, None).await?;
            if let Some(Value::Array(entries)) = page.get_mut("entry").map(Value::take) {
                found.extend(
                    entries
                        .into_iter()
                        .filter_map(|mut entry| Some(entry.get_mut("resource")?.take())),
                );
            }
            let links = page.get("link").and_then(Value::as_array);
            let link = links
                .into_iter()
                .flatten()
                .find(|link| link.get("relation") == Some(&json!("next")));
            next = link.and_then(|link| link.get("url")?.as_str().map(str::to_owned));
        }
        Ok(found)
    }

    /// Creates a resource; its id.
    async fn create(&self, body: String) -> Result<String> {
        let made = self.json(Method::POST, "Observation", Some(body)).await?;
        made.get("id")
            .and_then(Value::as_str)
            .map(str::to_owned)
            .context("no id")
    }

    /// Reads an Observation and sees that it is the one asked for.
    async fn read(&self, id: &str) -> Result<()> {
        let body = self
            .send(Method::GET, &format!("Observation/{id}"), None)
            .await?;
        let found = body.windows(id.len()).any(|part| part == id.as_bytes());
        ensure!(found, "what was read is not Observation/{id}");
        Ok(())
    }

    /// Ten of a patient's Observations with a code; there is at least one.
    async fn search(&self, of: &Observation) -> Result<()> {
        let path = format!(
            "Observation?patient={}&code={}&_count=10",
            of.patient, of.code
        );
        let body = self.send(Method::GET, &path, None).await?;
        let text = String::from_utf8_lossy(&body);
        ensure!(text.contains("\"entry\""), "{path} finds nothing");
        Ok(())
    }
}

pub(crate) async fn run(bench: &Bench) -> Result<Benchmark> {
    let node = Node::start(&bench.stele, &[])?;
    bench.doing("import of the synthetic patients");
    let (mut figures, resources) = import(bench, &node)?;
    let client = Fhir::of(&node, &[])?;
    bench.doing("the list of what was imported");
    let known = observations(&client, bench.size(20_000, 100)).await?;
    figures.extend(single(bench, &client, &known).await?);
    bench.doing("1 MB there and back");
    figures.extend(large(bench, &client, &known).await?);
    bench.doing("a mix of requests");
    let stele = Mix::measure(bench, &client, &known, [200, 4_000]).await?;
    let after_mb = node.process.memory_mb()?;
    bench.doing("the same on Medplum's router");
    let peer = medplum(bench, &known).await?;
    figures.extend(stele.figures(&peer));
    figures.push(Figure::new("memory after all of it", after_mb, "MB"));
    for part in ["vault", "index", "chain", "consensus"] {
        let bytes = bytes_on_disk(&node.data().join(part))?;
        let each = bytes as f64 / resources;
        figures.push(Figure::new(
            format!("{part} on disk, for one resource imported"),
            each,
            "bytes",
        ));
    }
    Ok(Benchmark {
        name: "fhir",
        about: format!(
            "{resources} resources of synthetic patients. Stele: encrypted, durable, anchored, final, searchable; every \
             read with a consent check and a durable receipt. Medplum's FHIR router: {PEER_RESOURCES} resources in \
             memory at most, no token, no consent, nothing durable, the same Node process for every request."
        ),
        figures,
    })
}

/// Imports the synthetic patients with the command line.
fn import(bench: &Bench, node: &Node) -> Result<(Vec<Figure>, f64)> {
    let files = files(bench)?;
    let mut arguments = vec!["import".to_owned()];
    arguments.extend(files.iter().map(|path| path.display().to_string()));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let cpu = node.process.cpu_s()?;
    let done = node.stele_json(&arguments)?;
    let cpu_s = node.process.cpu_s()? - cpu;
    let number = |name: &str| {
        done.get(name)
            .and_then(Value::as_f64)
            .context("what an import did")
    };
    let (resources, created, seconds) =
        (number("resources")?, number("created")?, number("seconds")?);
    ensure!(
        number("failed")? == 0.0 && created > 0.0,
        "the import failed: {done}"
    );
    let memory = node.process.memory_mb()?;
    let figures = vec![
        Figure::new("import, by the clock", resources / seconds, "resources/s")
            .at_least(2_000.0)
            .rows("NFR-PER"),
        Figure::new(
            "import, server's CPU for one",
            cpu_s * 1e6 / resources,
            "µs",
        ),
        Figure::new("memory after the import", memory, "MB"),
    ];
    Ok((figures, resources))
}

/// Bundles to import: all, or the directories and two small patients.
pub(crate) fn files(bench: &Bench) -> Result<Vec<PathBuf>> {
    let folder = bench.path(PATIENTS);
    let listed = fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))?;
    let mut files = listed
        .map(|entry| {
            let path = entry?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            Ok((!name.starts_with("0-"), path.metadata()?.len(), path))
        })
        .collect::<std::io::Result<Vec<_>>>()?;
    files.sort();
    let most = bench.size(files.len(), 4);
    Ok(files
        .into_iter()
        .take(most)
        .map(|(_, _, path)| path)
        .collect())
}

/// The text of a compressed Bundle.
pub(crate) fn unpack(path: &std::path::Path) -> Result<String> {
    let file = fs::File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let mut text = String::new();
    bzip2::read::MultiBzDecoder::new(file)
        .read_to_string(&mut text)
        .with_context(|| format!("reading {}", path.display()))?;
    Ok(text)
}

async fn observations(client: &Fhir, most: usize) -> Result<Arc<Vec<Observation>>> {
    let found = client
        .pages("Observation?_count=1000&_elements=subject,code", most)
        .await?;
    let known: Vec<Observation> = found
        .iter()
        .filter_map(|one| {
            let text = |pointer: &str| Some(one.pointer(pointer)?.as_str()?.to_owned());
            let (system, code) = (text("/code/coding/0/system")?, text("/code/coding/0/code")?);
            Some(Observation {
                id: text("/id")?,
                patient: text("/subject/reference")?,
                code: format!("{system}|{code}"),
            })
        })
        .collect();
    ensure!(!known.is_empty(), "the import brought no Observation");
    Ok(Arc::new(known))
}

/// One kind of request at a time.
async fn single(
    bench: &Bench,
    client: &Fhir,
    known: &Arc<Vec<Observation>>,
) -> Result<Vec<Figure>> {
    bench.doing("creates, one at a time");
    let created = creates(client, known, bench.size(300, 20), 1).await?;
    bench.doing("reads of distinct records");
    let reads = reads(client, known, known.len(), READERS).await?;
    bench.doing("searches, one at a time");
    let searches = searches(client, known, bench.size(500, 20), 1).await?;
    let sorted = {
        let client = client.clone();
        load::run(bench.size(50, 5), 1, move |_| {
            let client = client.clone();
            async move {
                client
                    .send(Method::GET, "Observation?_sort=-date&_count=10", None)
                    .await
                    .map(drop)
            }
        })
        .await?
    };
    Ok(vec![
        Figure::new("create one, p50", created.p50_ms(), "ms")
            .at_most(30.0)
            .rows("NFR-PER"),
        Figure::new("create one, p95", created.p95_ms(), "ms"),
        Figure::new(
            format!("read, distinct records, {READERS} connections"),
            reads.rate(),
            "reads/s",
        )
        .at_least(4_000.0)
        .rows("NFR-PER"),
        Figure::new(
            "search by patient and code, 10 a page, p50",
            searches.p50_ms(),
            "ms",
        )
        .at_most(5.0)
        .rows("NFR-PER, NFR-SCA1"),
        Figure::new(
            "search by patient and code, 10 a page, p95",
            searches.p95_ms(),
            "ms",
        ),
        Figure::new(
            "newest ten of all Observations (_sort=-date), p50",
            sorted.p50_ms(),
            "ms",
        ),
    ])
}

async fn creates(
    client: &Fhir,
    known: &Arc<Vec<Observation>>,
    jobs: usize,
    workers: usize,
) -> Result<load::Took> {
    let (client, known) = (client.clone(), Arc::clone(known));
    load::run(jobs, workers, move |number| {
        let (client, of) = (client.clone(), pick(&known, number));
        async move {
            let id = client.create(observation(&of?, number)).await?;
            ensure!(!id.is_empty(), "no id");
            Ok(())
        }
    })
    .await
}

async fn reads(
    client: &Fhir,
    known: &Arc<Vec<Observation>>,
    jobs: usize,
    workers: usize,
) -> Result<load::Took> {
    let (client, known) = (client.clone(), Arc::clone(known));
    load::run(jobs, workers, move |number| {
        let (client, of) = (client.clone(), pick(&known, number));
        async move { client.read(&of?.id).await }
    })
    .await
}

async fn searches(
    client: &Fhir,
    known: &Arc<Vec<Observation>>,
    jobs: usize,
    workers: usize,
) -> Result<load::Took> {
    let (client, known) = (client.clone(), Arc::clone(known));
    load::run(jobs, workers, move |number| {
        // Apart from each other, so that patients and codes differ.
        let (client, of) = (client.clone(), pick(&known, number * 37));
        async move { client.search(&of?).await }
    })
    .await
}

fn pick(known: &[Observation], number: usize) -> Result<Observation> {
    known
        .get(number % known.len())
        .cloned()
        .context("there is no Observation")
}

/// A heart rate.
fn observation(of: &Observation, number: usize) -> String {
    json!({
        "resourceType": "Observation",
        "status": "final",
        "category": [{ "coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"
        }] }],
        "code": { "coding": [{ "system": "http://loinc.org", "code": "8867-4", "display": "Heart rate" }] },
        "subject": { "reference": of.patient },
        "effectiveDateTime": "2026-03-01T10:00:00Z",
        "valueQuantity": {
            "value": 60 + number % 40, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"
        }
    })
    .to_string()
}

/// 1 MB (10^6 bytes): stored encrypted, anchored and final, then fetched, byte for byte.
async fn large(bench: &Bench, client: &Fhir, known: &Arc<Vec<Observation>>) -> Result<Vec<Figure>> {
    let (client, patient) = (client.clone(), pick(known, 0)?.patient);
    let took = load::run(bench.size(10, 3), 1, move |number| {
        let (client, patient) = (client.clone(), patient.clone());
        async move {
            let byte = |at: usize| {
                u8::try_from((at * 31 + number * 7 + at / 251) % 256).unwrap_or_default()
            };
            let content: Vec<u8> = (0..1_000_000).map(byte).collect();
            let kind = "application/octet-stream";
            let (body, headers) = (
                Some((kind, content.clone())),
                [("x-security-context", patient)],
            );
            let made = client
                .send_as(Method::POST, "Binary", body, &headers)
                .await?;
            let location = made.location.context("a Binary without location")?;
            let (_, rest) = location
                .split_once("Binary/")
                .context("a Binary elsewhere")?;
            let id = rest.split('/').next().unwrap_or_default();
            let (path, accept) = (format!("Binary/{id}"), [("accept", kind.to_owned())]);
            let back = client
                .send_as(Method::GET, &path, None, &accept)
                .await?
                .body;
            ensure!(
                back == content,
                "1 MB came back as {} other bytes",
                back.len()
            );
            Ok(())
        }
    })
    .await?;
    Ok(vec![
        Figure::new(
            "1 MB stored, final, and fetched, p50",
            took.p50_ms() / 1e3,
            "s",
        )
        .at_most(0.7)
        .rows("EXT-18"),
    ])
}

/// Rates of the same requests on any server.
struct Mix {
    create: f64,
    read: f64,
    search_ms: f64,
    mixed: f64,
}

impl Mix {
    /// Rates do not depend on how many searches and mixed requests they are taken from.
    async fn measure(
        bench: &Bench,
        client: &Fhir,
        known: &Arc<Vec<Observation>>,
        [searched, mixed]: [usize; 2],
    ) -> Result<Self> {
        let create = creates(client, known, bench.size(1_000, 20), MIXERS).await?;
        let read = reads(client, known, bench.size(4_000, 40), MIXERS).await?;
        let search = searches(client, known, bench.size(searched, 10), 1).await?;
        let mixed = Self::mixed(client, known, bench.size(mixed, 40)).await?;
        Ok(Self {
            create: create.rate(),
            read: read.rate(),
            search_ms: search.p50_ms(),
            mixed: mixed.rate(),
        })
    }

    /// Of twenty requests twelve read, four search, three create and one updates.
    async fn mixed(
        client: &Fhir,
        known: &Arc<Vec<Observation>>,
        jobs: usize,
    ) -> Result<load::Took> {
        let (client, known) = (client.clone(), Arc::clone(known));
        load::run(jobs, MIXERS, move |number| {
            let (client, of) = (client.clone(), pick(&known, number * 37));
            async move {
                let of = of?;
                match number % 20 {
                    0..12 => client.read(&of.id).await,
                    12..16 => client.search(&of).await,
                    16..19 => client.create(observation(&of, number)).await.map(drop),
                    _ => {
                        let id = client.create(observation(&of, number)).await?;
                        let mut changed: Value =
                            serde_json::from_str(&observation(&of, number + 1))?;
                        if let Value::Object(members) = &mut changed {
                            members.insert("id".into(), json!(id));
                        }
                        let path = format!("Observation/{id}");
                        client
                            .send(Method::PUT, &path, Some(changed.to_string()))
                            .await
                            .map(drop)
                    }
                }
            }
        })
        .await
    }

    fn figures(&self, peer: &Self) -> Vec<Figure> {
        const NAME: &str = "Medplum in memory";
        vec![
            Figure::new(format!("create, {MIXERS} connections"), self.create, "/s")
                .beside(NAME, peer.create)
                .rows("EXT-15"),
            Figure::new(format!("read, {MIXERS} connections"), self.read, "/s")
                .beside(NAME, peer.read)
                .rows("EXT-15"),
            Figure::new("search by patient and code, p50", self.search_ms, "ms")
                .beside(NAME, peer.search_ms)
                .rows("EXT-15"),
            Figure::new(
                format!("12 reads, 4 searches, 3 creates, 1 update; {MIXERS} connections"),
                self.mixed,
                "/s",
            )
            .beside(NAME, peer.mixed)
            .rows("EXT-15"),
        ]
    }
}

/// The same on Medplum's router, with as many resources as it searches in bearable time.
async fn medplum(bench: &Bench, known: &Arc<Vec<Observation>>) -> Result<Mix> {
    let server = PeerServer::medplum(&bench.peers)?;
    let client = Fhir::new(server.url.clone(), String::new());
    let mut there = Vec::new();
    for number in 0..known.len().min(PEER_RESOURCES) {
        let mut one = pick(known, number)?;
        one.id = client.create(observation(&one, number)).await?;
        one.code = "http://loinc.org|8867-4".into();
        there.push(one);
    }
    ensure!(count(there.len()) > 0.0, "nothing to ask for");
    let jobs = [PEER_SEARCHES, PEER_MIXED];
    Mix::measure(bench, &client, &Arc::new(there), jobs).await
}
