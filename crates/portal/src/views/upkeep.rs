//! The administrator's look at the node: is it well, when was it backed up and checked, and which keys are there. Nothing is
//! changed here: what changes a node is done at its command line.

use std::sync::Arc;

use axum::{Router, extract::State, routing::get};
use maud::{Markup, html};
use stele_core::time::Timestamp;
use stele_service::{
    directory::role,
    upkeep::{Done, Health},
};

use super::worklist::head;
use crate::{
    error::Answer,
    front::Portal,
    page::{Page, Place, Rendered, tag},
    session::Signed,
    shown::{day, moment, short},
};

/// A backup older than this is called old, in milliseconds: a week.
const BACKUP_OLD_MS: u64 = 7 * 24 * 3600 * 1000;
/// A check older than this is called old, in milliseconds: 90 days.
const CHECK_OLD_MS: u64 = 90 * 24 * 3600 * 1000;
/// A last block older than this means that the ledger stands still, in milliseconds: reads are refused from here on.
const BLOCK_OLD_MS: u64 = 60_000;
/// Room that is left at which somebody should look, as a multiple of what must stay free.
const ROOM_SMALL: u64 = 16;

pub(super) fn routes() -> Router<Arc<Portal>> {
    Router::new()
        .route("/health", get(health))
        .route("/health/keys", get(keys))
}

/// `GET /health`
async fn health(State(portal): State<Arc<Portal>>, signed: Signed) -> Answer<Rendered> {
    signed.require(role::ADMINISTRATOR)?;
    let found = portal.service.health(&signed.actor)?;
    let now = portal.service.now();
    let mut validators = Vec::with_capacity(found.validators.len());
    for (key, organization) in &found.validators {
        validators.push((key, portal.name(*organization).await?.name));
    }
    let upkeep = &found.upkeep;
    let main = html! {
        div.page-head {
            div.tight {
                h1 { (text!("Health")) }
                p.soft { (text!("How this node is, as of now. Times are in UTC.")) }
            }
            div.actions { a.btn href="/health/keys" { (text!("Keys")) } }
        }
        div.sections {
            section.flow {
                h2 { (text!("Backups and checks")) }
                table.stacks role="table" {
                    caption.hide { (text!("Backups and checks")) }
                    (head(&[text!("What"), text!("State"), text!("Last done"), text!("How")]))
                    tbody role="rowgroup" {
                        (task(text!("Backup of the data folder"), "stele backup", upkeep.backup.as_ref(), now, BACKUP_OLD_MS))
                        (task(text!("Check of everything stored"), "stele verify vault", upkeep.vault_check.as_ref(), now, CHECK_OLD_MS))
                        (task(text!("Execution of the whole ledger"), "stele verify chain", upkeep.chain_check.as_ref(), now, CHECK_OLD_MS))
                    }
                }
                p.small.soft { (text!("All three run while the node stands still. Keep the key file apart from the backups, and the list of erased records beside them.")) }
            }
            section.flow {
                h2 { (text!("Now")) }
                dl.facts { (running(&found)) }
            }
            section.flow {
                h2 { (text!("Custody")) }
                p { (rich!("{kept} patients’ keys are kept here for them; {own} patients keep their own.", kept = found.custody.0, own = found.custody.1)) }
            }
            section.flow {
                h2 { (text!("Validators")) }
                ul.rows { @for (key, name) in &validators { li { strong { (name) } " " span.mono.small { (short(&key.to_string())) } } } }
            }
        }
    };
    Ok(Page::new(text!("Health"), main)
        .at(Place::Health)
        .render(Some(&signed)))
}

fn task(what: &str, command: &str, done: Option<&Done>, now: Timestamp, old_ms: u64) -> Markup {
    let state = match done {
        None => tag("bad", "circle-x", text!("Never")),
        Some(done) if !done.ok => tag("bad", "octagon-alert", text!("Found wrong")),
        Some(done) if now.0.saturating_sub(done.at.0) > old_ms => {
            tag("wait", "hourglass", text!("Long ago"))
        }
        Some(_) => tag("ok", "circle-check", text!("Good")),
    };
    html! {
        tr role="row" {
            th role="rowheader" scope="row" { (what) }
            td role="cell" data-label=(text!("State")) { (state) }
            td role="cell" data-label=(text!("Last done")) {
                @match done { Some(done) => { (moment(done.at)) br; span.small.soft { (done.words) } } None => (text!("Not noted here")) }
            }
            td role="cell" data-label=(text!("How")) { code { (command) } }
        }
    }
}

fn running(found: &Health) -> Markup {
    let (waiting, parked) = found.messages;
    let good = |is_good: bool| {
        if is_good {
            tag("ok", "circle-check", text!("Good"))
        } else {
            tag("bad", "triangle-alert", text!("Look at this"))
        }
    };
    html! {
        dt { (text!("Ledger")) }
        dd { (rich!(
            "{good} block {height}, {age} seconds old",
            good = good(found.block_age_ms < BLOCK_OLD_MS),
            height = found.height,
            age = found.block_age_ms / 1000,
        )) }
        dt { (text!("Index")) }
        dd { (rich!("{good} {index_lag} blocks behind", good = good(found.index_lag < 10), index_lag = found.index_lag)) }
        dt { (text!("Disk")) }
        dd {
            @match found.room {
                Some((free, reserve)) => { (rich!(
                    "{good} {free} free; writing stops at {reserve}",
                    good = good(free > reserve.saturating_mul(ROOM_SMALL)),
                    free = gigabytes(free),
                    reserve = gigabytes(reserve),
                )) }
                None => (text!("The file system does not say"))
            }
        }
        dt { (text!("Stored")) } dd { (rich!("About {blobs} encrypted entries and attachments", blobs = found.blobs)) }
        dt { (text!("Receipts")) } dd { (rich!("{unanchored} of accesses wait for the ledger", unanchored = found.unanchored)) }
        dt { "HL7 v2" } dd { (rich!("{good} {waiting} messages wait, {parked} are parked", good = good(parked == 0), waiting, parked)) }
    }
}

/// `1.5 GB`, `64 MB`.
fn gigabytes(bytes: u64) -> String {
    if bytes >= 1 << 30 {
        let tenths = bytes / ((1 << 30) / 10);
        format!("{}.{} GB", tenths / 10, tenths % 10)
    } else {
        format!("{} MB", bytes >> 20)
    }
}

/// `GET /health/keys`
async fn keys(State(portal): State<Arc<Portal>>, signed: Signed) -> Answer<Rendered> {
    signed.require(role::ADMINISTRATOR)?;
    let keys = portal.service.keys(&signed.actor)?;
    let mut members = Vec::with_capacity(keys.members.len());
    for (account, added, last) in &keys.members {
        members.push((portal.name(*account).await?.name, *added, *last));
    }
    let (account, is_here) = keys.signing;
    let main = html! {
        a.back href="/health" { (text!("Back to health")) }
        div.page-head {
            div.tight {
                h1 { (text!("Keys")) }
                p.soft { (text!("Which keys there are and since when. Secrets are shown nowhere.")) }
            }
        }
        div.sections {
            section.flow {
                h2 { (signed.organization) }
                dl.facts {
                    dt { (text!("Signing key")) }
                    dd {
                        span.mono { (account) } br;
                        @if is_here { (tag("ok", "circle-check", text!("Kept here"))) } @else { (tag("", "circle-minus", text!("Kept elsewhere"))) }
                        @if let Some(at) = keys.registered { " " (rich!("since {moment}", moment = moment(at))) }
                    }
                    dt { (text!("Encryption key")) }
                    dd {
                        @match &keys.encryption {
                            Some(digest) => { (text!("X-Wing, SHA-256 of the public key")) " " span.mono { (short(digest)) } }
                            None => (text!("Kept elsewhere"))
                        }
                    }
                    dt { (text!("Key of the vault")) }
                    dd {
                        @match &keys.unlock {
                            Some(done) => { (rich!("Changed {moment} to", moment = moment(done.at))) " " span.mono { (done.words) } }
                            None => { (rich!("Not changed since the data folder was made; {command} changes it", command = html! { code { "stele keys rotate" } })) }
                        }
                    }
                    dt { (text!("Validators")) }
                    dd {
                        @if keys.validators.is_empty() { (text!("None seated")) }
                        @for key in &keys.validators { div.mono { (short(&key.to_string())) } }
                    }
                }
            }
            (member_keys(&members))
            section.flow {
                h2 { (text!("Patients")) }
                p { (rich!("The keys of {kept} patients are kept here for them; {own} keep their own.", kept = keys.custody.0, own = keys.custody.1)) }
            }
        }
    };
    Ok(Page::new(text!("Keys"), main)
        .at(Place::Health)
        .render(Some(&signed)))
}

/// Keys of members: how many were added to each account, and when the last passkey was made.
fn member_keys(members: &[(String, usize, Option<Timestamp>)]) -> Markup {
    html! {
        section.flow {
            h2 { (text!("Members")) }
            table.stacks role="table" {
                caption.hide { (text!("Keys of members")) }
                (head(&[text!("Name"), text!("Keys that speak for them"), text!("Last passkey made")]))
                tbody role="rowgroup" {
                    @for (name, added, last) in members {
                        tr role="row" {
                            th role="rowheader" scope="row" { (name) }
                            td role="cell" data-label=(text!("Keys")) { (rich!("{added} added, and the one kept here", added)) }
                            td role="cell" data-label=(text!("Last made")) { @match last { Some(at) => (day(*at)), None => span.soft { (text!("None yet")) } } }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_as_people_read_them() {
        assert_eq!(gigabytes(64 << 20), "64 MB");
        assert_eq!(gigabytes(3 << 29), "1.5 GB");
    }
}
