//! Is anything missing? The ledger's own list of a record's versions, proven, against what the node shows: of one patient,
//! or of all in steps.

use std::sync::Arc;

use alloy_primitives::Address;
use axum::{
    extract::{Path, State},
    response::{IntoResponse as _, Redirect},
};
use maud::{Markup, html};
use stele_core::id::PatientId;
use stele_service::people::{Completeness, Deed};

use super::{super::account::number, account_of};
use crate::{
    error::{Answer, Refusal},
    form::Posted,
    front::Portal,
    page::{Page, Place, Rendered, csrf, icon},
    session::Signed,
    views::ledger::AUDIT,
};

/// Versions after which a step of the check of all records ends.
const VERSIONS_A_STEP: u64 = 5_000;
/// Patients of a step at most.
const PATIENTS_A_STEP: usize = 50;
/// Problems that are listed.
const PROBLEMS_MAX: usize = 20;
/// Where outcomes wait in the session.
const ONE: &str = "complete";
const ALL: &str = "complete-all";

async fn check(portal: &Arc<Portal>, signed: &Signed, patient: PatientId) -> Answer<Completeness> {
    let (service, actor) = (Arc::clone(&portal.service), signed.actor.clone());
    tokio::task::spawn_blocking(move || service.check_completeness(&actor, patient))
        .await
        .map_err(|_| Refusal::bad_form(text!("The check was cut off. Try again.")))?
        .map_err(Refusal::from)
}

/// `POST /ledger/accounts/{account}/complete`
pub(super) async fn one(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    Path(text): Path<String>,
    mut posted: Posted,
) -> Answer {
    signed.require(AUDIT)?;
    let account = account_of(&text)?;
    let deed = Deed::CheckRecord;
    portal
        .service
        .note_audit(&signed.actor, deed, Some(account), "")
        .await?;
    let done = check(&portal, &signed, PatientId(account)).await?;
    let answers = vec![
        account.to_string(),
        done.versions.to_string(),
        done.erased.to_string(),
        done.as_of.0.to_string(),
        done.problem.unwrap_or_default(),
    ];
    posted.session.answers.insert(ONE.to_owned(), answers);
    portal
        .service
        .keep_session(&posted.secret, &posted.session)?;
    Ok(Redirect::to(&format!("/ledger/accounts/{account}")).into_response())
}

/// What the last check of this patient found, on the patient's page.
pub(super) fn outcome(portal: &Portal, signed: &Signed, account: Address) -> Answer<Markup> {
    let kept = signed.session.answers.get(ONE).map(Vec::as_slice);
    let Some([whose, versions, erased, height, problem]) = kept else {
        return Ok(html! {});
    };
    if *whose != account.to_string() {
        return Ok(html! {});
    }
    let patient = number(portal, PatientId(account))?;
    Ok(html! {
        @if problem.is_empty() {
            div.verdict.ok #complete {
                p { span.state.ok { (icon("circle-check")) " " (text!("Nothing is missing")) } }
                p { (rich!(
                    "All {versions} versions that the ledger has of {patient} are here, {erased} of them erased, as of block {height}. The count and digests are proven up to the validators’ signatures.",
                    versions,
                    patient,
                    erased,
                    height,
                )) }
            }
        } @else {
            div.verdict.refused #complete {
                p { span.state.bad { (icon("octagon-alert")) " " (text!("Something is missing")) } }
                p { (problem) }
            }
        }
    })
}

/// How far a check of all records has come.
struct Progress {
    next: usize,
    total: usize,
    versions: u64,
    problems: Vec<String>,
}

impl Progress {
    fn of(signed: &Signed) -> Option<Self> {
        let answers = signed.session.answers.get(ALL)?;
        let (numbers, problems) = answers.split_at_checked(3)?;
        let [next, total, versions] = numbers else {
            return None;
        };
        Some(Self {
            next: next.parse().ok()?,
            total: total.parse().ok()?,
            versions: versions.parse().ok()?,
            problems: problems.to_vec(),
        })
    }

    fn keep(self) -> Vec<String> {
        let mut answers = vec![
            self.next.to_string(),
            self.total.to_string(),
            self.versions.to_string(),
        ];
        answers.extend(self.problems.into_iter().take(PROBLEMS_MAX));
        answers
    }

    const fn is_done(&self) -> bool {
        self.next >= self.total
    }
}

/// `GET /ledger/complete`
pub(super) async fn page(signed: Signed) -> Answer<Rendered> {
    signed.require(AUDIT)?;
    let progress = Progress::of(&signed);
    let is_going_on = progress.as_ref().is_some_and(|one| !one.is_done());
    let button = |words: &str, begin: bool| {
        html! {
            form method="post" action="/ledger/complete" data-auto[is_going_on && !begin] {
                (csrf(&signed))
                @if begin { input type="hidden" name="begin" value="yes"; }
                div.actions { button.btn.primary { (words) } }
            }
        }
    };
    let main = html! {
        a.back href="/ledger" { (text!("Back to the ledger")) }
        div.flow {
            h1 { (text!("Check that no record is missing")) }
            p { (rich!("The ledger counts every version of every record. This check holds what this node shows of each patient of {organization} against that count, some patients at a time.", organization = signed.organization)) }
            @match &progress {
                None => (button(text!("Begin"), true)),
                Some(progress) => {
                    label for="progress" { (rich!("{next} of {total} patients, {versions} versions", next = progress.next, total = progress.total, versions = progress.versions)) }
                    progress #progress max=(progress.total.max(1)) value=(progress.next) {}
                    @if !progress.problems.is_empty() {
                        div.notice.bad {
                            p { span.state.bad { (icon("octagon-alert")) " " (text!("Something is missing")) } }
                            @for problem in &progress.problems { p { (problem) } }
                        }
                    }
                    @if !progress.is_done() {
                        (button(text!("Check the next patients"), false))
                    } @else {
                        @if progress.problems.is_empty() {
                            div.verdict.ok {
                                p { span.state.ok { (icon("circle-check")) " " (text!("Nothing is missing")) } }
                                p { (rich!("All {versions} versions of {total} patients are here.", versions = progress.versions, total = progress.total)) }
                            }
                        }
                        (button(text!("Check again"), true))
                    }
                }
            }
            p.small.soft { (rich!("Whether the content of each is what was recorded is found anew at each look at it, and for all of it by {command} while the node stands still.", command = html! { code { "stele verify vault" } })) }
        }
    };
    Ok(Page::new(text!("Check of completeness"), main)
        .at(Place::Ledger)
        .narrow()
        .render(Some(&signed)))
}

/// `POST /ledger/complete`: one step.
pub(super) async fn step(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    mut posted: Posted,
) -> Answer {
    signed.require(AUDIT)?;
    let begin = !posted.fields.text("begin").is_empty();
    let before = Progress::of(&signed).filter(|one| !begin && !one.is_done());
    if before.is_none() {
        let deed = Deed::CheckRecord;
        portal
            .service
            .note_audit(
                &signed.actor,
                deed,
                None,
                text!("All records of the organisation"),
            )
            .await?;
    }
    let patients = portal.service.patients_to_check(&signed.actor)?;
    let mut progress = before.unwrap_or(Progress {
        next: 0,
        total: patients.len(),
        versions: 0,
        problems: Vec::new(),
    });
    progress.total = patients.len();
    let from = progress.next;
    let most = progress.versions.saturating_add(VERSIONS_A_STEP);
    for patient in patients.iter().skip(from).take(PATIENTS_A_STEP) {
        let done = check(&portal, &signed, *patient).await?;
        progress.next = progress.next.saturating_add(1);
        progress.versions = progress.versions.saturating_add(done.versions);
        if let Some(problem) = done.problem {
            let name = number(&portal, *patient)?;
            progress.problems.push(format!("{name}: {problem}"));
        }
        if progress.versions >= most {
            break;
        }
    }
    let answers = progress.keep();
    posted.session.answers.insert(ALL.to_owned(), answers);
    portal
        .service
        .keep_session(&posted.secret, &posted.session)?;
    Ok(Redirect::to("/ledger/complete").into_response())
}
