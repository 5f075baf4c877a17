//! One page that shows the members: who is up, how far each is, and whether they agree.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};

use super::Shown;

/// How long a member may take to say where it is.
const TIMEOUT: Duration = Duration::from_secs(2);

/// `GET /` shows the members of now.
pub(super) fn router(members: Arc<Vec<Shown>>) -> Router {
    Router::new().route("/", get(page)).with_state(members)
}

/// A member's last final block.
struct Tip {
    height: u64,
    state_root: String,
}

async fn page(State(members): State<Arc<Vec<Shown>>>) -> Response {
    let client = reqwest::Client::new();
    let tips = futures::future::join_all(members.iter().map(|one| tip(&client, one, None))).await;
    let common = tips.iter().flatten().map(|tip| tip.height).min();
    let at = members.iter().map(|one| tip(&client, one, common));
    let roots = futures::future::join_all(at).await;
    let mut known = roots.iter().flatten().map(|tip| tip.state_root.as_str());
    let first = known.next();
    let agree = known.all(|root| Some(root) == first);
    let mut rows = String::new();
    for (one, tip) in members.iter().zip(&tips) {
        let (state, height) = match tip {
            Some(tip) => ("up", tip.height.to_string()),
            None => ("down", "–".to_owned()),
        };
        // Writing into a string can't fail.
        let _ = write!(
            rows,
            "<tr><th scope=row>{}</th><td>{state}</td><td>{height}</td><td>{}</td>\
             <td><a href=\"{}\">{}</a></td><td>{}</td><td>{}</td></tr>",
            one.name,
            one.process,
            one.ready.http,
            one.ready.http,
            one.ready.rpc,
            escape(&one.log.display().to_string())
        );
    }
    let verdict = match (common, first) {
        (Some(height), Some(root)) if agree => {
            format!("At height {height} all members that answer have the state root {root}.")
        }
        (Some(height), _) => {
            format!("At height {height} the members do <strong>not</strong> agree.")
        }
        (None, _) => "No member answers.".to_owned(),
    };
    let html = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=refresh content=2>\
         <title>Consortium</title><h1>Consortium of {}</h1><p role=status>{verdict}</p>\
         <table border=1 cellpadding=6><thead><tr><th>Member<th>State<th>Height<th>Process<th>Gateway\
         <th>JSON-RPC<th>Log</tr></thead><tbody>{rows}</tbody></table></html>",
        members.len()
    );
    let headers = [
        (CACHE_CONTROL, "no-store"),
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
    ];
    (headers, Html(html)).into_response()
}

/// The block of a member at a height, or its last one; `None` if it does not answer.
async fn tip(client: &reqwest::Client, member: &Shown, height: Option<u64>) -> Option<Tip> {
    let at = height.map_or_else(|| "latest".to_owned(), |height| format!("{height:#x}"));
    let call = json!({
        "jsonrpc": "2.0", "id": 1, "method": "eth_getBlockByNumber", "params": [at, false]
    });
    let request = client.post(&member.ready.rpc).timeout(TIMEOUT).json(&call);
    let answer: Value = request.send().await.ok()?.json().await.ok()?;
    let block = answer.get("result")?;
    let number = block.get("number")?.as_str()?.strip_prefix("0x")?;
    Some(Tip {
        height: u64::from_str_radix(number, 16).ok()?,
        state_root: block.get("stateRoot")?.as_str()?.to_owned(),
    })
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
