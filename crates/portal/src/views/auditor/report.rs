//! The signed report of accesses to a record: a file that `stele verify audit` checks without a node, or a page for people
//! to read and print that carries the same file, bound to its text by digest.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use alloy_primitives::Address;
use axum::{
    extract::{Path, State},
    response::Response,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use stele_core::{
    consent::Purpose,
    export::{AUDIT_MARK, AuditReport, MemberAuditReport, Page as SignedPage, SignerProof},
    id::PatientId,
    receipt::{AccessAction, AccessReceipt},
    time::Timestamp,
};
use stele_service::people::Deed;

use super::{
    super::{account::number, entry::saved, history::action, requests::who},
    account_of,
};
use crate::{
    error::{Answer, Refusal},
    form::Posted,
    front::Portal,
    page::{csrf, icon},
    session::Signed,
    shown::{capital, list, moment, purpose},
    text,
    views::ledger::AUDIT,
};

/// The page's own style: it is read where nothing of ours is.
const STYLE: &str = include_str!("../../../assets/report.css");

/// The ways to take a report along.
pub(super) fn buttons(signed: &Signed, account: Address) -> Markup {
    html! {
        form method="post" action={ "/ledger/accounts/" (account) "/report" } {
            (csrf(signed))
            div.actions {
                button.btn.primary name="format" value="html" { (icon("download")) " " (text!("Signed report, to print")) }
                button.btn name="format" value="json" { (icon("download")) " " (text!("Signed report, JSON")) }
            }
        }
    }
}

/// `POST /ledger/accounts/{account}/report`
pub(super) async fn make(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    Path(text): Path<String>,
    posted: Posted,
) -> Answer {
    signed.require(AUDIT)?;
    let account = account_of(&text)?;
    let is_page = match posted.fields.text("format") {
        "html" => true,
        "json" => false,
        _ => {
            return Err(Refusal::bad_form(text!(
                "It does not say which kind of report."
            )));
        }
    };
    let service = &portal.service;
    let is_member = service.account_detail(&signed.actor, account)?.kind == 2;
    let patient = match is_member {
        true => None,
        false => Some(service.fhir_id_of(PatientId(account))?),
    };
    service
        .note_audit(&signed.actor, Deed::Report, Some(account), "")
        .await?;
    let Some(id) = patient else {
        let mut report = service.member_audit_report(&signed.actor, account).await?;
        let page = match is_page {
            true => Some(page(&portal, &signed, &Told::of_member(&report)).await?),
            false => None,
        };
        report.page = page.as_ref().map(SignedPage::digest);
        let signer = report.signer.clone();
        let file = signed_file(&portal, &report, signer).await?;
        return Ok(answer(page, file, &account.to_string()));
    };
    let mut report = service.audit_report(&signed.actor, &id).await?;
    let page = match is_page {
        true => Some(page(&portal, &signed, &Told::of_patient(&report)).await?),
        false => None,
    };
    report.page = page.as_ref().map(SignedPage::digest);
    let signer = report.signer.clone();
    let file = signed_file(&portal, &report, signer).await?;
    let name = number(&portal, PatientId(account))?;
    Ok(answer(page, file, &name))
}

/// A report with its signature as the last member.
async fn signed_file(
    portal: &Portal,
    report: &impl Serialize,
    signer: SignerProof,
) -> Answer<String> {
    let unsigned = serde_json::to_string(report)
        .map_err(|_| Refusal::bad_form(text!("The report can't be written.")))?;
    let service = Arc::clone(&portal.service);
    Ok(
        tokio::task::spawn_blocking(move || service.sign_export(&unsigned, &signer))
            .await
            .map_err(|_| Refusal::bad_form(text!("The report was cut off. Try again.")))??,
    )
}

/// What the page says, of a patient's record or of a member.
struct Told<'a> {
    about: Address,
    is_patient: bool,
    signer: Address,
    made: &'a str,
    receipts: &'a [AccessReceipt],
}

impl<'a> Told<'a> {
    fn of_patient(report: &'a AuditReport) -> Self {
        Self {
            about: report.patient,
            is_patient: true,
            signer: report.signer.account,
            made: &report.made,
            receipts: &report.receipts,
        }
    }

    fn of_member(report: &'a MemberAuditReport) -> Self {
        Self {
            about: report.member,
            is_patient: false,
            signer: report.signer.account,
            made: &report.made,
            receipts: &report.receipts,
        }
    }

    /// Whom a line names: who looked, or whose record it was.
    fn other(&self, receipt: &AccessReceipt) -> Address {
        if self.is_patient {
            receipt.actor
        } else {
            receipt.log
        }
    }
}

fn answer(page: Option<SignedPage>, file: String, name: &str) -> Response {
    match page {
        Some(page) => saved(
            "text/html; charset=utf-8",
            &format!("{name}-accesses.html"),
            page.with(&file),
        ),
        None => saved("application/json", &format!("{name}-accesses.json"), file),
    }
}

/// The page around the report.
async fn page(portal: &Portal, signed: &Signed, report: &Told<'_>) -> Answer<SignedPage> {
    let mut names: BTreeMap<Address, String> = BTreeMap::new();
    let accounts = report
        .receipts
        .iter()
        .flat_map(|one| [report.other(one), one.organization])
        .chain([report.about, report.signer]);
    for account in accounts {
        if let Entry::Vacant(unnamed) = names.entry(account) {
            unnamed.insert(who(portal, account).await?);
        }
    }
    let digest = STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    );
    let before = html! {
        (DOCTYPE)
        html lang=(text::language().code()) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(policy);
                title { (text!("Report of accesses")) " – Stele" }
                style { (PreEscaped(STYLE)) }
            }
            body { (body(report, &names, &signed.name)) }
        }
    };
    // The report stands where the mark is; the digest is over what is around it.
    let text = before.into_string();
    let (before, after) = text
        .split_once(MARK_PLACE)
        .ok_or_else(|| Refusal::bad_form(text!("The report can't be written.")))?;
    Ok(SignedPage {
        before: format!("{before}{AUDIT_MARK}"),
        after: format!("\">{}</a>{after}", text!("Save the signed report")),
    })
}

/// Stands for the link in the template. Text of the page can't hold it: `<` is escaped there.
const MARK_PLACE: &str = "<!--report-->";

fn body(report: &Told<'_>, names: &BTreeMap<Address, String>, reader: &str) -> Markup {
    let name = |account: &Address| names.get(account).map_or(text!("Somebody"), String::as_str);
    let refused = report.receipts.iter().filter(|one| !one.allowed).count();
    let made = report.made.replace('T', ", ");
    html! {
        main {
            header {
                h1 { (text!("Report of accesses")) }
                p { (rich!(
                    "{patient}. Made for {reader} by {signer}, {time} UTC.",
                    patient = name(&report.about),
                    reader,
                    signer = name(&report.signer),
                    time = made.get(..17).unwrap_or_default(),
                )) }
                p { strong { (rich!("{receipts} accesses, {refused} of them refused.", receipts = report.receipts.len(), refused)) } " " (text!("Each has a receipt, in its place of a sequence whose end the ledger holds.")) }
            }
            table {
                thead { tr { th { (text!("Time (UTC)")) } th { @if report.is_patient { (text!("Who")) } @else { (text!("Whose")) } } th { (text!("What")) } th { (text!("Why")) } th { (text!("Entries")) } th { (text!("Outcome")) } } }
                tbody {
                    @for one in report.receipts.iter().rev() {
                        tr class=[(!one.allowed).then_some("refused")] {
                            td { (moment(Timestamp(one.at_ms))) }
                            td { (name(&report.other(one))) br; small { (name(&one.organization)) ", " (one.organization) "/" (one.sequence) } }
                            td { (capital(text::of(action(AccessAction::from_code(one.action))))) }
                            td { (capital(&why(one))) }
                            td { (one.records) }
                            td { @if one.allowed { (text!("Allowed")) } @else { (text!("Refused")) } }
                        }
                    }
                }
            }
            section {
                h2 { (text!("Check it")) }
                p { (text!("This file carries the signed report that the table was made from. On any computer, without connection:")) }
                pre { "stele verify audit FILE --genesis genesis.json" }
                p { (text!("It says no where a single character of this page or of the report was changed. Names stand beside accounts as the directory had them when the report was made.")) }
                p { (PreEscaped(MARK_PLACE)) }
                p { small {
                    @if report.is_patient { (text!("Patient’s account {patient}, signer’s account {account}.", patient = report.about, account = report.signer)) }
                    @else { (text!("Member’s account {member}, signer’s account {account}.", member = report.about, account = report.signer)) }
                } }
                p { small { (text!("It cannot show what was done with a printed copy, or by somebody looking over a shoulder.")) } }
            }
        }
    }
}

fn why(receipt: &AccessReceipt) -> String {
    let words: Vec<String> = Purpose::ALL
        .into_iter()
        .filter(|purpose| receipt.purposes & purpose.bit() != 0)
        .map(|one| purpose(one).to_owned())
        .collect();
    if words.is_empty() {
        text!("not said").into()
    } else {
        list(&words)
    }
}
