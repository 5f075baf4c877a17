//! Entries by month and visit, each with its badge.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};

use super::{number_of, rounded, status_look};
use crate::{
    error::Answer,
    front::Portal,
    page::tag,
    shown::{self, Badge, Entry, badge, capital, date, day, moment},
};

/// Entries by month and visit, in the order given.
pub(super) async fn timeline(
    portal: &Portal,
    shown: &[Entry],
    visits: &[Entry],
    patient_number: &str,
) -> Answer<Markup> {
    let visits: BTreeMap<&str, &Entry> = visits
        .iter()
        .chain(shown)
        .filter(|entry| entry.stored.resource_type == "Encounter")
        .map(|entry| (entry.stored.id.as_str(), entry))
        .collect();
    let mut months: Vec<(String, Vec<Group<'_>>)> = Vec::new();
    // A visit that heads a group is not listed a second time.
    let heads: BTreeSet<&str> = shown.iter().filter_map(|entry| entry.encounter()).collect();
    for entry in shown {
        if entry.stored.resource_type == "Encounter" && heads.contains(entry.stored.id.as_str()) {
            continue;
        }
        let month = entry.month();
        let article = article(portal, entry, patient_number).await?;
        let visit = entry.encounter().and_then(|id| visits.get(id).copied());
        if months.last().is_none_or(|(last, _)| *last != month) {
            months.push((month, Vec::new()));
        }
        let Some((_, groups)) = months.last_mut() else {
            continue;
        };
        let same = |group: &&mut Group<'_>| {
            group.visit.map(|v| &v.stored.id) == visit.map(|v| &v.stored.id)
        };
        match groups.last_mut().filter(same) {
            Some(group) => group.articles.push(article),
            None => groups.push(Group {
                visit,
                articles: vec![article],
            }),
        }
    }
    Ok(html! {
        @for (month, groups) in &months {
            section.month {
                h2 { (capital(&date(month))) }
                @for group in groups {
                    @if let Some(visit) = group.visit {
                        div.encounter {
                            h3.quiet-head { a href=(visit.address("/record")) { (visit.title) } ", " (date(&visit.when)) }
                            @for article in &group.articles { (article) }
                        }
                    } @else {
                        @for article in &group.articles { (article) }
                    }
                }
            }
        }
    })
}

/// Entries of one visit, or of none.
struct Group<'a> {
    visit: Option<&'a Entry>,
    articles: Vec<Markup>,
}

async fn article(portal: &Portal, entry: &Entry, patient_number: &str) -> Answer<Markup> {
    let stored = &entry.stored;
    let placed = portal
        .service
        .placed(&stored.resource_type, &stored.id, stored.version)?;
    let is_own = placed.is_some_and(|placed| placed.author == placed.log);
    let author = match &placed {
        Some(_) if is_own => text!("you").to_owned(),
        Some(placed) => portal.name(placed.author).await?.name,
        None => text!("Not known").into(),
    };
    let state = entry.state();
    let is_withdrawn = entry.status() == Some("Entered in error");
    let inside = html! {
        @match (state, &placed) {
            (Badge::Verified, Some(placed)) => {
                p {
                    @if is_own { (text!("This is exactly what you recorded on {moment} UTC. Nothing has changed since.", moment = moment(placed.at))) }
                    @else { (text!("This is exactly what {author} recorded on {moment} UTC. Nothing has changed since.", author, moment = moment(placed.at))) }
                }
                p { a href=(entry.address("/record")) { (text!("Details and how to check it yourself")) } }
            }
            (Badge::DoesNotMatch, _) => {
                p {
                    @if is_own { (text!("What is stored is not what you recorded, so we do not show it. Please do not rely on a copy you may have. Your other entries are not affected.")) }
                    @else { (text!("What is stored is not what {author} recorded, so we do not show it. Please do not rely on a copy you may have. Your other entries are not affected.", author)) }
                }
                p { (text!("Tell the desk of your hospital or practice, and give them the number of this entry.")) }
            }
            _ => p { (text!("This entry cannot be checked at the moment. We try again when you open it.")) }
        }
    };
    Ok(html! {
        article.entry {
            div.what.tight {
                @if state == Badge::DoesNotMatch {
                    h3 { (text!("Entry held back")) }
                } @else {
                    h3.struck[is_withdrawn] { a href=(entry.address("/record")) { (entry.title) } }
                }
                p.small.soft {
                    @if entry.when.is_empty() { (rich!("Recorded {day}", day = day(stored.last_updated))) } @else { (date(&entry.when)) }
                    @if !is_own { ". " (author) }
                    @if let Some(placed) = &placed { ". " span.mono { (patient_number) "REC" (placed.number) } }
                }
                @if is_own { p.small { (tag("", "user", text!("Added by you"))) } }
                @if stored.version > 1 { p.small { (rich!("Amended, {version} versions", version = stored.version)) } }
            }
            div.value-side {
                @if state == Badge::DoesNotMatch { p { strong { (text!("Held back")) } } }
                @else { (value(entry)) }
            }
            (badge(state, &entry.title, false, &inside))
        }
    })
}

/// A number large with its unit small; other values as text; and the state where it matters.
fn value(entry: &Entry) -> Markup {
    html! {
        @if let Some((number, unit)) = number_of(entry) {
            p.value { (rounded(number)) " " small { (unit) } }
        } @else if !entry.shown.is_empty() {
            p { (entry.shown) }
        }
        @if let Some(status) = entry.status() {
            p { (tag(status_look(status).0, status_look(status).1, shown::status(status))) }
        }
    }
}
