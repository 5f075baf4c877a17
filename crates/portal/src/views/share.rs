//! Sharing, one question a page: who, what, see or add, until when, why; then the sentence that is signed, rendered
//! from the transaction's own bytes, and the passkey.

use std::{collections::BTreeMap, sync::Arc};

use alloy_primitives::Address;
use axum::{
    Router,
    extract::{Path, RawQuery, State},
    response::{IntoResponse as _, Redirect},
    routing::get,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use maud::{Markup, html};
use stele_core::{
    consent::{Period, Permissions, Purpose},
    time::Timestamp,
};
use stele_fhir::category::Category;
use stele_service::{
    Error,
    grants::{AccessRequest, GrantRequest, RequestDetails},
    people::{Act, Prepared, Session, Settled},
};

use super::access::{last_day, open_request, permissions_of, person, purposes, to, who};
use super::{keys, wallet};
use crate::{
    error::{Answer, Refusal},
    form::{Fields, Posted},
    front::Portal,
    page::{Page, Place, Rendered, csrf, device_problem, icon},
    session::Signed,
    shown::{capital, list, my, part, parts, verbs},
};

mod steps;

const DAY_MS: u64 = 24 * 3600 * 1000;
/// Longest access that can be given at once, in days: then the patient is asked again.
const DAYS_MAX: u64 = 5 * 366;

pub(super) fn routes() -> Router<Arc<Portal>> {
    Router::new()
        .route("/access/share", get(begin))
        .route("/access/share/{step}", get(steps::page).post(steps::answer))
        .route("/access/check/{draft}", get(check).post(confirm))
        .route("/access/done", get(done))
}

/// The questions, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Who,
    What,
    SeeOrAdd,
    Until,
    Why,
}

impl Step {
    const ALL: [Self; 5] = [
        Self::Who,
        Self::What,
        Self::SeeOrAdd,
        Self::Until,
        Self::Why,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Who => "who",
            Self::What => "what",
            Self::SeeOrAdd => "see-or-add",
            Self::Until => "until",
            Self::Why => "why",
        }
    }

    fn parse(name: &str) -> Answer<Self> {
        Self::ALL
            .into_iter()
            .find(|step| step.name() == name)
            .ok_or_else(Refusal::not_found)
    }

    fn number(self) -> usize {
        Self::ALL.iter().position(|one| *one == self).unwrap_or(0) + 1
    }

    fn address(self) -> String {
        format!("/access/share/{}", self.name())
    }
}

/// What was answered so far; only what could be read.
#[derive(Clone, Debug, Default)]
struct Share {
    to: Option<Address>,
    categories: Vec<Category>,
    permissions: Permissions,
    until: Option<String>,
    purpose: Option<Purpose>,
    request: Option<u32>,
}

impl Share {
    fn of(session: &Session) -> Self {
        let one = |name: &str| session.answers.get(name).and_then(|list| list.first());
        let many = |name: &str| session.answers.get(name).cloned().unwrap_or_default();
        Self {
            to: one("to").and_then(|text| text.parse().ok()),
            categories: many("parts")
                .iter()
                .filter_map(|name| Category::from_name(name))
                .collect(),
            permissions: permissions_of(&many("verbs")),
            until: one("until").cloned(),
            purpose: one("why").and_then(|text| text.parse().ok()),
            request: one("request").and_then(|text| text.parse().ok()),
        }
    }

    fn keep(&self, session: &mut Session) {
        let mut answers = BTreeMap::new();
        let mut put = |name: &str, values: Vec<String>| {
            if !values.is_empty() {
                answers.insert(name.to_owned(), values);
            }
        };
        put("to", self.to.iter().map(ToString::to_string).collect());
        let names = self.categories.iter().map(|one| one.name().to_owned());
        put("parts", names.collect());
        let mut verbs = Vec::new();
        if self.permissions.contains(Permissions::READ) {
            verbs.push("read".to_owned());
        }
        if self.permissions.contains(Permissions::WRITE) {
            verbs.push("write".to_owned());
        }
        put("verbs", verbs);
        put("until", self.until.iter().cloned().collect());
        put(
            "why",
            self.purpose.iter().map(ToString::to_string).collect(),
        );
        put(
            "request",
            self.request.iter().map(ToString::to_string).collect(),
        );
        session.answers = answers;
    }

    /// The first question without an answer.
    fn missing(&self) -> Option<Step> {
        if self.to.is_none() {
            Some(Step::Who)
        } else if self.categories.is_empty() {
            Some(Step::What)
        } else if self.permissions == Permissions::default() {
            Some(Step::SeeOrAdd)
        } else if self.until.is_none() {
            Some(Step::Until)
        } else if self.purpose.is_none() {
            Some(Step::Why)
        } else {
            None
        }
    }
}

/// `GET /access/share`: from the beginning, perhaps with a part of the record chosen on another page.
async fn begin(
    State(portal): State<Arc<Portal>>,
    mut signed: Signed,
    RawQuery(query): RawQuery,
) -> Answer {
    signed.patient()?;
    let fields = Fields::parse(query.unwrap_or_default().as_bytes());
    let share = Share {
        categories: Category::from_name(fields.text("part"))
            .into_iter()
            .collect(),
        ..Share::default()
    };
    share.keep(&mut signed.session);
    portal
        .service
        .keep_session(&signed.secret, &signed.session)?;
    Ok(to(&Step::Who.address()).into_response())
}

/// A request that the patient wants to allow: its terms are the first answers, the end is preset.
pub(super) async fn answer_request(
    portal: &Portal,
    signed: &Signed,
    mut posted: Posted,
    request: &AccessRequest,
    details: Option<&RequestDetails>,
) -> Answer {
    let mut share = Share {
        to: Some(request.requester),
        request: Some(request.id),
        until: Some(date_in(portal.service.now(), 30)),
        ..Share::default()
    };
    if let Some(details) = details {
        share.permissions = permissions_of(&details.permissions);
        share.purpose = details.purposes.first().copied();
        share.categories = if details.categories.iter().any(|name| name == "all") {
            Category::ALL
                .into_iter()
                .filter(|one| !one.is_sensitive())
                .collect()
        } else {
            details
                .categories
                .iter()
                .filter_map(|name| Category::from_name(name))
                .collect()
        };
    }
    share.keep(&mut posted.session);
    portal
        .service
        .keep_session(&posted.secret, &posted.session)?;
    next(portal, signed, &share).await
}

/// To the first question that is open, or to the check.
async fn next(portal: &Portal, signed: &Signed, share: &Share) -> Answer {
    match share.missing() {
        Some(step) => Ok(to(&step.address()).into_response()),
        // Keys that the patient holds are sealed in the browser.
        None if signed.holds_keys => Ok(keys::to_seal().into_response()),
        None => Ok(to_check(&draft(portal, signed, share).await?).into_response()),
    }
}

async fn draft(portal: &Portal, signed: &Signed, share: &Share) -> Answer<Prepared> {
    let request = asked(portal, signed, share)?;
    Ok(portal.service.draft_grant(&signed.actor, request).await?)
}

/// What the answers so far ask to be granted.
pub(super) fn wanted(portal: &Portal, signed: &Signed) -> Answer<GrantRequest> {
    asked(portal, signed, &Share::of(&signed.session))
}

fn asked(portal: &Portal, signed: &Signed, share: &Share) -> Answer<GrantRequest> {
    let patient = signed.patient()?;
    if let Some(request) = share.request {
        open_request(portal, signed, patient, request)?;
    }
    let now = portal.service.now();
    let until = share
        .until
        .as_deref()
        .and_then(end_of)
        .filter(|until| *until > now);
    let (Some(grantee), Some(until)) = (share.to, until) else {
        return Err(Refusal::bad_form(text!(
            "Some answers are missing. Start again."
        )));
    };
    Ok(GrantRequest {
        patient,
        grantee,
        categories: share.categories.clone(),
        permissions: share.permissions,
        purposes: share.purpose.into_iter().collect(),
        period: Period { from: now, until },
        months: None,
        request: share.request,
    })
}

/// The first moment after a day written as `2026-06-30`.
fn end_of(day: &str) -> Option<Timestamp> {
    let mut parts = day.splitn(3, '-');
    let year: i32 = parts.next()?.parse().ok()?;
    let month: u8 = parts.next()?.parse().ok()?;
    let day: u8 = parts.next()?.parse().ok()?;
    let date =
        time::Date::from_calendar_date(year, time::Month::try_from(month).ok()?, day).ok()?;
    let seconds = date.midnight().assume_utc().unix_timestamp();
    Some(Timestamp::from_seconds(u64::try_from(seconds).ok()?).plus_ms(DAY_MS))
}

/// The day so many days from now, as `2026-06-30`.
fn date_in(now: Timestamp, days: u64) -> String {
    let then = now.plus_ms(days.saturating_mul(DAY_MS)).to_instant();
    then.get(..10).unwrap_or_default().to_owned()
}

/// To the page where a draft is read and signed.
pub(super) fn to_check(draft: &Prepared) -> Redirect {
    to(&format!("/access/check/{}", draft.id))
}

/// `GET /access/check/{draft}`
async fn check(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    Path(id): Path<String>,
) -> Answer<Rendered> {
    signed.patient()?;
    let draft = portal.service.draft(&signed.actor, &id)?;
    let passkeys: Vec<String> = portal
        .service
        .passkeys(signed.person.account)?
        .iter()
        .map(|one| URL_SAFE_NO_PAD.encode(&one.credential))
        .collect();
    let words = Words::of(&portal, &signed, &draft.act).await?;
    let main = html! {
        a.back href="/access" { (text!("Back to who can see what")) }
        div.flow {
            @if matches!(draft.act, Act::Grant { .. }) { p.quiet-head { (text!("Share with someone, step 6 of 6")) } }
            h1 { (words.heading) }
            (words.answers)
            h2 #sign { (text!("What you sign")) }
            p.sentence { (words.sentence) }
            p { (words.limit) }
            form.flow method="post" action={ "/access/check/" (draft.id) } data-passkey="use"
                data-challenge=(URL_SAFE_NO_PAD.encode(draft.challenge)) data-rp=(portal.site.rp_id())
                data-allow=(passkeys.join(" ")) {
                (csrf(&signed))
                div.actions {
                    // Where the browser holds the keys, it reads the transaction before it lets anybody sign.
                    button.btn.primary disabled[signed.holds_keys] { (icon("fingerprint")) " " (words.button) }
                    a.btn href="/access" { (text!("Cancel")) }
                }
                (device_problem())
                p.small.soft { (text!("Nothing changes until you use your passkey.")) }
            }
            (wallet::decision(&portal, &signed, &draft)?)
            (keys::draft_data(&portal, &signed, &draft)?)
        }
    };
    Ok(Page::new(text!("Check before you sign"), main)
        .at(Place::Sharing)
        .narrow()
        .render(Some(&signed)))
}

/// What the check page says of an act, all read from the transaction.
struct Words {
    heading: &'static str,
    answers: Markup,
    sentence: Markup,
    limit: &'static str,
    button: &'static str,
}

impl Words {
    async fn of(portal: &Portal, signed: &Signed, act: &Act) -> Answer<Self> {
        match act {
            Act::Grant {
                grantee,
                terms,
                categories,
                ..
            } => {
                let (named, organization) = who(portal, *grantee).await?;
                let left_out: Vec<String> = Category::ALL
                    .into_iter()
                    .filter(|one| one.is_sensitive() && !categories.contains(one))
                    .map(|one| part(one).to_owned())
                    .collect();
                Ok(Self {
                    heading: text!("Check your answers before you share"),
                    answers: html! {
                        dl.answers {
                            (answered(text!("Who"), &html! { (person(&named, organization.as_deref())) }, Some(Step::Who)))
                            (answered(text!("What"), &html! { (capital(&parts(categories))) }, Some(Step::What)))
                            @if !left_out.is_empty() { (answered(text!("Not included"), &html! { (capital(&list(&left_out))) }, None)) }
                            (answered(text!("See or add"), &html! { (capital(&verbs(terms.permissions))) }, Some(Step::SeeOrAdd)))
                            (answered(text!("Until"), &html! { (rich!("{day}, at the end of the day (UTC)", day = last_day(terms))) }, Some(Step::Until)))
                            (answered(text!("Why"), &html! { (capital(&purposes(terms))) }, Some(Step::Why)))
                        }
                    },
                    sentence: html! {
                        (rich!("I, {name}, allow {grantee}{of} to {verbs} {parts}, old and new, from {now} until the end of {day}, for {purposes}.", name = html! { strong { (signed.name) } }, grantee = html! { strong { (named.name) } }, of = html! { @if let Some(organization) = &organization { " " (rich!("of {organization}", organization = html! { strong { (organization) } })) } }, verbs = html! { strong { (verbs(terms.permissions)) } }, parts = html! { strong { (my(categories)) } }, now = html! { strong { (text!("now")) } }, day = html! { strong { (last_day(terms)) } }, purposes = html! { strong { (purposes(terms)) } }))
                    },
                    limit: text!(
                        "You can stop this at any time. Stopping later does not erase what was seen."
                    ),
                    button: text!("Allow with passkey"),
                })
            }
            Act::Revoke { grantee, .. } => {
                let (named, organization) = who(portal, *grantee).await?;
                Ok(Self {
                    heading: text!("Stop this access?"),
                    answers: html! {},
                    sentence: html! {
                        (rich!("I, {name}, stop the access of {grantee}{of} to my record, from {now} on.", name = html! { strong { (signed.name) } }, grantee = html! { strong { (named.name) } }, of = html! { @if let Some(organization) = &organization { " " (rich!("of {organization}", organization = html! { strong { (organization) } })) } }, now = html! { strong { (text!("now")) } }))
                    },
                    limit: text!(
                        "It is final within seconds. It does not erase what was seen before."
                    ),
                    button: text!("Stop access with passkey"),
                })
            }
            Act::StopAll { grants } => Self::stop_all(portal, signed, grants).await,
            Act::Decline { request } => {
                let patient = signed.patient()?;
                let request = open_request(portal, signed, patient, *request)?;
                let (named, organization) = who(portal, request.requester).await?;
                Ok(Self {
                    heading: text!("Decline this request?"),
                    answers: html! {},
                    sentence: html! {
                        (rich!("I, {name}, decline the request of {asker}{of} to see my record.", name = html! { strong { (signed.name) } }, asker = html! { strong { (named.name) } }, of = html! { @if let Some(organization) = &organization { " " (rich!("of {organization}", organization = html! { strong { (organization) } })) } }))
                    },
                    limit: text!("They see that you declined, and nothing else."),
                    button: text!("Decline with passkey"),
                })
            }
        }
    }

    /// Everybody's access ends at once.
    async fn stop_all(portal: &Portal, signed: &Signed, grants: &[(Address, u32)]) -> Answer<Self> {
        let mut names = Vec::new();
        for (grantee, _) in grants {
            let name = portal.name(*grantee).await?.name;
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Ok(Self {
            heading: text!("Stop all access?"),
            answers: html! {},
            sentence: html! {
                (rich!("I, {name}, stop the access of {everybody} to my record, from {now} on: {list}.", name = html! { strong { (signed.name) } }, everybody = html! { strong { (text!("everybody")) } }, now = html! { strong { (text!("now")) } }, list = list(&names)))
            },
            limit: text!(
                "It is final within seconds. Those who treat you see nothing any more, also in the organisation that keeps your record. It does not erase what was seen before."
            ),
            button: text!("Stop all access with passkey"),
        })
    }
}

fn answered(question: &str, answer: &Markup, change: Option<Step>) -> Markup {
    html! {
        div {
            dt { (question) }
            dd { (answer) }
            @if let Some(step) = change {
                dd.act { a href=(step.address()) { (text!("Change")) span.hide { " " (question.to_lowercase()) } } }
            }
        }
    }
}

/// `POST /access/check/{draft}`
async fn confirm(
    State(portal): State<Arc<Portal>>,
    signed: Signed,
    Path(id): Path<String>,
    mut posted: Posted,
) -> Answer {
    signed.patient()?;
    let passkey = posted.fields.passkey()?;
    let settled = portal
        .service
        .confirm_draft(&signed.actor, &id, &passkey)
        .await
        .map_err(not_recorded)?;
    finished(&portal, &mut posted, &settled)
}

/// Why a decision is not on the ledger.
pub(super) fn not_recorded(error: Error) -> Refusal {
    match error {
        // The draft stands: the same page asks once more.
        Error::Ledger { .. } | Error::Conflict { .. } => Refusal::Page {
            status: http::StatusCode::CONFLICT,
            title: text!("This was not recorded"),
            words: text!("Something changed at the same moment, or recording took too long. Look at who can see what, and try again.").into(),
        },
        other => other.into(),
    }
}

/// To the page that says what was decided.
pub(super) fn finished(portal: &Portal, posted: &mut Posted, settled: &Settled) -> Answer {
    let (kind, grantee) = match &settled.act {
        Act::Grant { grantee, .. } => ("granted", Some(*grantee)),
        Act::Revoke { grantee, .. } => ("stopped", Some(*grantee)),
        Act::StopAll { .. } => ("stopped-all", None),
        Act::Decline { .. } => ("declined", None),
    };
    posted.session.answers = BTreeMap::from([
        ("done".to_owned(), vec![kind.to_owned()]),
        (
            "grantee".to_owned(),
            grantee.iter().map(ToString::to_string).collect(),
        ),
    ]);
    portal
        .service
        .keep_session(&posted.secret, &posted.session)?;
    Ok(to("/access/done").into_response())
}

/// `GET /access/done`: after finality.
async fn done(State(portal): State<Arc<Portal>>, signed: Signed) -> Answer {
    let patient = signed.patient()?;
    let answers = &signed.session.answers;
    let one = |name: &str| answers.get(name).and_then(|list| list.first());
    let Some(kind) = one("done") else {
        return Ok(to("/access").into_response());
    };
    let grantee: Option<Address> = one("grantee").and_then(|text| text.parse().ok());
    let name = match grantee {
        Some(grantee) => portal.name(grantee).await?.name,
        None => String::new(),
    };
    let grants = portal.service.grants_of(&signed.actor, patient)?;
    let live = grants
        .into_iter()
        .find(|grant| Some(grant.grantee) == grantee && grant.is_live(portal.service.now()));
    let (heading, body) = match (kind.as_str(), live) {
        ("granted", Some(grant)) => {
            let row = super::access::Row::of(&portal, patient, grant).await?;
            (
                text!("{name} now has access", name),
                html! {
                    p { (row.sentence()) }
                    form method="post" action="/access/stop" {
                        (csrf(&signed))
                        input type="hidden" name="grantee" value=(row.grant.grantee);
                        input type="hidden" name="id" value=(row.grant.id);
                        div.actions {
                            a.btn.primary href="/access" { (text!("Who can see what")) }
                            button.btn.stop { (text!("Stop access")) span.hide { " " (rich!("of {name}", name)) } }
                        }
                    }
                },
            )
        }
        ("stopped", _) => (
            text!("The access of {name} has ended", name),
            html! {
                p { (text!("It is refused from now on. What was seen before stays seen.")) }
                div.actions { a.btn.primary href="/access" { (text!("Who can see what")) } }
            },
        ),
        ("stopped-all", _) => (
            text!("All access has ended").to_owned(),
            html! {
                p { (text!("Nobody but you can open your record from now on. What was seen before stays seen.")) }
                @if signed.holds_keys { p.small.soft { (keys::reason_not_all()) } }
                div.actions { a.btn.primary href="/access" { (text!("Who can see what")) } }
            },
        ),
        _ => (
            text!("Your answer is recorded").to_owned(),
            html! { div.actions { a.btn.primary href="/access" { (text!("Who can see what")) } } },
        ),
    };
    let main = html! {
        div.flow {
            h1 { span.state.ok { (icon("circle-check")) } " " (heading) }
            p.soft { (text!("Recorded, and final.")) }
            (body)
        }
    };
    Ok(Page::new(text!("Recorded"), main)
        .at(Place::Sharing)
        .narrow()
        .render(Some(&signed))
        .into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_ends_with_its_last_day() {
        let end = end_of("2026-11-21").expect("a day");
        assert_eq!(end.to_instant(), "2026-11-22T00:00:00.000Z");
        assert_eq!(date_in(Timestamp(end.0 - 1), 30), "2026-12-21");
        for wrong in ["", "2026-13-01", "2026-02-30", "yesterday", "2026-1"] {
            assert_eq!(end_of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn answers_survive_the_session() {
        let share = Share {
            to: Some(Address::repeat_byte(7)),
            categories: vec![Category::Medicines, Category::Laboratory],
            permissions: Permissions::READ.and(Permissions::WRITE),
            until: Some("2026-12-01".into()),
            purpose: Some(Purpose::Treat),
            request: Some(3),
        };
        let mut session = Session {
            account: None,
            csrf: alloy_primitives::B256::ZERO,
            started: Timestamp(0),
            seen: Timestamp(0),
            challenge: alloy_primitives::B256::ZERO,
            invitation: None,
            applicant: None,
            wallet: None,
            answers: BTreeMap::new(),
        };
        share.keep(&mut session);
        let read = Share::of(&session);
        assert_eq!(read.categories, share.categories);
        assert_eq!((read.to, read.request), (share.to, share.request));
        assert_eq!(read.missing(), None);
        assert_eq!(Share::default().missing(), Some(Step::Who));
    }
}
