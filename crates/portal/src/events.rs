//! Live pages: a browser is told that something about its person changed, and asks for the page again. Nothing clinical
//! and no name travels here.

use std::{convert::Infallible, sync::Arc, time::Duration};

use alloy_primitives::{Address, B256};
use axum::{
    extract::State,
    response::{
        IntoResponse,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures::StreamExt as _;
use stele_service::ports::Finalized;
use tokio::sync::broadcast::error::RecvError;

use crate::{front::Portal, session::Signed};

/// How often a silent connection is shown to be alive.
const ALIVE: Duration = Duration::from_secs(20);
/// How long a browser waits before it connects again, in milliseconds.
const RETRY_MS: u64 = 2_000;

/// `GET /events`
pub(crate) async fn stream(State(portal): State<Arc<Portal>>, signed: Signed) -> impl IntoResponse {
    let account = signed.person.account;
    let blocks = portal.service.ledger().subscribe();
    let stopped = portal.stopped.clone();
    let changes = futures::stream::unfold(
        (blocks, stopped),
        move |(mut blocks, mut stopped)| async move {
            loop {
                if *stopped.borrow() {
                    return None;
                }
                tokio::select! {
                    _ = stopped.changed() => return None,
                    block = blocks.recv() => match block {
                        Ok(block) if !concerns(&block, account) => {}
                        // Whoever missed blocks is told to look.
                        Ok(_) | Err(RecvError::Lagged(_)) => {
                            let event = Event::default().event("changed").data("look");
                            return Some((event, (blocks, stopped)));
                        }
                        Err(RecvError::Closed) => return None,
                    },
                }
            }
        },
    );
    let hello = Event::default()
        .retry(Duration::from_millis(RETRY_MS))
        .comment("connected");
    let events = futures::stream::iter([hello])
        .chain(changes)
        .map(Ok::<Event, Infallible>);
    Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE))
}

/// Whether a block has an event that names the account.
fn concerns(block: &Finalized, account: Address) -> bool {
    let word: B256 = account.into_word();
    block
        .receipts
        .iter()
        .flat_map(|receipt| &receipt.receipt.logs)
        .any(|log| log.topics().contains(&word))
}
