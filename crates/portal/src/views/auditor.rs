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
    shown::{capital, clock, list, moment, parts, purpose, short, short_date},
    text,
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
        form.filters method="get" action="/ledger/find" role="search" aria-label=(text!("Ledger")) {
            div.field.wide {
                label for="find" { (text!("Block, transaction, account, patient number or name")) }
                input #find type="search" name="find" value=(given) maxlength="100" autocomplete="off";
            }
            button.btn { (icon("search")) " " (text!("Find")) }
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
            None => text!("Organisation").to_owned(),
        };
        rows.push((named, organization));
    }
    let main = html! {
        a.back href="/ledger" { (text!("Back to the ledger")) }
        h1 { (text!("Find")) }
        (search(text))
        @if rows.is_empty() {
            p { (text!("Nothing of that number or name. Patients are found by number only, such as PAT003; suspended staff by account.")) }
        } @else {
            table.stacks role="table" {
                caption.hide { (text!("Staff and organisations found")) }
                (head(&[text!("Name"), text!("What"), text!("Organisation")]))
                tbody role="rowgroup" {
                    @for (named, organization) in &rows {
                        tr role="row" {
                            th role="rowheader" scope="row" { a href={ "/ledger/accounts/" (named.account) } { (named.name) } }
                            td role="cell" data-label=(text!("What")) { (named.what.as_deref().map(capital).unwrap_or_default()) }
                            td role="cell" data-label=(text!("Organisation")) { (organization) }
                        }
                    }
                }
            }
        }
    };
    Ok(Page::new(text!("Find on the ledger"), main)
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
        a.back href={ "/ledger/blocks/" (found.height) } { (rich!("Back to block {height}", height = found.height)) }
        h1 { (text!("Transaction")) }
        p.lead { strong { (sender) } " " (text::of(found.line.words)) "." }
        (facts(&found, &sender))
        section.flow {
            h2 { (text!("Events")) }
            @if events.is_empty() { p.soft { (text!("It left none.")) } }
            ol.rows {
                @for (event, names) in &events {
                    li.tight {
                        p { strong { (event.contract) } " " span.mono { (event.name) } }
                        p.small.soft {
                            @for (at, (account, name)) in names.iter().enumerate() {
                                @if at > 0 { ", " } a href={ "/ledger/accounts/" (account) } { (name) }
                            }
                            (rich!(
                                "{more}{count} bytes of data",
                                more = html! { @if !names.is_empty() { " · " } },
                                count = event.data_bytes,
                            ))
                        }
                    }
                }
            }
        }
    };
    Ok(Page::new(text!("A transaction"), main)
        .at(Place::Ledger)
        .render(Some(&signed)))
}

fn facts(found: &TransactionDetail, sender: &str) -> Markup {
    html! {
        dl.facts {
            dt { (text!("Outcome")) } dd { @if found.line.success { span.state.ok { (icon("check")) " " (text!("Done")) } } @else { span.state.bad { (icon("circle-x")) " " (text!("Refused")) } } }
            dt { (text!("Made")) } dd { (rich!(
                "{moment} UTC, in {block}",
                moment = moment(found.at),
                block = html! { a href={ "/ledger/blocks/" (found.height) } { (rich!("block {height}", height = found.height)) } },
            )) }
            dt { (text!("By")) } dd { (rich!(
                "{sender}, signed with {signature}",
                sender = html! { a href={ "/ledger/accounts/" (found.line.sender) } { (sender) } },
                signature = text::of(found.line.signature),
            )) }
            dt { (text!("Asked")) } dd { (rich!(
                "{words}, with {input_bytes} bytes",
                words = found.to.and_then(contract_name).unwrap_or(text!("a contract")),
                input_bytes = found.input_bytes,
            )) }
            dt { (text!("Gas")) } dd { (found.gas_used) }
            dt { (text!("Digest")) } dd.mono { (found.line.hash) }
        }
    }
}

fn account_of(text: &str) -> Answer<Address> {
    text.parse().map_err(|_| Refusal::not_found())
}

fn kind_words(kind: u8) -> &'static str {
    match kind {
        1 => text!("Organisation"),
        2 => text!("Member of staff"),
        3 => text!("Patient"),
        4 => text!("Device"),
        _ => text!("Not known"),
    }
}

fn status_tag(status: u8) -> Markup {
    match status {
        1 => tag("ok", "circle-check", text!("Active")),
        2 => tag("", "ban", text!("Suspended")),
        _ => tag("", "circle-minus", text!("Closed")),
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
        Some(name) => text!("Contract {name}", name),
        None => who(&portal, account).await?,
    };
    let (service, actor) = (Arc::clone(&portal.service), signed.actor.clone());
    let looked =
        tokio::task::spawn_blocking(move || service.transactions_about(&actor, account, below));
    let (blocks, next) = looked
        .await
        .map_err(|_| Refusal::bad_form(text!("The search was cut off. Try again.")))??;
    let mut names = Who::default();
    names.learn(&portal, &blocks).await?;
    let main = html! {
        a.back href="/ledger" { (text!("Back to the ledger")) }
        div.page-head {
            div.tight { h1 { (name) } p.mono.small.soft { (account) } }
            @if let Some(detail) = &detail { (acts(&signed, account, detail)) }
        }
        @if let Some(detail) = &detail {
            (complete::outcome(&portal, &signed, account)?)
            (account_facts(&portal, detail).await?)
        }
        section.flow {
            h2 { (text!("On the ledger")) }
            @if blocks.is_empty() { p.soft { (text!("No transactions in the blocks looked through.")) } } @else { (table(&blocks, &names)) }
            @if let Some(next) = next { div.actions { a.btn href={ "/ledger/accounts/" (account) "?below=" (next) } { (text!("Look further back")) } } }
        }
    };
    Ok(Page::new(text!("An account"), main)
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
                    (icon("eye")) @if detail.kind == 3 { " " (text!("Who looked")) } @else { " " (text!("What they looked at")) }
                }
            }
            @if is_own_patient {
                form method="post" action={ "/ledger/accounts/" (account) "/complete" } {
                    (csrf(signed))
                    button.btn { (icon("check")) " " (text!("Check that nothing is missing")) }
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
            dt { (text!("Kind")) } dd { (kind_words(detail.kind)) " " (status_tag(detail.status)) }
            @if !roles.is_empty() { dt { (text!("Roles")) } dd { (roles.join(", ")) } }
            @if detail.kind != 1 { dt { (text!("Organisation")) } dd { a href={ "/ledger/accounts/" (detail.sponsor.0) } { (sponsor) } } }
            dt { (text!("Registered")) } dd {
                (moment(at)) " UTC"
                // What the genesis has was registered by no transaction.
                @if !transaction.is_zero() { ", " a href={ "/ledger/transactions/" (transaction) } { (text!("by this transaction")) } }
            }
            dt { (text!("Keys added")) }
            dd {
                @if detail.keys.is_empty() { (text!("None")) }
                @for (id, is_passkey, is_removed) in &detail.keys {
                    div { span.mono { (short(&id.to_string())) } " " @if *is_passkey { (text!("passkey")) } @else { (text!("wallet or key file")) } @if *is_removed { (text!(", removed")) } }
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
        a.back href={ "/ledger/accounts/" (account) } { (rich!("Back to {name}", name)) }
        div.page-head {
            div.tight {
                h1 { @if is_patient { (rich!("Who looked at the record of {name}", name)) } @else { (rich!("What {name} looked at", name)) } }
                p.soft { (rich!("{looked} accesses, {refused} of them refused. Times are in UTC. That you looked here is noted.", looked = looked.len(), refused)) }
            }
            // Of a member, whoever's staff it is, there is what this organisation served.
            @if detail.sponsor == signed.person.organization || detail.kind == 2 && !looked.is_empty() { (report::buttons(&signed, account)) }
        }
        @if rows.is_empty() { p { (text!("None in what was looked through.")) } } @else { (access_table(&rows, is_patient)) }
        @if let Some(next) = next { div.actions { a.btn href={ "/ledger/accounts/" (account) "/accesses?below=" (next) } { (text!("Look further back")) } } }
    };
    Ok(Page::new(text!("Accesses"), main)
        .at(Place::Ledger)
        .render(Some(&signed)))
}

fn access_table(rows: &[(&Looked, Address, String)], is_patient: bool) -> Markup {
    html! {
        table.stacks role="table" {
            caption.hide { (text!("Accesses, newest first")) }
            (head(&[text!("Time"), if is_patient { text!("Who") } else { text!("Whose") }, text!("What"), text!("Parts"), text!("Why"), text!("Outcome")]))
            tbody role="rowgroup" {
                @for (one, other, name) in rows {
                    tr role="row" {
                        th role="rowheader" scope="row" { span.nowrap { (short_date(&one.at.to_instant())) " " (clock(one.at)) } }
                        td role="cell" data-label=(if is_patient { text!("Who") } else { text!("Whose") }) { a href={ "/ledger/accounts/" (other) } { (name) } }
                        td role="cell" data-label=(text!("What")) { (capital(text::of(action(one.action)))) ", " (plural!(one.records, "1 entry", "{count} entries")) }
                        td role="cell" data-label=(text!("Parts")) { (capital(&parts(&one.categories))) }
                        td role="cell" data-label=(text!("Why")) { (capital(&list(&one.purposes.iter().map(|why| purpose(*why).to_owned()).collect::<Vec<_>>()))) }
                        td role="cell" data-label=(text!("Outcome")) {
                            @if one.allowed { span.state.ok { (icon("check")) " " (text!("Allowed")) } } @else { span.state.bad { (icon("circle-x")) " " (text!("Refused")) } }
                        }
                    }
                }
            }
        }
    }
}
