//! JSON-RPC over a Unix socket, as go-ethereum's IPC: JSON values one after the other, in both directions. Whoever may
//! open the file may call: it belongs to the node's user alone, so there are neither tokens nor origins.

mod frames;

use std::{
    io,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use jsonrpsee::{
    ConnectionId, MethodCallback, MethodResponse, MethodSink, Methods,
    core::server::{BoundedSubscriptions, SubscriptionState, prepare_error},
    types::{
        ErrorObjectOwned, Id, Notification, Params, Request,
        error::{
            ErrorCode, reject_too_big_batch_request, reject_too_big_request,
            reject_too_many_subscriptions,
        },
    },
};
use serde_json::value::RawValue;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream, unix::OwnedWriteHalf},
    sync::{Semaphore, mpsc},
};

use self::frames::{Frames, Unreadable};
use super::{RpcConfig, subscriptions::HexIds};

/// A socket that listens. Dropping it stops it, ends its connections and removes the file.
#[derive(Debug)]
pub(super) struct IpcHandle {
    path: PathBuf,
    accepting: tokio::task::JoinHandle<()>,
}

impl Drop for IpcHandle {
    fn drop(&mut self) {
        self.accepting.abort();
        // Whatever is left is replaced at the next start.
        drop(std::fs::remove_file(&self.path));
    }
}

/// What every connection is bounded by.
#[derive(Clone, Copy, Debug)]
struct Limits {
    request_bytes: u32,
    response_bytes: u32,
    batch: u32,
    subscriptions: u32,
}

/// Listens at `path`, replacing a socket that nobody listens at any more.
///
/// # Errors
/// Another process listens there, it is no socket, or it cannot be made.
pub(super) fn listen(path: &Path, methods: Methods, config: &RpcConfig) -> io::Result<IpcHandle> {
    if let Ok(found) = std::fs::symlink_metadata(path) {
        let taken =
            !found.file_type().is_socket() || std::os::unix::net::UnixStream::connect(path).is_ok();
        if taken {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    let limits = Limits {
        request_bytes: config.max_request_bytes,
        response_bytes: config.max_response_bytes,
        batch: config.max_batch,
        subscriptions: config.max_subscriptions,
    };
    let places = Arc::new(Semaphore::new(
        usize::try_from(config.max_connections).unwrap_or(usize::MAX >> 3),
    ));
    Ok(IpcHandle {
        path: path.to_owned(),
        accepting: tokio::spawn(accept(listener, methods, limits, places)),
    })
}

async fn accept(listener: UnixListener, methods: Methods, limits: Limits, places: Arc<Semaphore>) {
    // Ends with this task, which is aborted when the handle is dropped.
    let mut conversations = tokio::task::JoinSet::new();
    let mut number = 0_usize;
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "rpc.ipc.accept");
                // Out of descriptors: others have to end first.
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        while conversations.try_join_next().is_some() {}
        number = number.wrapping_add(1);
        let (methods, id) = (methods.clone(), ConnectionId(number));
        conversations.spawn(async move {
            Conversation::new(methods, limits, id).hold(stream).await;
            drop(place);
        });
    }
}

/// One connection.
struct Conversation {
    methods: Methods,
    limits: Limits,
    id: ConnectionId,
    subscriptions: BoundedSubscriptions,
}

impl Conversation {
    fn new(methods: Methods, limits: Limits, id: ConnectionId) -> Self {
        Self {
            methods,
            limits,
            id,
            subscriptions: BoundedSubscriptions::new(limits.subscriptions),
        }
    }

    /// Answers until the other side is done, or says what cannot be read.
    async fn hold(&self, stream: UnixStream) {
        let (mut reader, writer) = stream.into_split();
        let (answers, queue) = mpsc::channel(ANSWERS_AHEAD);
        let mut writing = tokio::spawn(write(writer, queue));
        let mut frames = Frames::new(self.limits.request_bytes);
        let mut bytes = vec![0; READ_BYTES];
        'read: while let Ok(read @ 1..) = reader.read(&mut bytes).await {
            for byte in bytes.iter().take(read) {
                let message = match frames.push(*byte) {
                    Ok(None) => continue,
                    Ok(Some(message)) => message,
                    Err(unreadable) => {
                        // Where the next message would begin is not known.
                        let refusal = MethodResponse::error(Id::Null, refusal(unreadable));
                        drop(answers.send(refusal.into_json()).await);
                        break 'read;
                    }
                };
                if let Some(answer) = self.answer(&message, &answers).await
                    && answers.send(answer).await.is_err()
                {
                    break 'read;
                }
            }
        }
        // What was asked is answered to the end. Subscriptions end when nobody takes what they tell.
        drop(answers);
        if tokio::time::timeout(LAST_WORDS, &mut writing)
            .await
            .is_err()
        {
            writing.abort();
        }
    }

    /// The answer to one message, if it has one.
    async fn answer(
        &self,
        message: &[u8],
        answers: &mpsc::Sender<Box<RawValue>>,
    ) -> Option<Box<RawValue>> {
        if message.first() != Some(&b'[') {
            return self.call(message, answers).await;
        }
        let error =
            |object: ErrorObjectOwned| Some(MethodResponse::error(Id::Null, object).into_json());
        let Ok(calls) = serde_json::from_slice::<Vec<&RawValue>>(message) else {
            return error(ErrorCode::ParseError.into());
        };
        let most = usize::try_from(self.limits.batch).unwrap_or(usize::MAX);
        if calls.is_empty() {
            return error(ErrorCode::InvalidRequest.into());
        }
        if calls.len() > most {
            return error(reject_too_big_batch_request(most));
        }
        let mut said = String::from("[");
        for call in calls {
            let Some(answer) = self.call(call.get().as_bytes(), answers).await else {
                continue;
            };
            if said.len() > 1 {
                said.push(',');
            }
            said.push_str(answer.get());
        }
        if said.len() == 1 {
            // Notifications only.
            return None;
        }
        said.push(']');
        RawValue::from_string(said).ok()
    }

    async fn call(
        &self,
        text: &[u8],
        answers: &mpsc::Sender<Box<RawValue>>,
    ) -> Option<Box<RawValue>> {
        let request: Request<'_> = match serde_json::from_slice(text) {
            Ok(request) => request,
            Err(_) => {
                if serde_json::from_slice::<Notification<'_, Option<&RawValue>>>(text).is_ok() {
                    return None;
                }
                let (id, _) = prepare_error(text);
                let code = match serde_json::from_slice::<&RawValue>(text) {
                    Ok(_) => ErrorCode::InvalidRequest,
                    Err(_) => ErrorCode::ParseError,
                };
                return Some(MethodResponse::error(id, ErrorObjectOwned::from(code)).into_json());
            }
        };
        let Request {
            id, method, params, ..
        } = request;
        let params = Params::new(params.as_ref().map(|params| params.get()));
        let most = usize::try_from(self.limits.response_bytes).unwrap_or(usize::MAX);
        let extensions = http::Extensions::new();
        let response = match self.methods.method(&method) {
            None => {
                let unknown = ErrorObjectOwned::from(ErrorCode::MethodNotFound);
                MethodResponse::error(id, unknown)
            }
            Some(MethodCallback::Sync(call)) => call(id, params, most, extensions),
            Some(MethodCallback::Async(call)) => {
                let (id, params) = (id.into_owned(), params.into_owned());
                call(id, params, self.id, most, extensions).await
            }
            Some(MethodCallback::Unsubscription(call)) => {
                call(id, params, self.id, most, extensions)
            }
            Some(MethodCallback::Subscription(call)) => {
                let Some(subscription_permit) = self.subscriptions.acquire() else {
                    let refusal = reject_too_many_subscriptions(self.limits.subscriptions);
                    return Some(MethodResponse::error(id, refusal).into_json());
                };
                let state = SubscriptionState {
                    conn_id: self.id,
                    id_provider: &HexIds,
                    subscription_permit,
                };
                let sink = MethodSink::new_with_limit(answers.clone(), self.limits.response_bytes);
                let response = call(id, params, sink, state, extensions).await;
                // The answer went through the sink, before anything that is told.
                done(response);
                return None;
            }
        };
        Some(done(response))
    }
}

/// Lets whoever waits for it know that the answer is on its way.
fn done(response: MethodResponse) -> Box<RawValue> {
    let success = response.is_success();
    let (json, waiting, _) = response.into_parts();
    if let Some(waiting) = waiting {
        waiting.notify(success);
    }
    json
}

fn refusal(unreadable: Unreadable) -> ErrorObjectOwned {
    match unreadable {
        Unreadable::NotJson => ErrorCode::ParseError.into(),
        Unreadable::TooLong { max } => reject_too_big_request(max),
    }
}

async fn write(mut writer: OwnedWriteHalf, mut queue: mpsc::Receiver<Box<RawValue>>) {
    while let Some(answer) = queue.recv().await {
        let mut line = String::from(Box::<str>::from(answer));
        line.push('\n');
        if writer.write_all(line.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Answers and notifications that wait for a reader; whoever is told more waits, as over WebSocket.
const ANSWERS_AHEAD: usize = 1_024;

const READ_BYTES: usize = 64 << 10;

const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// How long the last answers may take to be written to a connection that asks nothing more.
const LAST_WORDS: std::time::Duration = std::time::Duration::from_secs(1);
