//! A node under test: the built binary on a fresh data folder and free ports.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::small_disk::SmallDisk;

/// A data folder, with a node running on it or not.
pub(crate) struct Folder {
    parent: TempDir,
    disk: Option<SmallDisk>,
    log: Option<&'static str>,
}

impl Folder {
    pub(crate) fn new() -> Self {
        Self {
            parent: tempfile::tempdir().unwrap(),
            disk: None,
            log: None,
        }
    }

    /// The same with this much in the log of the nodes that start on it.
    pub(crate) fn logging(mut self, what: &'static str) -> Self {
        self.log = Some(what);
        self
    }

    /// A data folder on a disk of its own, which may be filled.
    pub(crate) fn on_small_disk(megabytes: u32) -> Self {
        let mut folder = Self::new();
        std::fs::create_dir(folder.path()).unwrap();
        folder.disk = Some(SmallDisk::new(&folder.path(), megabytes));
        folder
    }

    pub(crate) fn disk(&self) -> &SmallDisk {
        self.disk.as_ref().expect("a folder on a small disk")
    }

    /// The program, in front of whose eyes the folder's disk is.
    fn command(&self) -> Command {
        let program = env!("CARGO_BIN_EXE_stele");
        let mut command = match &self.disk {
            None => Command::new(program),
            Some(disk) => disk.command(program),
        };
        command.envs(self.log.map(|what| ("STELE_LOG", what)));
        command
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
        self.try_start(arguments)
            .unwrap_or_else(|said| panic!("the node ended before it was ready: {said}"))
    }

    /// Starts a node, or gives what it said on standard error when it ended instead.
    pub(crate) fn try_start(&self, arguments: &[&str]) -> Result<Running, String> {
        let mut child = self
            .command()
            .args(["up", "--rpc", "127.0.0.1:0"])
            .args(["--metrics", "127.0.0.1:0", "--mllp", "127.0.0.1:0"])
            .args(
                ["--http", "127.0.0.1:0"]
                    .iter()
                    .filter(|_| !arguments.contains(&"--http")),
            )
            .arg("--data")
            .arg(self.path())
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        let is_shown = self.log.is_none();
        // Read all the time, or a node that says much would wait for somebody to listen.
        let errors = std::thread::spawn(move || {
            let (mut said, mut line) = (String::new(), String::new());
            while errors.read_line(&mut line).is_ok_and(|read| read > 0) {
                if is_shown {
                    eprint!("{line}");
                }
                said.push_str(&line);
                line.clear();
            }
            said
        });
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, first) = std::sync::mpsc::channel();
        std::thread::spawn(move || sender.send(lines.next()));
        // Only a broken node needs longer; without a deadline it would keep all tests from ending.
        let line = match first.recv_timeout(Duration::from_secs(300)) {
            Ok(line) => line,
            Err(error) => {
                child.kill().unwrap();
                panic!("the node is neither ready nor ended: {error}");
            }
        };
        let Some(line) = line else {
            let status = child.wait().unwrap();
            assert_eq!(status.code(), Some(2), "a node that can't start says so");
            return Err(errors.join().unwrap());
        };
        let ready: Value = serde_json::from_str(&line.unwrap()).unwrap();
        assert_eq!(ready["ready"], true);
        Ok(Running {
            child,
            ready,
            data: self.path(),
            errors: Some(errors),
        })
    }

    /// Runs a command on the folder; gives exit code and standard output.
    pub(crate) fn stele(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.output(arguments);
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code().unwrap_or(-1), text)
    }

    /// Everything a command gave; what it told people is passed on, too.
    pub(crate) fn output(&self, arguments: &[&str]) -> Output {
        let output = self
            .command()
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
    errors: Option<std::thread::JoinHandle<String>>,
}

impl Running {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.ready["http"].as_str().unwrap())
    }

    pub(crate) fn fhir(&self, path: &str) -> String {
        self.url(&format!("/fhir/r4/{path}"))
    }

    /// Number of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// As a power failure would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// As [`Self::stop`]; gives everything it said on standard error.
    pub(crate) fn stopped(mut self) -> String {
        let errors = self.errors.take().unwrap();
        self.stop();
        errors.join().unwrap()
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

    /// The status of a PUT; `None` if the connection broke before all of the answer had arrived.
    pub(crate) async fn try_put(&self, url: &str, body: String) -> Option<u16> {
        let request = self.http.put(url).bearer_auth(&self.token);
        let request = request.header("content-type", "application/fhir+json");
        let response = request.body(body).send().await.ok()?;
        let status = response.status().as_u16();
        response.bytes().await.ok().map(|_| status)
    }

    pub(crate) async fn get(&self, url: &str) -> Reply {
        self.send("GET", url, None).await
    }

    pub(crate) async fn bytes(&self, url: &str) -> Vec<u8> {
        let response = self.http.get(url).send().await.unwrap();
        assert_eq!(response.status().as_u16(), 200, "{url}");
        response.bytes().await.unwrap().to_vec()
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
