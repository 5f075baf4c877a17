//! A consortium under test: several members as processes of their own on one machine.

use std::{
    io::{BufRead as _, BufReader},
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::node::Client;

/// Longer than anything here takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(120);
/// Below the ports that the system hands out by itself.
const FIRST_PORT: u16 = 20_000;
const LAST_PORT: u16 = 32_000;

/// A consortium's folder, with members running or not.
pub(crate) struct Consortium {
    parent: TempDir,
    members: Vec<Option<Child>>,
    pub(crate) made: Value,
}

/// First of `count` ports in a row that are free now.
pub(crate) fn free_ports(count: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 100).unwrap() * 100;
    for _ in 0..500 {
        let offset = NEXT.fetch_add(count, Ordering::Relaxed);
        let first = FIRST_PORT + (start + offset) % (LAST_PORT - FIRST_PORT - count);
        let taken =
            (first..first + count).any(|port| TcpListener::bind(("127.0.0.1", port)).is_err());
        if !taken {
            return first;
        }
    }
    panic!("no {count} free ports in a row");
}

/// Runs the program with these arguments.
pub(crate) fn stele(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_stele"))
        .args(arguments)
        .output()
        .unwrap()
}

impl Consortium {
    /// Makes the folders of some members; none runs yet.
    pub(crate) fn new(members: u16) -> Self {
        let parent = tempfile::tempdir().unwrap();
        let out = parent.path().join("net");
        let output = stele(&[
            "network",
            "init",
            "--members",
            &members.to_string(),
            "--out",
            out.to_str().unwrap(),
            "--port",
            &free_ports(members * 5).to_string(),
            "--json",
        ]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        Self {
            parent,
            members: (0..members).map(|_| None).collect(),
            made: serde_json::from_slice(&output.stdout).unwrap(),
        }
    }

    /// The same, each of whose members made its keys by itself and handed in a card.
    pub(crate) fn from_cards(members: u16) -> Self {
        let parent = tempfile::tempdir().unwrap();
        let path = |name: String| parent.path().join(name).to_str().unwrap().to_owned();
        let run = |arguments: &[&str]| -> Value {
            let output = stele(&[arguments, &["--json"]].concat());
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{said}");
            serde_json::from_slice(&output.stdout).unwrap()
        };
        std::fs::create_dir(parent.path().join("net")).unwrap();
        let port = free_ports(members * 5);
        let mut cards = Vec::new();
        for number in 1..=members {
            let out = path(format!("net/member-{number}"));
            let name = format!("Hospital {number}");
            let port = (port + 5 * (number - 1)).to_string();
            let new = ["network", "new-member", "--out", &out, "--name", &name];
            let made = run(&[&new[..], &["--port", &port]].concat());
            cards.push(made["card"].as_str().unwrap().to_owned());
        }
        let (cards, made) = (cards.join(","), path("made".into()));
        let init = run(&["network", "init", "--cards", &cards, "--out", &made]);
        let genesis = path("made/genesis.json".into());
        for number in 1..=members {
            let member = path(format!("net/member-{number}"));
            let config = path(format!("made/member-{number}/stele.toml"));
            let adopt = ["network", "adopt", "--member", &member, "--config", &config];
            run(&[&adopt[..], &["--genesis", &genesis, "--cards", &cards]].concat());
        }
        Self {
            parent,
            members: (0..members).map(|_| None).collect(),
            made: init,
        }
    }

    /// What `stele up` makes, stopped again, with a configuration that lets others join.
    pub(crate) fn of_one() -> Self {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("net/member-1");
        std::fs::create_dir_all(&folder).unwrap();
        let data = folder.join("data");
        let port = free_ports(5);
        let at = |offset: u16| format!("127.0.0.1:{}", port + offset);
        let mut child = Command::new(env!("CARGO_BIN_EXE_stele"))
            .args(["up", "--data", data.to_str().unwrap()])
            .args(["--http", &at(0), "--rpc", &at(2), "--metrics", &at(3)])
            .args(["--mllp", &at(4)])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        let pid = child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        assert!(sent.success() && child.wait().unwrap().success());
        let config = folder.join("stele.toml");
        let (data, config) = (data.to_str().unwrap(), config.to_str().unwrap());
        let port = port.to_string();
        let written = stele(&[
            "network", "config", "--data", data, "--out", config, "--port", &port, "--json",
        ]);
        let said = String::from_utf8_lossy(&written.stderr);
        assert!(written.status.success(), "{said}");
        let written: Value = serde_json::from_slice(&written.stdout).unwrap();
        let first = json!({
            "organization": ready["organization"], "gateway": written["gateway"]
        });
        Self {
            parent,
            members: vec![None],
            made: json!({ "members": [first] }),
        }
    }

    /// The same, with all members running.
    pub(crate) fn running(members: u16) -> Self {
        let mut consortium = Self::new(members);
        for number in 1..=usize::from(members) {
            consortium.start(number);
        }
        consortium
    }

    /// Folders of some members, whose own keeping of peppers ends soon; none runs yet.
    pub(crate) fn with_short_periods(members: u16) -> Self {
        let consortium = Self::new(members);
        for number in 1..=usize::from(members) {
            let path = consortium.config(number);
            let text = std::fs::read_to_string(&path).unwrap();
            let short = text.replace("period_s = 60", "period_s = 1");
            assert_ne!(text, short);
            std::fs::write(&path, short).unwrap();
        }
        consortium
    }

    /// What a member has on disk of the custody that it writes under.
    pub(crate) fn custody_of(&self, number: usize) -> Value {
        let folder = self.data(number).join("vault/custody");
        let files = std::fs::read_dir(folder).unwrap();
        let states = files.filter_map(|file| {
            let path = file.unwrap().path();
            let is_state = path
                .extension()
                .is_some_and(|extension| extension == "json");
            let text = is_state.then(|| std::fs::read(path).unwrap())?;
            serde_json::from_slice::<Value>(&text).ok()
        });
        let own = states.into_iter().find(|state| state["writing"] == true);
        own.expect("it shares its peppers")
    }

    /// What a member knows of a custody, by its id.
    pub(crate) fn known_custody(&self, number: usize, id: &str) -> Option<Value> {
        let name = format!("{}.json", id.trim_start_matches("0x"));
        let path = self.data(number).join("vault/custody").join(name);
        let state: Value = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
        Some(state["custody"].clone())
    }

    /// How many trees of a custody a member holds.
    pub(crate) fn trees_of(&self, number: usize, id: &str) -> usize {
        let files = std::fs::read_dir(self.data(number).join("vault/custody")).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        let id = id.trim_start_matches("0x");
        names
            .filter(|name| name.starts_with(id) && name.ends_with(".shred"))
            .count()
    }

    /// The other members that share the peppers of what a member writes, by number, in order.
    pub(crate) fn custodians_of(&self, number: usize) -> Vec<usize> {
        let own = self.custody_of(number);
        let all = own["custody"]["custodians"].as_array().unwrap();
        let number_of = |account: &Value| {
            let members = 1..=self.members.len();
            let is = |other: &usize| {
                let account = account.as_str().unwrap();
                self.organization(*other).eq_ignore_ascii_case(account)
            };
            members.into_iter().find(is).unwrap()
        };
        let others = all.iter().map(number_of);
        others.filter(|other| *other != number).collect()
    }

    /// What a member measures under a name without labels.
    pub(crate) async fn measured(&self, number: usize, name: &str) -> u64 {
        let text = reqwest::get(self.metrics(number))
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("no {name} in {text}"))
            .parse()
            .unwrap()
    }

    /// Waits until a member measures none of something.
    pub(crate) async fn until_none(&self, number: usize, name: &str) {
        let none = async {
            while self.measured(number, name).await > 0 {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(DEADLINE, none)
            .await
            .unwrap_or_else(|_| panic!("{name} of member-{number} never comes to none"));
    }

    /// Makes the folder of another member, which is told of the first one only, and gives its number.
    pub(crate) fn join(&mut self) -> usize {
        let number = self.members.len() + 1;
        let first = &self.made["members"][0];
        let member = format!(
            "{}={}",
            first["organization"].as_str().unwrap(),
            first["gateway"].as_str().unwrap()
        );
        let output = stele(&[
            "network",
            "join",
            "--genesis",
            self.data(1).join("genesis.json").to_str().unwrap(),
            "--member",
            &member,
            "--out",
            self.folder(number).to_str().unwrap(),
            "--port",
            &free_ports(5).to_string(),
            "--json",
        ]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let made: Value = serde_json::from_slice(&output.stdout).unwrap();
        self.made["members"].as_array_mut().unwrap().push(made);
        self.members.push(None);
        number
    }

    pub(crate) fn validator(&self, number: usize) -> String {
        let member = &self.made["members"][number - 1];
        member["validator"].as_str().unwrap().to_owned()
    }

    /// Proposes as the first of these members, and the others vote yes.
    pub(crate) async fn decide(&self, members: &[usize], decision: &[&str]) {
        let arguments = [&["governance", "propose"], decision, &["--json"]].concat();
        let proposed = self.json(members[0], &arguments);
        let id = proposed["proposal"].to_string();
        for member in &members[1..] {
            let mut votes = 0;
            // The proposal may not have come to this member yet.
            while votes < 100 {
                let vote = ["governance", "vote", &id, "yes", "--json"];
                if self.try_command(*member, &vote).0 {
                    break;
                }
                votes += 1;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            assert!(votes < 100, "member-{member} can't vote on {decision:?}");
        }
    }

    /// Waits until a member knows that an epoch has begun, and gives its validators' keys.
    pub(crate) async fn epoch(&self, number: usize, epoch: u64) -> Vec<String> {
        let reached = async {
            loop {
                let shown = self.json(number, &["governance", "show", "--json"]);
                if shown["epoch"]["number"].as_u64() >= Some(epoch) {
                    return shown["epoch"]["validators"].clone();
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        let validators = tokio::time::timeout(DEADLINE, reached)
            .await
            .unwrap_or_else(|_| panic!("member-{number} does not reach epoch {epoch}"));
        let keys = validators.as_array().unwrap().iter();
        keys.map(|one| one["key"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Folder of a member, counted from 1.
    pub(crate) fn folder(&self, number: usize) -> PathBuf {
        self.parent.path().join(format!("net/member-{number}"))
    }

    pub(crate) fn data(&self, number: usize) -> PathBuf {
        self.folder(number).join("data")
    }

    pub(crate) fn config(&self, number: usize) -> PathBuf {
        self.folder(number).join("stele.toml")
    }

    /// Starts a member and waits until it says that it is ready.
    pub(crate) fn start(&mut self, number: usize) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_stele"))
            .arg("node")
            .arg("--config")
            .arg(self.config(number))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let errors = BufReader::new(child.stderr.take().unwrap());
        // Read all the time, or a node that says much would wait for somebody to listen.
        std::thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                eprintln!("member-{number}: {line}");
            }
        });
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, first) = std::sync::mpsc::channel();
        std::thread::spawn(move || sender.send(lines.next()));
        let line = first.recv_timeout(DEADLINE).unwrap_or_default();
        self.members[number - 1] = Some(child);
        let line = line.unwrap_or_else(|| panic!("member-{number} did not start"));
        let ready: Value = serde_json::from_str(&line.unwrap()).unwrap();
        assert_eq!(ready["ready"], true);
    }

    /// What a member that can't start says on standard error.
    pub(crate) fn refusal(&self, number: usize) -> String {
        let output = stele(&["node", "--config", self.config(number).to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2), "it starts");
        assert!(output.stdout.is_empty(), "it says that it is ready");
        String::from_utf8(output.stderr).unwrap()
    }

    /// As a power failure would.
    pub(crate) fn kill(&mut self, number: usize) {
        let mut child = self.members[number - 1].take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// As an operator would; the member must end by itself and well.
    pub(crate) fn stop(&mut self, number: usize) {
        let mut child = self.members[number - 1].take().unwrap();
        let pid = child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        assert!(sent.success());
        assert!(child.wait().unwrap().success());
    }

    /// Runs a command on a member's folder; it must say yes and answer in JSON.
    pub(crate) fn json(&self, number: usize, arguments: &[&str]) -> Value {
        let (ok, text) = self.try_command(number, arguments);
        assert!(ok, "{arguments:?}: {text}");
        serde_json::from_str(text.lines().last().unwrap_or_default())
            .unwrap_or_else(|error| panic!("{arguments:?} answered {text:?}: {error}"))
    }

    /// Runs a command on a member's folder: whether it said yes, and standard output with standard error before it.
    pub(crate) fn try_command(&self, number: usize, arguments: &[&str]) -> (bool, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_stele"))
            .args(arguments)
            .env("STELE_DATA", self.data(number))
            .output()
            .unwrap();
        let text = [output.stderr, output.stdout].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    }

    fn ready(&self, number: usize) -> Value {
        let text = std::fs::read_to_string(self.data(number).join("ready.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// Address below a member's gateway.
    pub(crate) fn url(&self, number: usize, path: &str) -> String {
        format!("{}{path}", self.ready(number)["http"].as_str().unwrap())
    }

    /// Where a member serves its metrics.
    pub(crate) fn metrics(&self, number: usize) -> String {
        self.ready(number)["metrics"].as_str().unwrap().to_owned()
    }

    pub(crate) fn fhir(&self, number: usize, path: &str) -> String {
        self.url(number, &format!("/fhir/r4/{path}"))
    }

    pub(crate) fn organization(&self, number: usize) -> String {
        self.made["members"][number - 1]["organization"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// A client of a member's gateway.
    pub(crate) fn client(&self, number: usize, scope: &str, act_as: Option<&str>) -> Client {
        let mut arguments = vec!["token", "--scope", scope];
        if let Some(account) = act_as {
            arguments.extend(["--as", account]);
        }
        let (ok, text) = self.try_command(number, &arguments);
        assert!(ok, "{text}");
        Client::new(text.trim().to_owned())
    }

    /// Asks a member over JSON-RPC.
    pub(crate) async fn rpc(&self, number: usize, method: &str, params: Value) -> Value {
        let url = self.ready(number)["rpc"].as_str().unwrap().to_owned();
        let call = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let client = reqwest::Client::new();
        let answer = client.post(url).json(&call).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }

    pub(crate) async fn height(&self, number: usize) -> u64 {
        let text = self.rpc(number, "eth_blockNumber", json!([])).await;
        quantity(&text)
    }

    /// Waits until a member has a height.
    pub(crate) async fn until(&self, number: usize, height: u64) {
        let reached = async {
            while self.height(number).await < height {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(DEADLINE, reached)
            .await
            .unwrap_or_else(|_| panic!("member-{number} does not reach {height}"));
    }

    /// A member's block at a height, without its transactions.
    pub(crate) async fn block(&self, number: usize, height: u64) -> Value {
        let asked = json!([format!("{height:#x}"), false]);
        self.rpc(number, "eth_getBlockByNumber", asked).await
    }

    /// Holds the blocks of all given members against the first one's, up to the height all of them have.
    pub(crate) async fn agree(&self, members: &[usize]) -> u64 {
        let mut common = u64::MAX;
        for number in members {
            common = common.min(self.height(*number).await);
        }
        for height in 0..=common {
            let first = self.block(members[0], height).await;
            for number in &members[1..] {
                let block = self.block(*number, height).await;
                assert_eq!(block["hash"], first["hash"], "height {height}");
                assert_eq!(block["stateRoot"], first["stateRoot"], "height {height}");
            }
        }
        common
    }
}

impl Drop for Consortium {
    fn drop(&mut self) {
        for child in self.members.iter_mut().flatten() {
            // Already gone after `kill` and `stop`.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Reads JSON-RPC's hexadecimal numbers.
pub(crate) fn quantity(value: &Value) -> u64 {
    let text = value.as_str().unwrap().trim_start_matches("0x");
    u64::from_str_radix(text, 16).unwrap()
}
