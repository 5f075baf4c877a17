//! What a monitoring system gets from the members of a consortium, and the dashboard that is made of it.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::consortium::Consortium;

/// Names of metrics in what a panel asks, without what the kinds add to them.
fn names(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|letter: char| !letter.is_ascii_lowercase() && letter != '_');
    words
        .filter(|word| {
            ["stele_", "engine_", "network_"]
                .iter()
                .any(|prefix| word.starts_with(prefix))
        })
        .map(|word| {
            let name = word.strip_suffix("_total").unwrap_or(word);
            name.strip_suffix("_bucket").unwrap_or(name).to_owned()
        })
        .collect()
}

fn expressions(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str() {
                    Some(text) if name == "expr" || name == "query" => found.extend(names(text)),
                    _ => expressions(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| expressions(value, found)),
        _ => {}
    }
}

/// NFR-REL1: every metric that the dashboard asks for is served by a member of a running consortium: its own ones, and
/// those of consensus, with the members it is connected to and the turns that were passed over.
#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_asks_for_what_members_serve() {
    let mut consortium = Consortium::running(4);
    let client = consortium.client(1, "system/*.cruds", None);
    let missing = client.get(&consortium.fhir(1, "Patient/nobody")).await;
    assert_eq!(missing.status, 404, "{}", missing.text);
    // So that turns are passed over.
    consortium.kill(4);
    consortium.until(1, consortium.height(1).await + 5).await;

    let mut served = String::new();
    let metrics = consortium.metrics(1);
    for url in [metrics.clone(), format!("{metrics}/consensus")] {
        let answer = reqwest::get(&url).await.unwrap();
        assert_eq!(answer.status(), 200, "{url}");
        let kind = answer.headers()["content-type"].to_str().unwrap();
        assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
        let text = answer.text().await.unwrap();
        assert!(text.ends_with("# EOF\n"), "{url}");
        served.push_str(&text);
    }
    let dashboard = include_str!("../../../../contrib/grafana-dashboard.json");
    let mut asked = BTreeSet::new();
    expressions(&serde_json::from_str(dashboard).unwrap(), &mut asked);
    assert!(asked.len() > 12, "{asked:?}");
    for name in asked {
        let line = format!("# TYPE {name} ");
        assert!(served.contains(&line), "{name} is not served");
    }
    let connected = served.lines();
    let connected =
        connected.filter(|line| line.starts_with("network_tracker_directory_connected{"));
    assert!((2..=3).contains(&connected.count()), "members connected");
}
