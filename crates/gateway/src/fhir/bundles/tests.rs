//! Scopes of entries.

use stele_core::{consent::Purpose, id::OrganizationId};
use stele_fhir::outcome::IssueCode;
use stele_service::session::Actor;

use super::*;

fn principal(scopes: &str) -> Principal {
    Principal {
        actor: Actor::system(OrganizationId::default(), Purpose::Treat, "test"),
        scopes: scopes.parse().expect("scopes"),
    }
}

fn plan(bundle_type: &str) -> Plan {
    let text = format!(
        r#"{{"resourceType":"Bundle","type":"{bundle_type}","entry":[
            {{"resource":{{"resourceType":"Patient"}},"request":{{"method":"POST","url":"Patient"}}}},
            {{"request":{{"method":"DELETE","url":"Observation/1"}}}}]}}"#
    );
    let read = parse::resource(text.as_bytes(), &parse::Limits::default()).expect("JSON");
    bundle::parse(read).expect("a plan")
}

#[test]
fn a_transaction_needs_every_scope() {
    assert!(check_scopes(&principal("system/*.cruds"), &mut plan("transaction")).is_ok());
    let refused = check_scopes(&principal("system/*.cru"), &mut plan("transaction"));
    assert_eq!(refused.expect_err("no delete").status, 403);
}

#[test]
fn a_batch_refuses_entries_by_themselves() {
    let mut plan = plan("batch");
    check_scopes(&principal("system/*.cru"), &mut plan).expect("a batch goes on");
    assert!(plan.entries[0].issues.is_empty());
    assert_eq!(plan.entries[1].issues[0].code, IssueCode::Forbidden);
    assert_eq!(
        plan.entries[1].issues[0].expression,
        ["Bundle.entry[1].request"]
    );
}

#[test]
fn the_ledger_s_own_types_are_not_written() {
    let text = r#"{"resourceType":"Bundle","type":"transaction","entry":[
        {"request":{"method":"DELETE","url":"AuditEvent/1"}}]}"#;
    let read = parse::resource(text.as_bytes(), &parse::Limits::default()).expect("JSON");
    let mut plan = bundle::parse(read).expect("a plan");
    let refused = check_scopes(&principal("system/*.cruds"), &mut plan);
    assert_eq!(refused.expect_err("read-only").status, 405);
}

#[test]
fn a_status_is_written_with_its_words() {
    assert_eq!(status_line(StatusCode::CREATED), "201 Created");
}
