//! The auditor's desk beyond the list of blocks: search, one transaction, one account, whose records were looked at and by
//! whom, whether anything is missing, and a signed report to take along.

use std::sync::Arc;

use alloy_primitives::{Address, B256};
use axum::{
    Router,
    extract::{Path, RawQuery, State},
    response::{IntoResponse as _, Redirect},
    routing::{get, post},
};
use maud::{Markup, html};
use stele_core::id::PatientId;
use stele_service::people::{
    AccountDetail, Found, Looked, Named, ROLES, TransactionDetail, contract_name,
};

use super::{
    ask::numbered,
    history::action,
    ledger::{AUDIT, Who, table},
    requests::who,
    worklist::head,
};
use crate::{
    error::{Answer, Refusal},
    form::Fields,
    front::Portal,
    page::{Page, Place, Rendered, csrf, icon, tag},
    session::Signed,
    shown::{capital, clock, list, moment, parts, short, short_date},
};

mod complete;
mod report;

pub(super) fn routes() -> Router<Arc<Portal>> {
    Router::new()
        .route("/ledger/find", get(find))
        .route("/ledger/transactions/{hash}", get(transaction))
        .route("/ledger/accounts/{account}", get(account))
        .route("/ledger/accounts/{account}/accesses", get(accesses))
        .route("/ledger/accounts/{account}/report", post(report::make))
        .route("/ledger/accounts/{account}/complete", post(complete::one))
        .route("/ledger/complete", get(complete::page).post(complete::step))
}

/// The field that finds everything, for all pages of the desk.
pub(super) fn search(given: &str) -> Markup {
    html! {
        form.filters method="get" action="/ledger/find" role="search" aria-label="Ledger" {
            div.field.wide {
                label for="find" { "Block, transaction, account, patient number or name" }
                input #find type="search" name="find" value=(given) maxlength="100" autocomplete="off";
            }
            button.btn { (icon("search")) " Find" }
        }
    }
}

/// `GET /ledger/find`: to the one thing that is meant, or a list of names.
async fn find(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    RawQuery(query): RawQuery,
) -> Answer {
    signed.require(AUDIT)?;
    let fields = Fields::parse(query.unwrap_or_default().as_bytes());
    let text = fields.text("find");
    let is_number = text.to_ascii_uppercase().starts_with("PAT");
    if is_number && let Some(patient) = numbered(&portal, text)? {
        return Ok(Redirect::to(&format!("/ledger/accounts/{}", patient.0)).into_response());
    }
    let found = portal.service.find_on_ledger(&signed.actor, text).await?;
    let next = match &found {
        Found::Block(height) => format!("/ledger/blocks/{height}"),
        Found::Transaction(hash) => format!("/ledger/transactions/{hash}"),
        Found::Account(account) => format!("/ledger/accounts/{account}"),
        Found::Names(names) => return names_page(&portal, &signed, text, names).await,
    };
    Ok(Redirect::to(&next).into_response())
}

async fn names_page(portal: &Portal, signed: &Signed, text: &str, names: &[Named]) -> Answer {
    let mut rows = Vec::with_capacity(names.len());
    for named in names {
        let organization = match named.organization {
            Some(organization) => portal.name(organization.0).await?.name,
            None => "Organisation".to_owned(),
        };
        rows.push((named, organization));
    }
    let main = html! {
        a.back href="/ledger" { "Back to the ledger" }
        h1 { "Find" }
        (search(text))
        @if rows.is_empty() {
            p { "Nothing of that number or name. Patients are found by number only, such as PAT003; suspended staff by account." }
        } @else {
            table.stacks role="table" {
                caption.hide { "Staff and organisations found" }
                (head(&["Name", "What", "Organisation"]))
                tbody role="rowgroup" {
                    @for (named, organization) in &rows {
                        tr role="row" {
                            th role="rowheader" scope="row" { a href={ "/ledger/accounts/" (named.account) } { (named.name) } }
                            td role="cell" data-label="What" { (named.what.as_deref().map(capital).unwrap_or_default()) }
                            td role="cell" data-label="Organisation" { (organization) }
                        }
                    }
                }
            }
        }
    };
    Ok(Page::new("Find on the ledger", main)
        .at(Place::Ledger)
        .render(Some(signed))
        .into_response())
}

/// `GET /ledger/transactions/{hash}`
async fn transaction(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    Path(hash): Path<String>,
) -> Answer<Rendered> {
    signed.require(AUDIT)?;
    let hash: B256 = hash.parse().map_err(|_| Refusal::not_found())?;
    let found = portal.service.transaction_at(&signed.actor, hash)?;
    let sender = who(&portal, found.line.sender).await?;
    let mut events = Vec::with_capacity(found.events.len());
    for event in &found.events {
        let mut names = Vec::new();
        for account in &event.concerns {
            names.push((*account, who(&portal, *account).await?));
        }
        events.push((event, names));
    }
    let main = html! {
        a.back href={ "/ledger/blocks/" (found.height) } { "Back to block " (found.height) }
        h1 { "Transaction" }
        p.lead { strong { (sender) } " " (found.line.words) "." }
        (facts(&found, &sender))
        section.flow {
            h2 { "Events" }
            @if events.is_empty() { p.soft { "It left none." } }
            ol.rows {
                @for (event, names) in &events {
                    li.tight {
                        p { strong { (event.contract) } " " span.mono { (event.name) } }
                        p.small.soft {
                            @for (at, (account, name)) in names.iter().enumerate() {
                                @if at > 0 { ", " } a href={ "/ledger/accounts/" (account) } { (name) }
                            }
                            @if !names.is_empty() { " · " } (event.data_bytes) " bytes of data"
                        }
                    }
                }
            }
        }
    };
    Ok(Page::new("A transaction", main)
        .at(Place::Ledger)
        .render(Some(&signed)))
}

fn facts(found: &TransactionDetail, sender: &str) -> Markup {
    html! {
        dl.facts {
            dt { "Outcome" } dd { @if found.line.success { span.state.ok { (icon("check")) " Done" } } @else { span.state.bad { (icon("circle-x")) " Refused" } } }
            dt { "Made" } dd { (moment(found.at)) " UTC, in " a href={ "/ledger/blocks/" (found.height) } { "block " (found.height) } }
            dt { "By" } dd { a href={ "/ledger/accounts/" (found.line.sender) } { (sender) } ", signed with " (found.line.signature) }
            dt { "Asked" } dd { (found.to.and_then(contract_name).unwrap_or("a contract")) ", with " (found.input_bytes) " bytes" }
            dt { "Gas" } dd { (found.gas_used) }
            dt { "Digest" } dd.mono { (found.line.hash) }
        }
    }
}

fn account_of(text: &str) -> Answer<Address> {
    text.parse().map_err(|_| Refusal::not_found())
}

const fn kind_words(kind: u8) -> &'static str {
    match kind {
        1 => "Organisation",
        2 => "Member of staff",
        3 => "Patient",
        4 => "Device",
        _ => "Not known",
    }
}

fn status_tag(status: u8) -> Markup {
    match status {
        1 => tag("ok", "circle-check", "Active"),
        2 => tag("", "ban", "Suspended"),
        _ => tag("", "circle-minus", "Closed"),
    }
}

/// `GET /ledger/accounts/{account}`
async fn account(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    Path(text): Path<String>,
    RawQuery(query): RawQuery,
) -> Answer<Rendered> {
    signed.require(AUDIT)?;
    let account = account_of(&text)?;
    let fields = Fields::parse(query.unwrap_or_default().as_bytes());
    let below = fields.text("below").parse().ok();
    let detail = match contract_name(account) {
        Some(_) => None,
        None => Some(portal.service.account_detail(&signed.actor, account)?),
    };
    let name = match contract_name(account) {
        Some(name) => format!("Contract {name}"),
        None => who(&portal, account).await?,
    };
    let (service, actor) = (Arc::clone(&portal.service), signed.actor.clone());
    let looked =
        tokio::task::spawn_blocking(move || service.transactions_about(&actor, account, below));
    let (blocks, next) = looked
        .await
        .map_err(|_| Refusal::bad_form("The search was cut off. Try again."))??;
    let mut names = Who::default();
    names.learn(&portal, &blocks).await?;
    let main = html! {
        a.back href="/ledger" { "Back to the ledger" }
        div.page-head {
            div.tight { h1 { (name) } p.mono.small.soft { (account) } }
            @if let Some(detail) = &detail { (acts(&signed, account, detail)) }
        }
        @if let Some(detail) = &detail {
            (complete::outcome(&portal, &signed, account)?)
            (account_facts(&portal, detail).await?)
        }
        section.flow {
            h2 { "On the ledger" }
            @if blocks.is_empty() { p.soft { "No transactions in the blocks looked through." } } @else { (table(&blocks, &names)) }
            @if let Some(next) = next { div.actions { a.btn href={ "/ledger/accounts/" (account) "?below=" (next) } { "Look further back" } } }
        }
    };
    Ok(Page::new("An account", main)
        .at(Place::Ledger)
        .render(Some(&signed)))
}

/// What can be asked about an account.
fn acts(signed: &Signed, account: Address, detail: &AccountDetail) -> Markup {
    let is_own_patient = detail.kind == 3 && detail.sponsor == signed.person.organization;
    html! {
        div.actions {
            @if matches!(detail.kind, 2 | 3) {
                a.btn href={ "/ledger/accounts/" (account) "/accesses" } {
                    (icon("eye")) @if detail.kind == 3 { " Who looked" } @else { " What they looked at" }
                }
            }
            @if is_own_patient {
                form method="post" action={ "/ledger/accounts/" (account) "/complete" } {
                    (csrf(signed))
                    button.btn { (icon("check")) " Check that nothing is missing" }
                }
            }
        }
    }
}

async fn account_facts(portal: &Portal, detail: &AccountDetail) -> Answer<Markup> {
    let roles: Vec<&str> = ROLES
        .iter()
        .filter(|(_, bit, _)| detail.roles & bit != 0)
        .map(|(_, _, words)| *words)
        .collect();
    let sponsor = portal.name(detail.sponsor.0).await?.name;
    let (at, transaction) = detail.registered;
    Ok(html! {
        dl.facts {
            dt { "Kind" } dd { (kind_words(detail.kind)) " " (status_tag(detail.status)) }
            @if !roles.is_empty() { dt { "Roles" } dd { (roles.join(", ")) } }
            @if detail.kind != 1 { dt { "Organisation" } dd { a href={ "/ledger/accounts/" (detail.sponsor.0) } { (sponsor) } } }
            dt { "Registered" } dd {
                (moment(at)) " UTC"
                // What the genesis has was registered by no transaction.
                @if !transaction.is_zero() { ", " a href={ "/ledger/transactions/" (transaction) } { "by this transaction" } }
            }
            dt { "Keys added" }
            dd {
                @if detail.keys.is_empty() { "None" }
                @for (id, is_passkey, is_removed) in &detail.keys {
                    div { span.mono { (short(&id.to_string())) } " " @if *is_passkey { "passkey" } @else { "wallet or key file" } @if *is_removed { ", removed" } }
                }
            }
        }
    })
}

/// `GET /ledger/accounts/{account}/accesses`
async fn accesses(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    Path(text): Path<String>,
    RawQuery(query): RawQuery,
) -> Answer<Rendered> {
    signed.require(AUDIT)?;
    let account = account_of(&text)?;
    let fields = Fields::parse(query.unwrap_or_default().as_bytes());
    let detail = portal.service.account_detail(&signed.actor, account)?;
    let service = &portal.service;
    let (looked, next) = match detail.kind {
        3 => {
            let looked = service.looks_at(&signed.actor, PatientId(account)).await?;
            (looked, None)
        }
        2 => {
            let below = fields.text("below").parse().ok();
            service.looks_by(&signed.actor, account, below).await?
        }
        _ => return Err(Refusal::not_found()),
    };
    let name = who(&portal, account).await?;
    let is_patient = detail.kind == 3;
    let mut rows = Vec::with_capacity(looked.len());
    for one in &looked {
        let other = if is_patient { one.actor } else { one.log };
        rows.push((one, other, who(&portal, other).await?));
    }
    let refused = looked.iter().filter(|one| !one.allowed).count();
    let main = html! {
        a.back href={ "/ledger/accounts/" (account) } { "Back to " (name) }
        div.page-head {
            div.tight {
                h1 { @if is_patient { "Who looked at the record of " (name) } @else { "What " (name) " looked at" } }
                p.soft { (looked.len()) " accesses, " (refused) " of them refused. Times are in UTC. That you looked here is noted." }
            }
            @if is_patient && detail.sponsor == signed.person.organization { (report::buttons(&signed, account)) }
        }
        @if rows.is_empty() { p { "None in what was looked through." } } @else { (access_table(&rows, is_patient)) }
        @if let Some(next) = next { div.actions { a.btn href={ "/ledger/accounts/" (account) "/accesses?below=" (next) } { "Look further back" } } }
    };
    Ok(Page::new("Accesses", main)
        .at(Place::Ledger)
        .render(Some(&signed)))
}

fn access_table(rows: &[(&Looked, Address, String)], is_patient: bool) -> Markup {
    html! {
        table.stacks role="table" {
            caption.hide { "Accesses, newest first" }
            (head(&["Time", if is_patient { "Who" } else { "Whose" }, "What", "Parts", "Why", "Outcome"]))
            tbody role="rowgroup" {
                @for (one, other, name) in rows {
                    tr role="row" {
                        th role="rowheader" scope="row" { span.nowrap { (short_date(&one.at.to_instant())) " " (clock(one.at)) } }
                        td role="cell" data-label=(if is_patient { "Who" } else { "Whose" }) { a href={ "/ledger/accounts/" (other) } { (name) } }
                        td role="cell" data-label="What" { (capital(action(one.action))) ", " (one.records) @if one.records == 1 { " entry" } @else { " entries" } }
                        td role="cell" data-label="Parts" { (capital(&parts(&one.categories))) }
                        td role="cell" data-label="Why" { (capital(&list(&one.purposes.iter().map(|why| why.words().to_owned()).collect::<Vec<_>>()))) }
                        td role="cell" data-label="Outcome" {
                            @if one.allowed { span.state.ok { (icon("check")) " Allowed" } } @else { span.state.bad { (icon("circle-x")) " Refused" } }
                        }
                    }
                }
            }
        }
    }
}
