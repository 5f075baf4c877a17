//! JSON-RPC over WebSocket (RFC 6455). Made for many subscribers that are told little: what an idle one holds is two small
//! buffers, its subscription and a timer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    extract::{
        FromRequestParts as _,
        ws::{Message, WebSocket, WebSocketUpgrade},
    },
    response::IntoResponse as _,
};
use bytes::Bytes;
use http::{Method, Request, Response, header::UPGRADE};
use jsonrpsee::{ConnectionId, Methods, server::HttpBody};
use serde_json::value::RawValue;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, watch},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};
use tokio_tungstenite::tungstenite;

use super::conversation::{ANSWERS_AHEAD, Conversation, Limits};

/// Whether a request wants to become a WebSocket.
pub(super) fn is_asked_for<B>(request: &Request<B>) -> bool {
    let upgrade = request.headers().get(UPGRADE);
    request.method() == Method::GET
        && upgrade.is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Opens WebSockets.
#[derive(Clone)]
pub(super) struct Sockets {
    methods: Methods,
    limits: Limits,
    opened: Arc<AtomicUsize>,
    /// Says nothing; its sender is dropped when they are to end.
    ending: watch::Receiver<()>,
}

impl Sockets {
    pub(super) fn new(methods: Methods, limits: Limits, ending: watch::Receiver<()>) -> Self {
        Self {
            methods,
            limits,
            opened: Arc::default(),
            ending,
        }
    }

    /// The answer to a request that wants to become a WebSocket; the place is taken as long as the socket is open.
    pub(super) async fn open<B>(
        self,
        request: Request<B>,
        place: OwnedSemaphorePermit,
    ) -> Response<HttpBody> {
        let (mut parts, _) = request.into_parts();
        let upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
            Ok(upgrade) => upgrade,
            Err(refusal) => return refusal.into_response().map(HttpBody::new),
        };
        let id = ConnectionId(self.opened.fetch_add(1, Ordering::Relaxed));
        let Self {
            methods,
            limits,
            ending,
            ..
        } = self;
        let longest = usize::try_from(limits.request_bytes).unwrap_or(usize::MAX);
        let upgrade = upgrade
            .read_buffer_size(READ_BYTES)
            // Each message is written at once, so nothing has to be gathered.
            .write_buffer_size(0)
            .max_message_size(longest)
            .max_frame_size(longest);
        let response = upgrade.on_upgrade(move |socket| async move {
            let conversation = Arc::new(Conversation::new(methods, limits, id));
            hold(conversation, limits, socket, ending).await;
            drop(place);
        });
        response.map(HttpBody::new)
    }
}

/// Answers and tells until either side ends it.
async fn hold(
    conversation: Arc<Conversation>,
    limits: Limits,
    mut socket: WebSocket,
    mut ending: watch::Receiver<()>,
) {
    let (answers, mut queue) = mpsc::channel(ANSWERS_AHEAD);
    // Whatever is still asked when the connection ends is of no use to anybody, and ends with this set.
    let mut asked = JoinSet::new();
    let mut pulse = interval_at(Instant::now() + PULSE, PULSE);
    pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut silent = 0;
    loop {
        let said = tokio::select! {
            _ = ending.changed() => break,
            Some(answer) = queue.recv() => send(&mut socket, text(answer)).await,
            Some(_) = asked.join_next(), if !asked.is_empty() => Ok(()),
            _ = pulse.tick() => {
                silent += 1;
                if silent > SILENT_PULSES {
                    return;
                }
                send(&mut socket, Message::Ping(Bytes::new())).await
            }
            received = socket.recv(), if asked.len() < ASKED_AT_ONCE => {
                silent = 0;
                match received {
                    Some(Ok(Message::Text(message))) => {
                        answer(&mut asked, &conversation, message.into(), &answers);
                        Ok(())
                    }
                    Some(Ok(Message::Binary(message))) => {
                        answer(&mut asked, &conversation, message, &answers);
                        Ok(())
                    }
                    // Pings are answered below this.
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(()),
                    Some(Err(error)) => {
                        if !is_too_long(error) {
                            return;
                        }
                        // Where the next message begins is not known.
                        let _ = send(&mut socket, text(limits.too_long())).await;
                        break;
                    }
                    Some(Ok(Message::Close(_))) => {
                        // The farewell is answered below this, by asking for more: who gets no answer takes the
                        // connection for broken and comes back.
                        let _ = timeout(LAST_WORDS, socket.recv()).await;
                        return;
                    }
                    None => return,
                }
            }
        };
        if said.is_err() {
            return;
        }
    }
    let _ = timeout(LAST_WORDS, socket.send(Message::Close(None))).await;
}

/// Answers one message beside whatever else is asked.
fn answer(
    asked: &mut JoinSet<()>,
    conversation: &Arc<Conversation>,
    message: Bytes,
    answers: &mpsc::Sender<Box<RawValue>>,
) {
    let (conversation, answers) = (Arc::clone(conversation), answers.clone());
    asked.spawn(async move {
        if let Some(answer) = conversation.answer(&message, &answers).await {
            // Nobody waits for it when the connection has ended.
            let _ = answers.send(answer).await;
        }
    });
}

/// The other side is gone, or takes nothing.
struct Gone;

async fn send(socket: &mut WebSocket, message: Message) -> Result<(), Gone> {
    match timeout(PULSE * SILENT_PULSES, socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(Gone),
    }
}

fn text(answer: Box<RawValue>) -> Message {
    Message::Text(String::from(Box::<str>::from(answer)).into())
}

fn is_too_long(error: axum::Error) -> bool {
    let error = error.into_inner().downcast::<tungstenite::Error>();
    error.is_ok_and(|error| matches!(*error, tungstenite::Error::Capacity(_)))
}

/// Between two pings. They find subscribers that are gone without a word; a browser tab may sleep for a minute.
const PULSE: Duration = Duration::from_secs(30);

/// Pings in a row without a sign of life after which the other side is gone.
const SILENT_PULSES: u32 = 3;

/// Messages of one connection that are answered at once; more wait.
const ASKED_AT_ONCE: usize = 256;

/// What is read from the connection at once.
const READ_BYTES: usize = 1 << 10;

/// How long a farewell may take.
const LAST_WORDS: Duration = Duration::from_secs(1);
