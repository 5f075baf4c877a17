//! The questions themselves: each page asks one, keeps what was answered, and says what is wrong with an answer.

use std::sync::Arc;

use alloy_primitives::Address;
use axum::{
    extract::{Path, RawQuery, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use maud::{Markup, html};
use stele_core::consent::{Permissions, Purpose};
use stele_fhir::category::Category;

use super::{DAY_MS, DAYS_MAX, Share, Step, date_in, end_of, next};
use crate::{
    error::Answer,
    form::{Fields, Posted},
    front::Portal,
    page::{Page, Place, csrf, errors, field_error},
    session::Signed,
    shown::{capital, date, part},
    text,
    views::access::{person, who},
};

/// Ends that are offered, in days.
const PERIODS: [(u64, &str); 3] = [
    (30, message!("30 days")),
    (182, message!("6 months")),
    (365, message!("1 year")),
];
/// Reasons that are offered.
const REASONS: [(Purpose, &str); 3] = [
    (Purpose::Treat, message!("They treat or advise me")),
    (
        Purpose::Hpaymt,
        message!("They pay for my care, or help me to be paid"),
    ),
    (Purpose::Hresch, message!("They do research")),
];

type Problems = Vec<(&'static str, String)>;

/// `GET /access/share/{step}`
pub(super) async fn page(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    Path(step): Path<String>,
    RawQuery(query): RawQuery,
) -> Answer {
    signed.patient()?;
    let step = Step::parse(&step)?;
    let share = Share::of(&signed.session);
    let fields = Fields::parse(query.unwrap_or_default().as_bytes());
    let find = fields.text("find").to_owned();
    render(&portal, &signed, step, &share, &find, &Vec::new()).await
}

/// `POST /access/share/{step}`
pub(super) async fn answer(
    State(portal): State<Arc<Portal>>,
    mut signed: Signed,
    Path(step): Path<String>,
    posted: Posted,
) -> Answer {
    signed.patient()?;
    let step = Step::parse(&step)?;
    let mut share = Share::of(&signed.session);
    let problems = take(&portal, step, &posted.fields, &mut share)?;
    if !problems.is_empty() {
        let page = render(&portal, &signed, step, &share, "", &problems).await?;
        return Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response());
    }
    share.keep(&mut signed.session);
    portal
        .service
        .keep_session(&signed.secret, &signed.session)?;
    let following = Step::ALL
        .into_iter()
        .find(|one| one.number() > step.number());
    match following {
        // Questions are asked in order the first time; a changed answer goes straight back to the check.
        Some(step) if share.missing().is_some() => {
            let to = share.missing().unwrap_or(step);
            Ok(super::to(&to.address()).into_response())
        }
        _ => next(&portal, &signed, &share).await,
    }
}

/// Reads the answer to a question. Says what is wrong with it and how to put it right.
fn take(portal: &Portal, step: Step, fields: &Fields, share: &mut Share) -> Answer<Problems> {
    let wrong = |words: &str| Ok(vec![("answer", words.to_owned())]);
    match step {
        Step::Who => {
            let chosen: Option<Address> = fields.text("to").parse().ok();
            let known = match chosen {
                Some(account) => portal.service.account(account)?.filter(|view| view.active),
                None => None,
            };
            if known.is_none() {
                return wrong(text!("Choose a person or an organisation"));
            }
            share.to = chosen;
            share.request = None;
        }
        Step::What => {
            let mut chosen: Vec<Category> = fields
                .all("parts")
                .into_iter()
                .filter_map(Category::from_name)
                .collect();
            if !fields.text("everyday").is_empty() {
                chosen.extend(Category::ALL.into_iter().filter(|one| !one.is_sensitive()));
            }
            chosen.sort();
            chosen.dedup();
            share.categories = chosen;
            if share.categories.is_empty() {
                return wrong(text!("Choose at least one part of your record"));
            }
        }
        Step::SeeOrAdd => {
            share.permissions = match fields.text("verbs") {
                "see" => Permissions::READ,
                "see-and-add" => Permissions::READ.and(Permissions::WRITE),
                "add" => Permissions::WRITE,
                _ => return wrong(text!("Choose whether they may see, or also add")),
            };
        }
        Step::Until => {
            let now = portal.service.now();
            let given = match fields.text("until") {
                "date" => fields.text("date").to_owned(),
                days => match PERIODS.iter().find(|(n, _)| n.to_string() == days) {
                    Some((days, _)) => date_in(now, *days),
                    None => return wrong(text!("Choose when the access ends")),
                },
            };
            share.until = Some(given.clone());
            let latest = now.plus_ms(DAYS_MAX * DAY_MS);
            match end_of(&given) {
                Some(end) if end > now && end <= latest => {}
                Some(end) if end > latest => {
                    return wrong(text!(
                        "Enter a date within the next five years; you will be asked again then"
                    ));
                }
                Some(_) => return wrong(text!("Enter a date that is not in the past")),
                None => return wrong(text!("Enter a date, for example 2027-03-31")),
            }
        }
        Step::Why => {
            share.purpose = fields.text("why").parse().ok();
            if share.purpose.is_none() {
                return wrong(text!("Choose why they need it"));
            }
        }
    }
    Ok(Vec::new())
}

async fn render(
    portal: &Portal,
    signed: &Signed,
    step: Step,
    share: &Share,
    find: &str,
    problems: &Problems,
) -> Answer<Response> {
    let (heading, question) = match step {
        Step::Who => (
            text!("Who do you want to share with?"),
            who_question(portal, signed, share, find).await?,
        ),
        Step::What => (text!("What may they see?"), what_question(share)),
        Step::SeeOrAdd => (
            text!("May they only see, or also add?"),
            verbs_question(share),
        ),
        Step::Until => (text!("Until when?"), until_question(portal, share)),
        Step::Why => (text!("Why do they need it?"), why_question(share)),
    };
    let error = field_error(problems, "answer");
    let back = match step.number() {
        1 => "/access".to_owned(),
        number => Step::ALL
            .get(number - 2)
            .map_or("/access".into(), |one| one.address()),
    };
    let main = html! {
        a.back href=(back) { (text!("Back")) }
        (errors(problems))
        div.flow {
            p.quiet-head { (rich!("Share with someone, step {number} of 6", number = step.number())) }
            h1 #question { (heading) }
            @if step == Step::Who { (search(find)) }
            form.flow method="post" action=(step.address()) novalidate {
                (csrf(signed))
                fieldset.invalid[error.is_some()] #answer aria-labelledby="question" tabindex="-1" {
                    @if let Some(error) = &error { (error) }
                    (question)
                }
                div.actions { button.btn.primary { (text!("Continue")) } a.btn href="/access" { (text!("Cancel")) } }
            }
        }
    };
    let title = if problems.is_empty() {
        text!("Share with someone")
    } else {
        text!("Error: Share with someone")
    };
    Ok(Page::new(title, main)
        .at(Place::Sharing)
        .narrow()
        .render(Some(signed))
        .into_response())
}

fn choice(kind: &str, name: &str, value: &str, is_chosen: bool, label: &Markup) -> Markup {
    let id = format!("{name}-{value}");
    html! {
        div.choice {
            input type=(kind) id=(id) name=(name) value=(value) checked[is_chosen];
            label for=(id) { (label) }
        }
    }
}

fn search(find: &str) -> Markup {
    html! {
        form.filters method="get" action=(Step::Who.address()) role="search" aria-label=(text!("People and organisations")) {
            div.field { label for="find" { (text!("Name")) } input #find type="search" name="find" value=(find) maxlength="100"; }
            button.btn { (text!("Find")) }
        }
    }
}

async fn who_question(
    portal: &Portal,
    signed: &Signed,
    share: &Share,
    find: &str,
) -> Answer<Markup> {
    let mut lines = Vec::new();
    for found in portal.service.find_recipients(&signed.actor, find).await? {
        let (named, organization) = who(portal, found.account).await?;
        lines.push((named, organization));
    }
    Ok(html! {
        @if lines.is_empty() {
            p { (text!("Nobody of this name is registered here. Check the spelling, or ask them for the name they are registered under.")) }
        }
        @for (named, organization) in &lines {
            (choice("radio", "to", &named.account.to_string(), share.to == Some(named.account), &person(named, organization.as_deref())))
        }
    })
}

fn what_question(share: &Share) -> Markup {
    let (private, everyday): (Vec<Category>, Vec<Category>) = Category::ALL
        .into_iter()
        .partition(|one| one.is_sensitive());
    let has_all = everyday.iter().all(|one| share.categories.contains(one));
    let part = |one: Category, is_chosen: bool| {
        choice(
            "checkbox",
            "parts",
            one.name(),
            is_chosen,
            &html! { (capital(part(one))) },
        )
    };
    html! {
        (choice("checkbox", "everyday", "yes", has_all, &html! { strong { (text!("Everything but the private parts below")) } }))
        details open[!has_all && !share.categories.is_empty()] {
            summary { (text!("Choose single parts")) }
            div.parts { @for one in everyday { (part(one, !has_all && share.categories.contains(&one))) } }
        }
        h2.h3 #private { (text!("Private parts")) }
        p.hint { (text!("Asked apart, because many people keep them to themselves.")) }
        div.parts { @for one in private { (part(one, share.categories.contains(&one))) } }
    }
}

fn verbs_question(share: &Share) -> Markup {
    let chosen = share.permissions;
    let both = Permissions::READ.and(Permissions::WRITE);
    html! {
        (choice("radio", "verbs", "see", chosen == Permissions::READ, &html! { strong { (text!("See")) } br; (text!("They can read, and change nothing.")) }))
        (choice("radio", "verbs", "see-and-add", chosen == both, &html! { strong { (text!("See and add")) } br; (text!("They can also write new entries and new versions. Earlier versions stay.")) }))
        (choice("radio", "verbs", "add", chosen == Permissions::WRITE, &html! { strong { (text!("Add only")) } br; (text!("They can write, for example results of a test, and read nothing.")) }))
    }
}

fn until_question(portal: &Portal, share: &Share) -> Markup {
    let now = portal.service.now();
    let offered = PERIODS
        .iter()
        .find(|(days, _)| share.until.as_deref() == Some(date_in(now, *days).as_str()));
    let is_other = share.until.is_some() && offered.is_none();
    let chosen = offered.map_or(30, |(days, _)| *days);
    html! {
        @for (days, words) in PERIODS {
            (choice("radio", "until", &days.to_string(), !is_other && chosen == days, &html! {
                (rich!("{words}, until {date}", words = text::of(words), date = date(&date_in(now, days))))
            }))
        }
        (choice("radio", "until", "date", is_other, &html! { (text!("Another day")) }))
        div.field.inset {
            label for="date" { (text!("Last day")) }
            input.w-m #date type="date" name="date" value=[share.until.as_deref().filter(|_| is_other)] min=(date_in(now, 0));
        }
    }
}

fn why_question(share: &Share) -> Markup {
    html! {
        @for (purpose, words) in REASONS {
            (choice("radio", "why", purpose.code(), share.purpose == Some(purpose), &html! { strong { (capital(text::of(purpose.words()))) } br; (text::of(words)) }))
        }
    }
}
