//! Runs the engine on a thread and a runtime of its own, beside the rest of the node.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc, thread::JoinHandle, time::Duration};

use bytes::Bytes;
use commonware_cryptography::Signer as _;
use commonware_runtime::{Clock as _, Metrics as _, Runner as _, Supervisor as _, tokio::Context};
use futures::{StreamExt as _, future};
use stele_core::certificate::namespace;
use tokio::sync::{Mutex, mpsc, oneshot, watch};

use crate::{
    Application, Committed, Config, Error, Network,
    engine::{self, Identity, Outlets, Tasks},
    fault::Faults,
    gossip::Gossip,
    network::{solitary, tcp},
};

/// Starts the engine and returns when it runs.
///
/// # Errors
/// A configuration that cannot work, a store that cannot be opened or belongs to a running node,
/// or a ledger older than the engine remembers.
pub async fn start<A: Application>(config: Config, application: A) -> Result<Handle, Error> {
    config.check()?;
    std::fs::create_dir_all(&config.data_dir).map_err(|source| Error::DataDir {
        path: config.data_dir.clone(),
        source,
    })?;
    let (faults, failed) = Faults::new();
    let (committed, committed_out) = watch::channel(application.committed());
    let outlets = Outlets {
        committed,
        busy: Arc::new(Mutex::new(())),
        faults,
    };
    let (stop, stopping) = oneshot::channel();
    let (questions, questions_in) = mpsc::channel(8);
    let (started, starting) = oneshot::channel();
    let (ended, end) = oneshot::channel();
    let (gossip, said) = Gossip::new();
    let inbox = Inbox {
        failed,
        stopping,
        questions: questions_in,
    };
    let thread = std::thread::Builder::new()
        .name("consensus".to_owned())
        .spawn(move || {
            // The engine reports its own defects and corrupt stores by panics.
            let run = AssertUnwindSafe(|| run(config, application, outlets, said, started, inbox));
            let result = std::panic::catch_unwind(run)
                .unwrap_or_else(|panic| Err(Error::Engine(panic_text(panic.as_ref()))));
            // Nobody listens any more if the handle was dropped.
            let _ = ended.send(result);
        })
        .map_err(Error::Thread)?;
    let mut handle = Handle {
        stop: Some(stop),
        end: Some(end),
        thread: Some(thread),
        committed: committed_out,
        questions,
        gossip,
    };
    match starting.await {
        Ok(()) => Ok(handle),
        // The thread ended before it had started the engine, and its result says why.
        Err(_) => match handle.ended().await {
            Ok(()) => Err(Error::Engine("it ended while starting".to_owned())),
            Err(error) => Err(error),
        },
    }
}

/// A running engine. Dropping it asks the engine to stop and does not wait.
#[derive(Debug)]
pub struct Handle {
    stop: Option<oneshot::Sender<()>>,
    end: Option<oneshot::Receiver<Result<(), Error>>>,
    thread: Option<JoinHandle<()>>,
    committed: watch::Receiver<Committed>,
    questions: mpsc::Sender<oneshot::Sender<String>>,
    gossip: Gossip,
}

impl Handle {
    /// The last block that is final and durable here, and every one after it.
    pub fn committed(&self) -> watch::Receiver<Committed> {
        self.committed.clone()
    }

    /// Sends messages to the other validators.
    pub fn gossip(&self) -> Gossip {
        self.gossip.clone()
    }

    /// The engine's metrics in the OpenMetrics text format; empty when it has ended.
    pub async fn metrics(&self) -> String {
        let (answer, text) = oneshot::channel();
        if self.questions.send(answer).await.is_err() {
            return String::new();
        }
        text.await.unwrap_or_default()
    }

    /// Waits until the engine ends: after a shutdown, or by itself after a fatal error, which
    /// must stop the node.
    ///
    /// # Errors
    /// The fatal error, once; asked again, the answer is that the engine ended.
    pub async fn ended(&mut self) -> Result<(), Error> {
        let Some(end) = self.end.as_mut() else {
            return Ok(());
        };
        let result = end
            .await
            .unwrap_or_else(|_| Err(Error::Engine("its thread died".to_owned())));
        self.end = None;
        if let Some(thread) = self.thread.take() {
            // The thread sends its result last, so this does not wait; and it cannot panic.
            let _ = thread.join();
        }
        result
    }

    /// Stops the engine, after the commit it is in the middle of.
    ///
    /// # Errors
    /// A fatal error that came before.
    pub async fn shutdown(mut self) -> Result<(), Error> {
        drop(self.stop.take());
        self.ended().await
    }
}

/// What the running engine listens to.
struct Inbox {
    failed: mpsc::Receiver<Error>,
    /// Closes when the handle asks for a shutdown or is dropped.
    stopping: oneshot::Receiver<()>,
    questions: mpsc::Receiver<oneshot::Sender<String>>,
}

fn run<A: Application>(
    config: Config,
    application: A,
    outlets: Outlets,
    said: mpsc::Receiver<Bytes>,
    started: oneshot::Sender<()>,
    inbox: Inbox,
) -> Result<(), Error> {
    let runtime = commonware_runtime::tokio::Config::new()
        .with_storage_directory(&config.data_dir)
        .with_worker_threads(WORKERS)
        .with_max_blocking_threads(BLOCKING_THREADS_MAX);
    commonware_runtime::tokio::Runner::new(runtime).start(|runtime| async move {
        let tasks = launch(&runtime, config, application, outlets.clone(), said).await?;
        // The handle may have been dropped meanwhile; then `stopping` is closed.
        let _ = started.send(());
        let result = serve(&runtime, tasks, inbox).await;
        // Ending here aborts all tasks. A commit under way may finish first, within reason.
        let patience = runtime.sleep(COMMIT_PATIENCE);
        let _ = future::select(Box::pin(outlets.busy.lock()), Box::pin(patience)).await;
        result
    })
}

async fn launch<A: Application>(
    runtime: &Context,
    config: Config,
    application: A,
    outlets: Outlets,
    said: mpsc::Receiver<Bytes>,
) -> Result<Tasks, Error> {
    let signer = config.signer.private_key();
    let identity = Identity {
        chain_id: config.chain_id,
        signer: config.signer,
        validators: config.validators,
        timing: config.timing,
        blocks_retained: config.blocks_retained,
        store_prefix: String::new(),
    };
    let engine = runtime.child("engine");
    match &config.network {
        Network::Solitary => {
            let links = solitary::links(signer.public_key());
            engine::start(
                engine,
                identity,
                application,
                links,
                outlets,
                said,
                |inbox| inbox,
            )
            .await
        }
        Network::Tcp { listen, peers } => {
            let namespace = namespace(config.chain_id, &application.genesis().hash());
            let network = runtime.child("network");
            let links = tcp::links(network, signer, &namespace, *listen, peers)?;
            engine::start(
                engine,
                identity,
                application,
                links,
                outlets,
                said,
                |inbox| inbox,
            )
            .await
        }
    }
}

/// Until the node stops the engine, or the engine the node.
async fn serve(runtime: &Context, mut tasks: Tasks, mut inbox: Inbox) -> Result<(), Error> {
    loop {
        tokio::select! {
            biased;
            Some(error) = inbox.failed.recv() => return Err(error),
            _ = &mut inbox.stopping => return Ok(()),
            Some(answer) = inbox.questions.recv() => {
                // Whoever asked may have gone.
                let _ = answer.send(runtime.encode());
            }
            Some(end) = tasks.next() => {
                let why = match end {
                    Ok(()) => "one of its tasks ended".to_owned(),
                    Err(error) => error.to_string(),
                };
                return Err(Error::Engine(why));
            }
        }
    }
}

pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
        .unwrap_or_else(|| "for an unknown reason".to_owned())
}

/// Threads that run the engine's tasks: one can wait for the disk while the other votes.
const WORKERS: usize = 2;

/// Threads for file operations, made as needed. The engine has fewer files than this.
const BLOCKING_THREADS_MAX: usize = 64;

/// How long a shutdown waits for a commit under way.
const COMMIT_PATIENCE: Duration = Duration::from_secs(10);
