//! A patient's prescriptions: what is left of each, and the code to show a pharmacist.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, State},
    routing::get,
};
use maud::{Markup, PreEscaped, html};
use qrcode::{Color, EcLevel, QrCode};
use stele_service::prescriptions::{Kept, Verdict};

use super::{
    chart::prescription::{look, progress},
    keys,
};
use crate::{
    error::{Answer, Refusal},
    front::Portal,
    page::{Page, Place, Rendered, icon, tag},
    session::Signed,
    shown::date,
    text,
};

/// What a patient who holds the keys is told.
const NOT_YET: &str = message!(
    "There is no page for your prescriptions yet; they are among the medicines of your record."
);

pub(super) fn routes() -> Router<Arc<Portal>> {
    Router::new()
        .route("/prescriptions", get(list))
        .route("/prescriptions/{id}", get(one))
}

/// `GET /prescriptions`
async fn list(State(portal): State<Arc<Portal>>, signed: Signed) -> Answer<Rendered> {
    let patient = signed.patient()?;
    keys::require_managed(&signed, text::of(NOT_YET))?;
    let all = portal
        .service
        .prescriptions_of(&signed.actor, patient)
        .await?;
    let (open, over): (Vec<&Kept>, Vec<&Kept>) = all
        .iter()
        .partition(|kept| kept.checked.verdict == Verdict::Good);
    let main = html! {
        h1 { (text!("Your prescriptions")) }
        div.sections #prescriptions data-live {
            @if all.is_empty() {
                p { (text!("When a doctor prescribes a medicine for you, it appears here with a code to show at any pharmacy.")) }
            }
            @for (heading, rows) in [(text!("To collect"), &open), (text!("Over"), &over)] {
                @if !rows.is_empty() {
                    section.ledger {
                        h2 { (heading) }
                        ul.rows { @for kept in rows { (row(kept)) } }
                    }
                }
            }
        }
    };
    Ok(Page::new(text!("Your prescriptions"), main)
        .at(Place::Medicines)
        .narrow()
        .render(Some(&signed)))
}

fn row(kept: &Kept) -> Markup {
    let (checked, sheet) = (&kept.checked, &kept.checked.sheet);
    let (kind, picture, word) = look(checked.verdict);
    html! {
        li.tight {
            p { a.h3 href={ "/prescriptions/" (kept.stored.id) } { (sheet.medicine) } }
            p { (tag(kind, picture, word)) " " (rich!("{left} of {portions} {portion} left", left = checked.left, portions = sheet.portions, portion = sheet.portion)) }
            p.small.soft { (rich!(
                "Prescribed {issued}{by}, until {until}",
                issued = date(&sheet.issued),
                by = html! { @if let Some(named) = &checked.prescriber { " " (rich!("by {name}", name = named.name)) } },
                until = date(&sheet.until),
            )) }
        }
    }
}

/// `GET /prescriptions/{id}`
async fn one(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    Path(id): Path<String>,
) -> Answer<Rendered> {
    signed.patient()?;
    keys::require_managed(&signed, text::of(NOT_YET))?;
    let kept = portal.service.prescription(&signed.actor, &id).await?;
    let (checked, sheet) = (&kept.checked, &kept.checked.sheet);
    let is_good = checked.verdict == Verdict::Good;
    let main = html! {
        a.back href="/prescriptions" { (text!("Back to your prescriptions")) }
        div.pair.flow {
            @if is_good {
                figure.tight {
                    (code(&kept)?)
                    figcaption.small.soft { (text!("Code for the pharmacist")) }
                }
            }
            div.flow {
                h1 { (sheet.medicine) }
                @if !sheet.dose.is_empty() { p.lead { (sheet.dose) } }
                div #prescription data-live { (progress(&portal, &kept).await?) }
                @if is_good {
                    p { (text!("Show the code to any pharmacist. It shows this prescription and your name, birth date and allergies, nothing else from your record.")) }
                }
                dl.facts {
                    dt { (text!("Amount")) } dd { (sheet.portions) " " (sheet.portion) }
                    dt { (text!("Prescribed by")) } dd { @match &checked.prescriber { Some(named) => (named.name), None => (text!("Not known")) } ", " (sheet.organization) }
                    dt { (text!("Collect until")) } dd { (date(&sheet.until)) }
                    dt { (text!("For")) } dd { (rich!("{patient}, born {date}", patient = sheet.patient, date = date(&sheet.born))) }
                }
                div.actions { button.btn data-print hidden { (icon("printer")) " " (text!("Print")) } }
            }
        }
        @if is_good {
            section.flow {
                h2 { (text!("Good to know")) }
                ul.bullets {
                    li { (text!("Treat the code like the medicine itself: whoever has it can read this prescription and collect it.")) }
                    li { (text!("Each portion can be collected once. If someone else tries, the pharmacist sees that it is gone.")) }
                }
            }
            p.only-print.small { (text!("The pharmacist checks the code before giving the medicine; a copy of this page cannot be used twice.")) }
        }
    };
    Ok(Page::new(text!("A prescription"), main)
        .at(Place::Medicines)
        .render(Some(&signed)))
}

/// The code as a picture: one path, a unit square for each dark module.
fn code(kept: &Kept) -> Answer<Markup> {
    let code =
        QrCode::with_error_correction_level(kept.code.written(), EcLevel::L).map_err(|_| {
            Refusal::bad_form(text!(
                "The code of this prescription is too long to be shown."
            ))
        })?;
    let width = code.width();
    let colors = code.to_colors();
    let mut path = String::new();
    for (y, row) in colors.chunks(width).enumerate() {
        let mut x = 0;
        while x < row.len() {
            let dark = row
                .iter()
                .skip(x)
                .take_while(|color| **color == Color::Dark)
                .count();
            if dark > 0 {
                path.push_str(&format!("M{x} {y}h{dark}v1h-{dark}z"));
            }
            x += dark.max(1);
        }
    }
    Ok(html! {
        svg.qr role="img" aria-label=(text!("Code for the pharmacist")) viewBox={ "0 0 " (width) " " (width) } shape-rendering="crispEdges" {
            path d=(PreEscaped(path)) {}
        }
    })
}
