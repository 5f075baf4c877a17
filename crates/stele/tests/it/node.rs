//! A node under test: the built binary on a fresh data folder and free ports.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

/// A data folder, with a node running on it or not.
pub(crate) struct Folder {
    parent: TempDir,
}

impl Folder {
    pub(crate) fn new() -> Self {
        Self {
            parent: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.parent.path().join("data")
    }

    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.parent.path().join(name)
    }

    /// Starts a node and waits until it says that it is ready.
    pub(crate) fn start(&self) -> Running {
        self.start_with(&[])
    }

    pub(crate) fn start_with(&self, arguments: &[&str]) -> Running {
        let mut child = Command::new(env!("CARGO_BIN_EXE_stele"))
            .args([
                "up",
                "--http",
                "127.0.0.1:0",
                "--rpc",
                "127.0.0.1:0",
                "--metrics",
                "127.0.0.1:0",
                "--data",
            ])
            .arg(self.path())
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines
            .next()
            .expect("the node ended before it was ready")
            .unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(ready["ready"], true);
        Running {
            child,
            ready,
            data: self.path(),
        }
    }

    /// Runs a command on the folder; gives exit code and standard output.
    pub(crate) fn stele(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.output(arguments);
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code().unwrap_or(-1), text)
    }

    /// Everything a command gave; what it told people is passed on, too.
    pub(crate) fn output(&self, arguments: &[&str]) -> Output {
        let output = Command::new(env!("CARGO_BIN_EXE_stele"))
            .args(arguments)
            .env("STELE_DATA", self.path())
            .output()
            .unwrap();
        std::io::stderr().write_all(&output.stderr).unwrap();
        output
    }

    /// As [`Self::stele`], for a command that must say yes and answer in JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let (code, text) = self.stele(arguments);
        assert_eq!(code, 0, "{arguments:?}: {text}");
        serde_json::from_str(text.lines().last().unwrap_or_default())
            .unwrap_or_else(|error| panic!("{arguments:?} answered {text:?}: {error}"))
    }

    pub(crate) fn token(&self, scope: &str, act_as: Option<&str>) -> String {
        let mut arguments = vec!["token", "--scope", scope];
        if let Some(account) = act_as {
            arguments.extend(["--as", account]);
        }
        let (code, text) = self.stele(&arguments);
        assert_eq!(code, 0, "{text}");
        text.trim().to_owned()
    }
}

/// A running node.
pub(crate) struct Running {
    child: Child,
    pub(crate) ready: Value,
    data: PathBuf,
}

impl Running {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.ready["http"].as_str().unwrap())
    }

    pub(crate) fn fhir(&self, path: &str) -> String {
        self.url(&format!("/fhir/r4/{path}"))
    }

    /// As a power failure would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// As an operator would; the node must end by itself and well.
    pub(crate) fn stop(mut self) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
        assert!(self.child.wait().unwrap().success());
        assert!(!self.data.join("ready.json").exists());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already gone after `kill` and `stop`.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// An HTTP answer.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

/// A client with a token.
pub(crate) struct Client {
    http: reqwest::Client,
    token: String,
}

impl Client {
    pub(crate) fn new(token: String) -> Self {
        Self {
            http: reqwest::Client::new(),
            token,
        }
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        url: &str,
        body: Option<(&str, String)>,
    ) -> Reply {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.http.request(method, url).bearer_auth(&self.token);
        if let Some((content_type, body)) = body {
            request = request.header("content-type", content_type).body(body);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        Reply {
            status,
            text: response.text().await.unwrap(),
        }
    }

    pub(crate) async fn get(&self, url: &str) -> Reply {
        self.send("GET", url, None).await
    }

    pub(crate) async fn post(&self, url: &str, body: &Value) -> Reply {
        self.send(
            "POST",
            url,
            Some(("application/fhir+json", body.to_string())),
        )
        .await
    }

    pub(crate) async fn post_text(&self, url: &str, body: String) -> Reply {
        self.send("POST", url, Some(("application/fhir+json", body)))
            .await
    }

    pub(crate) async fn put_text(&self, url: &str, body: String) -> Reply {
        self.send("PUT", url, Some(("application/fhir+json", body)))
            .await
    }
}

/// The bundles that the demonstration ships: small, synthetic, always there.
pub(crate) fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("demo")
}

pub(crate) fn patient(id: &str) -> Value {
    serde_json::json!({
        "resourceType": "Patient", "id": id, "active": true,
        "name": [{ "family": "Testfamily", "given": ["Given"] }], "birthDate": "1970-01-02"
    })
}

pub(crate) fn observation(patient: &str, value: &str) -> String {
    format!(
        r#"{{"resourceType":"Observation","status":"final","category":[{{"coding":[{{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"laboratory"}}]}}],"code":{{"coding":[{{"system":"http://loinc.org","code":"4548-4"}}]}},"subject":{{"reference":"Patient/{patient}"}},"effectiveDateTime":"2026-03-01T10:11:12+01:00","valueQuantity":{{"value":{value},"unit":"%","system":"http://unitsofmeasure.org","code":"%"}}}}"#
    )
}
