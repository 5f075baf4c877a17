//! `GET metadata`: what this server can do.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::{RawQuery, State},
    http::{HeaderMap, StatusCode},
};
use serde_json::{Value, json};
use stele_fhir::capability::{Server, Smart, statement};

use super::{asked::READ_ONLY, headers::View, page};
use crate::{body, front::Front, problem::Answer};

/// `GET metadata`
pub(super) async fn metadata(
    State(front): State<Arc<Front>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Answer {
    let view = View::read(&headers, &body::pairs(query.unwrap_or_default().as_bytes()))?;
    let text = front
        .metadata
        .get_or_init(|| Bytes::from(text(&front)))
        .clone();
    if view.pretty {
        let text = String::from_utf8_lossy(&text).into_owned();
        return Ok(page::shown(StatusCode::OK, text, &view));
    }
    Ok(page::json(StatusCode::OK, text))
}

fn text(front: &Front) -> String {
    let config = &front.config;
    let (base_url, token_url) = (config.fhir_url(), config.token_url());
    let introspect_url = config.introspect_url();
    let date = front.service.now().to_instant();
    let mut statement = statement(&Server {
        base_url: &base_url,
        version: env!("CARGO_PKG_VERSION"),
        date: &date,
        smart: Some(Smart {
            token_url: &token_url,
            authorize_url: None,
            introspect_url: Some(&introspect_url),
        }),
        read_only: &READ_ONLY,
        full_text: true,
    });
    complete(&mut statement);
    statement.to_string()
}

/// What this front adds to the data model's own statement: conditional deletes, and no web page of another origin.
fn complete(statement: &mut Value) {
    let Some(rest) = statement.pointer_mut("/rest/0") else {
        return;
    };
    if let Some(security) = rest.get_mut("security").and_then(Value::as_object_mut) {
        security.insert("cors".to_owned(), json!(false));
    }
    let resources = rest.get_mut("resource").and_then(Value::as_array_mut);
    for resource in resources
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
    {
        if let Some(delete) = resource.get_mut("conditionalDelete") {
            *delete = json!("single");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statement_says_what_this_front_does() {
        let mut value = statement(&Server {
            base_url: "http://h/fhir/r4",
            version: "1",
            date: "2026-01-01",
            smart: Some(Smart {
                token_url: "http://h/auth/token",
                authorize_url: None,
                introspect_url: None,
            }),
            read_only: &READ_ONLY,
            full_text: true,
        });
        complete(&mut value);
        assert_eq!(stele_fhir::validate::resource(&value), []);
        assert_eq!(value["rest"][0]["security"]["cors"], false);
        let resources = value["rest"][0]["resource"].as_array().expect("types");
        let patient = resources
            .iter()
            .find(|r| r["type"] == "Patient")
            .expect("Patient");
        assert_eq!(patient["conditionalDelete"], "single");
    }
}
