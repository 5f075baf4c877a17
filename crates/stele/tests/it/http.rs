//! FHIR, SMART and IPFS over HTTP against the built binary, by topic.

mod binary;
mod bundles;
mod conditional;
mod content;
mod history;
mod limits;
mod negotiation;
mod operator;
mod paging;
mod patch;
mod pending;
mod search;
mod smart;
mod trail;

use reqwest::{Body, header::HeaderMap};
use serde_json::{Value, json};

use crate::node::{Folder, Running};

/// A node on a fresh folder, and a client that may do everything for its organisation.
pub(crate) struct Bed {
    pub(crate) folder: Folder,
    pub(crate) node: Running,
    http: reqwest::Client,
    token: String,
}

/// An answer with its head.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) async fn read(response: reqwest::Response) -> Self {
        Self {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            text: response.text().await.unwrap(),
        }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// A header's text; empty where there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// The status, with the whole answer where it is another.
    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }

    /// The same for a refusal, which must be an OperationOutcome that R4 allows.
    #[track_caller]
    pub(crate) fn problem(self, status: u16) -> Value {
        let outcome = self.is(status).json();
        assert_eq!(outcome["resourceType"], "OperationOutcome", "{outcome}");
        assert_eq!(stele_fhir::validate::resource(&outcome), [], "{outcome}");
        outcome
    }

    /// Id of the resource answered with.
    #[track_caller]
    pub(crate) fn id(&self) -> String {
        let id = self.json()["id"].as_str().map(str::to_owned);
        id.unwrap_or_else(|| panic!("{}", self.text))
    }
}

impl Bed {
    pub(crate) fn new() -> Self {
        let folder = Folder::new();
        let node = folder.start();
        Self::of(folder, node)
    }

    /// A node with settings other than the defaults, written as in `stele.toml`.
    pub(crate) fn with(settings: &str) -> Self {
        let folder = Folder::new();
        let file = folder.beside("stele.toml");
        std::fs::write(&file, settings).unwrap();
        let node = folder.start_with(&["--config", file.to_str().unwrap()]);
        Self::of(folder, node)
    }

    fn of(folder: Folder, node: Running) -> Self {
        let token = folder.token("system/*.cruds", None);
        Self {
            folder,
            node,
            http: reqwest::Client::new(),
            token,
        }
    }

    /// The same node, asked with another token.
    pub(crate) fn set_token(&mut self, token: String) {
        self.token = token;
    }

    /// The same folder after a crash and a new start.
    pub(crate) fn crash_and_start(self) -> Self {
        self.node.kill();
        let node = self.folder.start();
        Self::of(self.folder, node)
    }

    /// Sends a request; `path` is under the FHIR base, or an address.
    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self
            .http
            .request(method, self.url(path))
            .bearer_auth(&self.token)
            .body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Answer::read(request.send().await.unwrap()).await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        if path.starts_with("http") {
            path.to_owned()
        } else if path.starts_with('/') {
            self.node.url(path)
        } else {
            self.node.fhir(path)
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "").await
    }

    pub(crate) async fn post(&self, path: &str, resource: &Value) -> Answer {
        self.ask("POST", path, &[FHIR], resource.to_string()).await
    }

    /// Writes under the id the resource has.
    pub(crate) async fn put(&self, resource: &Value) -> Answer {
        let path = format!(
            "{}/{}",
            resource["resourceType"].as_str().unwrap(),
            resource["id"].as_str().unwrap()
        );
        self.ask("PUT", &path, &[FHIR], resource.to_string()).await
    }

    /// The resources a search finds on one page, as `Type/id`.
    pub(crate) async fn found(&self, path: &str) -> Vec<String> {
        names(&self.get(path).await.is(200).json())
    }

    /// Follows `next` to the end; every page's entries, in order.
    pub(crate) async fn all_pages(&self, path: &str) -> Vec<Value> {
        let mut entries = Vec::new();
        let mut next = Some(path.to_owned());
        while let Some(url) = next {
            let page = self.get(&url).await.is(200).json();
            entries.extend(page["entry"].as_array().cloned().unwrap_or_default());
            next = link(&page, "next");
        }
        entries
    }
}

/// URL of a Bundle's link.
pub(crate) fn link(bundle: &Value, relation: &str) -> Option<String> {
    let links = bundle["link"].as_array()?;
    let link = links.iter().find(|link| link["relation"] == relation)?;
    link["url"].as_str().map(str::to_owned)
}

/// `Type/id` of a Bundle's entries, outcomes left out.
pub(crate) fn names(bundle: &Value) -> Vec<String> {
    let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
    entries.iter().filter_map(name).collect()
}

/// `Type/id` of an entry's resource.
pub(crate) fn name(entry: &Value) -> Option<String> {
    let resource = &entry["resource"];
    let id = resource["id"].as_str()?;
    Some(format!("{}/{id}", resource["resourceType"].as_str()?))
}

/// An Observation of a patient, small and whole.
pub(crate) fn observation(id: &str, patient: &str, code: &str, value: f64) -> Value {
    json!({
        "resourceType": "Observation", "id": id, "status": "final",
        "code": { "coding": [{ "system": "http://loinc.org", "code": code }] },
        "subject": { "reference": format!("Patient/{patient}") },
        "effectiveDateTime": "2026-03-01T10:00:00Z",
        "valueQuantity": {
            "value": value, "unit": "%", "system": "http://unitsofmeasure.org", "code": "%"
        }
    })
}

pub(crate) const FHIR: (&str, &str) = ("content-type", "application/fhir+json");
