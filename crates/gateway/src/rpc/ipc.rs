//! JSON-RPC over a Unix socket, as go-ethereum's IPC: JSON values one after the other, in both directions. Whoever may
//! open the file may call: it belongs to the node's user alone, so there are neither tokens nor origins.

mod frames;

use std::{
    io,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use jsonrpsee::{ConnectionId, Methods, types::error::ErrorCode};
use serde_json::value::RawValue;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream, unix::OwnedWriteHalf},
    sync::{Semaphore, mpsc},
};

use self::frames::{Frames, Unreadable};
use super::{
    RpcConfig,
    conversation::{ANSWERS_AHEAD, Conversation, Limits, error},
};

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
    let limits = Limits::new(config);
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
            hold(Conversation::new(methods, limits, id), limits, stream).await;
            drop(place);
        });
    }
}

/// Answers until the other side is done, or says what cannot be read.
async fn hold(conversation: Conversation, limits: Limits, stream: UnixStream) {
    let (mut reader, writer) = stream.into_split();
    let (answers, queue) = mpsc::channel(ANSWERS_AHEAD);
    let mut writing = tokio::spawn(write(writer, queue));
    let mut frames = Frames::new(limits.request_bytes);
    let mut bytes = vec![0; READ_BYTES];
    'read: while let Ok(read @ 1..) = reader.read(&mut bytes).await {
        for byte in bytes.iter().take(read) {
            let message = match frames.push(*byte) {
                Ok(None) => continue,
                Ok(Some(message)) => message,
                Err(unreadable) => {
                    // Where the next message would begin is not known.
                    let refusal = match unreadable {
                        Unreadable::NotJson => error(ErrorCode::ParseError.into()),
                        Unreadable::TooLong => limits.too_long(),
                    };
                    drop(answers.send(refusal).await);
                    break 'read;
                }
            };
            if let Some(answer) = conversation.answer(&message, &answers).await
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

async fn write(mut writer: OwnedWriteHalf, mut queue: mpsc::Receiver<Box<RawValue>>) {
    while let Some(answer) = queue.recv().await {
        let mut line = String::from(Box::<str>::from(answer));
        line.push('\n');
        if writer.write_all(line.as_bytes()).await.is_err() {
            return;
        }
    }
}

const READ_BYTES: usize = 64 << 10;

const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// How long the last answers may take to be written to a connection that asks nothing more.
const LAST_WORDS: std::time::Duration = std::time::Duration::from_secs(1);
