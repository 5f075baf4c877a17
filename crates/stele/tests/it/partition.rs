//! Members far apart and cut off from each other: processes of their own, with a relay between any two.

use std::{fs, net::SocketAddr, time::Duration};

use crate::{
    consortium::Consortium,
    node::{Client, patient},
    relay::Relay,
};

/// One way, between any two members.
const DELAY: Duration = Duration::from_millis(20);

/// Four members with relays between them, running.
struct Apart {
    consortium: Consortium,
    /// From a member to another, both counted from 1.
    relays: Vec<(usize, usize, Relay)>,
}

impl Apart {
    async fn new() -> Self {
        let mut consortium = Consortium::new(4);
        let mut relays = Vec::new();
        let listens: Vec<SocketAddr> = (1..=4)
            .map(|number| {
                let config = fs::read_to_string(consortium.config(number)).unwrap();
                let config: toml::Table = config.parse().unwrap();
                let listen = config["network"]["listen"].as_str().unwrap();
                listen.parse().unwrap()
            })
            .collect();
        for from in 1..=4 {
            let path = consortium.config(from);
            let mut config = fs::read_to_string(&path).unwrap();
            for to in (1..=4).filter(|to| *to != from) {
                let far = listens[to - 1];
                let relay = Relay::new(far, DELAY).await.unwrap();
                let quoted = format!("\"{far}\"");
                assert!(config.contains(&quoted), "member-{to} is at {far}");
                config = config.replace(&quoted, &format!("\"{}\"", relay.address()));
                relays.push((from, to, relay));
            }
            fs::write(&path, config).unwrap();
        }
        for number in 1..=4 {
            consortium.start(number);
        }
        Self { consortium, relays }
    }

    /// Cuts what lies between the two sides, or mends it.
    fn set_open(&self, side: &[usize], open: bool) {
        for (from, to, relay) in &self.relays {
            if side.contains(from) != side.contains(to) {
                relay.set_open(open);
            }
        }
    }

    async fn write(&self, client: &Client, number: usize, id: &str) -> u16 {
        let url = self.consortium.fhir(number, &format!("Patient/{id}"));
        let written = client.put_text(&url, patient(id).to_string()).await;
        written.status
    }
}

/// NFR-REL1, NFR-CON, LIM-13: members 20 ms apart; one cut off stops nobody; two and two: neither side decides anything,
/// both go on reading, and what was promised on either side is there once they hear each other again.
#[tokio::test(flavor = "multi_thread")]
async fn two_and_two_stand_still_and_agree_again() {
    let apart = Apart::new().await;
    let consortium = &apart.consortium;
    let first = consortium.client(1, "system/*.cruds", None);
    let third = consortium.client(3, "system/*.cruds", None);
    assert_eq!(apart.write(&first, 1, "together").await, 201);

    apart.set_open(&[4], false);
    assert_eq!(apart.write(&first, 1, "one-away").await, 201);
    apart.set_open(&[4], true);
    consortium.until(4, consortium.height(1).await).await;

    apart.set_open(&[1, 2], false);
    assert_eq!(apart.write(&first, 1, "this-side").await, 202, "promised");
    assert_eq!(apart.write(&third, 3, "that-side").await, 202, "promised");
    let heights = [consortium.height(1).await, consortium.height(3).await];
    let read = first.get(&consortium.fhir(1, "Patient/one-away")).await;
    assert_eq!(read.status, 200, "reading needs no quorum");
    let now = [consortium.height(1).await, consortium.height(3).await];
    for (before, after) in heights.into_iter().zip(now) {
        assert!(after <= before + 1, "more than what was under way is final");
    }

    apart.set_open(&[1, 2], true);
    let height = consortium.height(1).await.max(consortium.height(3).await);
    for number in 1..=4 {
        consortium.until(number, height + 4).await;
    }
    for (client, number, id) in [(&first, 1, "this-side"), (&third, 3, "that-side")] {
        let url = consortium.fhir(number, &format!("Patient/{id}"));
        let mut kept = client.get(&url).await;
        for _ in 0..300 {
            if kept.status == 200 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            kept = client.get(&url).await;
        }
        assert_eq!(kept.status, 200, "{id}: {}", kept.text);
    }
    consortium.agree(&[1, 2, 3, 4]).await;
}

/// NFR-REL1: all members are stopped and started, one after the other, as for a new version of the program, and every
/// write in between, at a member that is up, is answered at once.
#[tokio::test(flavor = "multi_thread")]
async fn all_members_are_rolled_and_none_of_the_writes_waits() {
    let mut consortium = Consortium::running(4);
    for number in 1..=4 {
        let up = number % 4 + 1;
        consortium.stop(number);
        let client = consortium.client(up, "system/*.cruds", None);
        let id = format!("while-{number}-is-away");
        let url = consortium.fhir(up, &format!("Patient/{id}"));
        let written = client.put_text(&url, patient(&id).to_string()).await;
        assert_eq!(written.status, 201, "{}", written.text);
        consortium.start(number);
        consortium.until(number, consortium.height(up).await).await;
    }
    consortium.agree(&[1, 2, 3, 4]).await;
}
