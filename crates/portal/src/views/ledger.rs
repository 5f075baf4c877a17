//! The auditor's desk: the ledger in words, and a check of it that anybody can follow.

use std::{collections::BTreeMap, sync::Arc};

use alloy_primitives::{Address, B256};
use axum::{
    Router,
    extract::{Path, RawQuery, State},
    response::{IntoResponse as _, Redirect},
    routing::get,
};
use maud::{Markup, html};
use stele_core::id::PatientId;
use stele_service::{
    directory::role,
    people::{BlockLine, TransactionLine},
};

use super::{account::number, worklist::head};
use crate::{
    error::{Answer, Refusal},
    form::{Fields, Posted},
    front::Portal,
    page::{Page, Place, Rendered, csrf, icon},
    session::Signed,
    shown::{clock, moment, short, short_date},
    text,
};

/// Blocks on one page.
const BLOCKS: usize = 25;

pub(super) fn routes() -> Router<Arc<Portal>> {
    Router::new()
        .route("/ledger", get(page))
        .route("/ledger/check", get(check).post(step))
        .route("/ledger/blocks/{height}", get(block))
}

/// Who may look: auditors, and administrators of their own organisation.
pub(crate) const AUDIT: u32 = role::AUDITOR | role::ADMINISTRATOR;

/// Accounts in words: staff and organisations by name, patients by number.
#[derive(Default)]
pub(super) struct Who(BTreeMap<Address, String>);

impl Who {
    pub(super) async fn learn(&mut self, portal: &Portal, blocks: &[BlockLine]) -> Answer<()> {
        let mut accounts: Vec<Address> = Vec::new();
        for line in blocks.iter().flat_map(|block| &block.transactions) {
            accounts.push(line.sender);
            accounts.extend(&line.concerns);
        }
        for account in accounts {
            if self.0.contains_key(&account) {
                continue;
            }
            let kind = portal.service.account(account)?.map(|found| found.kind);
            let words = match kind {
                Some(3) => text!(
                    "Patient {number}",
                    number = number(portal, PatientId(account))?
                ),
                Some(_) => portal.name(account).await?.name,
                None => short(&account.to_string()),
            };
            self.0.insert(account, words);
        }
        Ok(())
    }

    fn is(&self, account: Address) -> &str {
        self.0
            .get(&account)
            .map_or(text!("Somebody"), String::as_str)
    }
}

/// `GET /ledger`
async fn page(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    RawQuery(query): RawQuery,
) -> Answer<Rendered> {
    signed.require(AUDIT)?;
    let fields = Fields::parse(query.unwrap_or_default().as_bytes());
    let below: Option<u64> = fields.text("below").parse().ok();
    let blocks = portal.service.blocks(&signed.actor, below, BLOCKS)?;
    let mut who = Who::default();
    who.learn(&portal, &blocks).await?;
    let height = portal.service.ledger().height();
    let last = blocks
        .last()
        .map(|block| block.height)
        .filter(|height| *height > 0);
    let main = html! {
        div.page-head {
            div.tight {
                h1 { (text!("Ledger")) }
                p.soft { (rich!("Block {height} is the newest. Blocks without transactions are left out. Times are in UTC.", height)) }
            }
            div.actions {
                a.btn.primary href="/ledger/check" { (icon("check")) " " (text!("Check the chain")) }
                a.btn href="/ledger/complete" { (icon("check")) " " (text!("Check the records")) }
            }
        }
        (super::auditor::search(""))
        @if blocks.is_empty() { p.soft { (text!("No transactions there.")) } } @else { (table(&blocks, &who)) }
        @if let Some(last) = last { div.actions { a.btn href={ "/ledger?below=" (last) } { (text!("Show older blocks")) } } }
    };
    Ok(Page::new(text!("Ledger"), main)
        .at(Place::Ledger)
        .render(Some(&signed)))
}

pub(super) fn table(blocks: &[BlockLine], who: &Who) -> Markup {
    html! {
        table.stacks role="table" {
            caption.hide { (text!("Transactions by block, newest first")) }
            (head(&[text!("Block"), text!("Time"), text!("What happened"), text!("Signed with"), text!("Outcome")]))
            tbody role="rowgroup" {
                @for block in blocks {
                    @for line in &block.transactions {
                        tr role="row" {
                            th role="rowheader" scope="row" { a href={ "/ledger/blocks/" (block.height) } { (block.height) } }
                            td role="cell" data-label=(text!("Time")) { span.nowrap { (short_date(&block.at.to_instant())) " " (clock(block.at)) } }
                            td role="cell" data-label=(text!("What")) { (sentence(line, who)) }
                            td role="cell" data-label=(text!("Signed with")) { (text::of(line.signature)) }
                            td role="cell" data-label=(text!("Outcome")) { (outcome(line)) }
                        }
                    }
                }
            }
        }
    }
}

fn sentence(line: &TransactionLine, who: &Who) -> Markup {
    html! {
        strong { (who.is(line.sender)) } " " (text::of(line.words))
        @if !line.concerns.is_empty() {
            span.soft { " · " (line.concerns.iter().map(|one| who.is(*one)).collect::<Vec<_>>().join(", ")) }
        }
    }
}

fn outcome(line: &TransactionLine) -> Markup {
    html! {
        @if line.success { span.state.ok { (icon("check")) " " (text!("Done")) } }
        @else { span.state.bad { (icon("circle-x")) " " (text!("Refused")) } }
    }
}

/// `GET /ledger/blocks/{height}`
async fn block(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    Path(height): Path<String>,
) -> Answer<Rendered> {
    signed.require(AUDIT)?;
    let height: u64 = height.parse().map_err(|_| Refusal::not_found())?;
    let block = portal.service.block_at(&signed.actor, height)?;
    let mut who = Who::default();
    who.learn(&portal, std::slice::from_ref(&block)).await?;
    let main = html! {
        a.back href="/ledger" { (text!("Back to the ledger")) }
        h1 { (rich!("Block {height}", height = block.height)) }
        dl.facts {
            dt { (text!("Made")) } dd { (moment(block.at)) " UTC" }
            dt { (text!("Digest")) } dd.mono { (block.hash) }
            dt { (text!("Transactions")) } dd { (block.transactions.len()) }
        }
        ol.rows {
            @for line in &block.transactions {
                li.tight {
                    p { (sentence(line, &who)) " " (outcome(line)) }
                    dl.facts.small {
                        dt { (text!("Signed with")) } dd { (text::of(line.signature)) }
                        dt { (text!("Account")) } dd.mono { a href={ "/ledger/accounts/" (line.sender) } { (line.sender) } }
                        dt { (text!("Transaction")) } dd.mono { a href={ "/ledger/transactions/" (line.hash) } { (line.hash) } }
                    }
                }
            }
        }
    };
    Ok(Page::new(text!("A block"), main)
        .at(Place::Ledger)
        .render(Some(&signed)))
}

/// How far a check has come; kept in the session, so that no address can tell a false outcome.
struct Progress {
    top: u64,
    /// Where the next step begins; nothing is left when absent.
    next: Option<(u64, B256)>,
    checked: u64,
    certificates: u64,
    problem: Option<String>,
}

impl Progress {
    fn of(signed: &Signed) -> Option<Self> {
        let answers = signed.session.answers.get("check")?;
        let number = |at: usize| answers.get(at).and_then(|text| text.parse::<u64>().ok());
        let text = |at: usize| answers.get(at).map(String::as_str).unwrap_or_default();
        Some(Self {
            top: number(0)?,
            checked: number(1)?,
            certificates: number(2)?,
            next: number(3).zip(text(4).parse().ok()),
            problem: Some(text(5).to_owned()).filter(|text| !text.is_empty()),
        })
    }

    fn keep(&self) -> Vec<String> {
        let (from, child) = match self.next {
            Some((from, child)) => (from.to_string(), child.to_string()),
            None => (String::new(), String::new()),
        };
        vec![
            self.top.to_string(),
            self.checked.to_string(),
            self.certificates.to_string(),
            from,
            child,
            self.problem.clone().unwrap_or_default(),
        ]
    }
}

/// `GET /ledger/check`
async fn check(signed: Signed) -> Answer<Rendered> {
    signed.require(AUDIT)?;
    let progress = Progress::of(&signed);
    let is_going_on = progress
        .as_ref()
        .is_some_and(|one| one.next.is_some() && one.problem.is_none());
    let button = |words: &str, begin: bool| {
        html! {
            form method="post" action="/ledger/check" data-auto[is_going_on && !begin] {
                (csrf(&signed))
                @if begin { input type="hidden" name="begin" value="yes"; }
                div.actions { button.btn.primary { (words) } }
            }
        }
    };
    let main = html! {
        a.back href="/ledger" { (text!("Back to the ledger")) }
        div.flow {
            h1 { (text!("Check of the chain")) }
            p { (text!("Each block names the one before by its digest, and a quorum of the validators signed. This page checks both on what the node keeps, some thousand blocks at a time.")) }
            @match &progress {
                None => (button(text!("Begin"), true)),
                Some(progress) => {
                    label for="progress" { (rich!("{checked} of {top} blocks", checked = progress.checked, top = progress.top + 1)) }
                    progress #progress max=(progress.top + 1) value=(progress.checked) {}
                    @if let Some(problem) = &progress.problem {
                        div.notice.bad { p { span.state.bad { (icon("octagon-alert")) " " (text!("Does not hold")) } } p { (problem) } }
                        (button(text!("Check again"), true))
                    } @else if progress.next.is_some() {
                        (button(text!("Check the next blocks"), false))
                    } @else {
                        div.verdict.ok {
                            p { span.state.ok { (icon("circle-check")) " " (text!("The chain holds")) } }
                            p { (rich!(
                                "From block {top} down to the first; {certificates} certificates verified.",
                                top = progress.top,
                                certificates = progress.certificates,
                            )) }
                        }
                        (button(text!("Check again"), true))
                    }
                }
            }
            p.small.soft { (rich!("Executing every transaction again needs the node to stand still: {command}.", command = html! { code { "stele verify chain" } })) }
        }
    };
    Ok(Page::new(text!("Check of the chain"), main)
        .at(Place::Ledger)
        .narrow()
        .render(Some(&signed)))
}

/// `POST /ledger/check`: one step, until the first block.
async fn step(State(portal): State<Arc<Portal>>, signed: Signed, mut posted: Posted) -> Answer {
    signed.require(AUDIT)?;
    let height = portal.service.ledger().height();
    let begin = !posted.fields.text("begin").is_empty();
    let before = Progress::of(&signed).filter(|_| !begin);
    let (from, child) = match before.as_ref().and_then(|progress| progress.next) {
        Some((from, child)) => (from, Some(child)),
        None => (height, None),
    };
    let (service, actor) = (Arc::clone(&portal.service), signed.actor.clone());
    let done = tokio::task::spawn_blocking(move || service.check_chain(&actor, from, child))
        .await
        .map_err(|_| Refusal::bad_form(text!("The check was cut off. Try again.")))??;
    let top = before.as_ref().map_or(done.from, |progress| progress.top);
    let certificates = before.map_or(0, |progress| progress.certificates);
    let progress = Progress {
        top,
        checked: top.saturating_sub(done.to).saturating_add(1),
        certificates: certificates.saturating_add(done.certificates),
        next: (done.to > 0 && done.problem.is_none())
            .then(|| (done.to.saturating_sub(1), done.hash)),
        problem: done.problem,
    };
    let answers = &mut posted.session.answers;
    answers.insert("check".to_owned(), progress.keep());
    portal
        .service
        .keep_session(&posted.secret, &posted.session)?;
    Ok(Redirect::to("/ledger/check").into_response())
}
