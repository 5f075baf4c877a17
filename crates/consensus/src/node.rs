//! Runs the engine on a thread and a runtime of its own, beside the rest of the node.

use std::{
    any::Any, panic::AssertUnwindSafe, path::Path, sync::Arc, thread::JoinHandle, time::Duration,
};

use commonware_cryptography::Signer as _;
use commonware_runtime::{Clock as _, Metrics as _, Runner as _, Supervisor as _, tokio::Context};
use futures::{StreamExt as _, future};
use stele_core::certificate::namespace;
use tokio::sync::{Mutex, mpsc, oneshot, watch};

use crate::{
    Application, Committed, Config, Error, Network, Run,
    engine::{self, Identity, Outlets, Running},
    fault::Faults,
    follow::{self, Step},
    gossip::{Gossip, Said},
    network::{solitary, tcp},
    schedule::Schedule,
    shared::Shared,
};

/// Starts the engine and returns when it runs.
///
/// # Errors
/// A configuration that cannot work, a store that cannot be opened or belongs to a running node,
/// or a ledger older than the engine remembers.
pub async fn start<A: Application>(config: Config, application: A) -> Result<Handle, Error> {
    start_shared(config, Shared::new(application)).await
}

async fn start_shared(config: Config, application: Shared) -> Result<Handle, Error> {
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
        started: Some(started),
    };
    let thread = std::thread::Builder::new()
        .name("consensus".to_owned())
        .spawn(move || {
            // The engine reports its own defects and corrupt stores by panics.
            let run = AssertUnwindSafe(|| run(config, application, outlets, said, inbox));
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

/// Height of the last final block in the engine's store of a folder whose node is stopped; 0 for none. The ledger may not
/// have that block yet. Blocks until the store was read.
///
/// # Errors
/// A store that can't be read.
pub fn stored_height(data_dir: &Path) -> Result<u64, Error> {
    if !data_dir.exists() {
        return Ok(0);
    }
    let runtime = commonware_runtime::tokio::Config::new().with_storage_directory(data_dir);
    let read = move || {
        let runner = commonware_runtime::tokio::Runner::new(runtime);
        let read = || runner.start(|runtime| async move { engine::stored_height(&runtime).await });
        // The engine reports corrupt stores by panics.
        std::panic::catch_unwind(AssertUnwindSafe(read))
            .unwrap_or_else(|panic| Err(Error::Engine(panic_text(panic.as_ref()))))
    };
    // A runtime of its own must not begin on a thread of another.
    let thread = std::thread::Builder::new().spawn(read);
    let read = thread.map_err(Error::Thread)?.join();
    read.unwrap_or_else(|panic| Err(Error::Engine(panic_text(panic.as_ref()))))
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

/// Reads the engine's metrics, from any thread, as long as it runs.
#[derive(Clone, Debug)]
pub struct Meter(mpsc::Sender<oneshot::Sender<String>>);

impl Meter {
    /// The engine's metrics in the OpenMetrics text format, with the names that its crates give them; empty when it
    /// has ended.
    pub async fn read(&self) -> String {
        let (answer, text) = oneshot::channel();
        if self.0.send(answer).await.is_err() {
            return String::new();
        }
        text.await.unwrap_or_default()
    }
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

    /// Asks the engine for its metrics.
    pub fn meter(&self) -> Meter {
        Meter(self.questions.clone())
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
    /// Told once when the node runs: votes, or takes blocks from others.
    started: Option<oneshot::Sender<()>>,
}

impl Inbox {
    fn has_started(&mut self) {
        if let Some(started) = self.started.take() {
            // The handle may have been dropped meanwhile; then `stopping` is closed.
            let _ = started.send(());
        }
    }
}

/// Why a runtime ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The node stops.
    Stopped,
    /// The engine begins anew, from what the ledger has then.
    Again,
}

/// What every runtime of a node works on.
struct Life {
    config: Config,
    application: Shared,
    outlets: Outlets,
    schedule: Schedule,
    namespace: Vec<u8>,
    said: Said,
}

fn run(
    config: Config,
    application: Shared,
    outlets: Outlets,
    said: Said,
    mut inbox: Inbox,
) -> Result<(), Error> {
    let genesis = application.genesis().hash();
    let namespace = namespace(config.chain_id, &genesis);
    let schedule = Schedule::new(&application, namespace.clone(), config.signers.clone())?;
    let life = Life {
        config,
        application,
        outlets,
        schedule,
        namespace,
        said,
    };
    loop {
        let runtime = commonware_runtime::tokio::Config::new()
            .with_storage_directory(&life.config.data_dir)
            .with_worker_threads(WORKERS)
            .with_max_blocking_threads(BLOCKING_THREADS_MAX);
        let runner = commonware_runtime::tokio::Runner::new(runtime);
        let (life, inbox) = (&life, &mut inbox);
        let end = runner.start(|runtime| async move { life.live(&runtime, inbox).await })?;
        if end == End::Stopped {
            return Ok(());
        }
    }
}

impl Life {
    /// One runtime's time: takes blocks from others until there is a seat, then agrees.
    async fn live(&self, runtime: &Context, inbox: &mut Inbox) -> Result<End, Error> {
        if self.follow(runtime, inbox).await? == End::Stopped {
            return Ok(End::Stopped);
        }
        let running = self.launch(runtime).await?;
        inbox.has_started();
        let result = self.serve(runtime, running, inbox).await;
        // Ending here aborts all tasks. A commit under way may finish first, within reason.
        let patience = runtime.sleep(COMMIT_PATIENCE);
        let _ = future::select(Box::pin(self.outlets.busy.lock()), Box::pin(patience)).await;
        result
    }

    /// Takes what others have, and goes on with it while this validator has no seat.
    async fn follow(&self, runtime: &Context, inbox: &mut Inbox) -> Result<End, Error> {
        loop {
            let next = self.outlets.committed.borrow().height.saturating_add(1);
            let fetched = tokio::select! {
                biased;
                _ = &mut inbox.stopping => return Ok(End::Stopped),
                Some(answer) = inbox.questions.recv() => {
                    // Whoever asked may have gone.
                    let _ = answer.send(runtime.encode());
                    continue;
                }
                fetched = self.application.fetch(next) => fetched,
            };
            self.leap()?;
            if follow::recover(&self.application, &self.schedule).await? {
                inbox.has_started();
                continue;
            }
            let has_seat = self.schedule.seat().is_some();
            let took = match fetched {
                Some(run) => self.take(run).await?,
                None => Step::Nothing,
            };
            match took {
                Step::Took => inbox.has_started(),
                Step::Nothing if has_seat => return Ok(End::Again),
                Step::Nothing => {
                    inbox.has_started();
                    tokio::select! {
                        _ = &mut inbox.stopping => return Ok(End::Stopped),
                        () = runtime.sleep(follow::PAUSE) => {}
                    }
                }
            }
        }
    }

    /// Goes on from where the application is, if it went ahead by itself.
    fn leap(&self) -> Result<(), Error> {
        let now = self.application.committed();
        if now.height > self.outlets.committed.borrow().height {
            tracing::info!(height = now.height, "the ledger went ahead by itself");
            self.schedule.leapt(&self.application)?;
            self.outlets.committed.send_replace(now);
        }
        Ok(())
    }

    async fn take(&self, run: Run) -> Result<Step, Error> {
        let Outlets {
            committed, busy, ..
        } = &self.outlets;
        follow::take(&self.application, &self.schedule, committed, busy, run).await
    }

    async fn launch(&self, runtime: &Context) -> Result<Running, Error> {
        let Some(seat) = self.schedule.seat() else {
            return Err(Error::Engine("it has no seat".to_owned()));
        };
        let signer = seat.signer.private_key();
        let validators = seat.epoch.validators().len();
        let identity = Identity {
            signer: seat.signer,
            schedule: self.schedule.clone(),
            timing: self.config.timing,
            blocks_retained: self.config.blocks_retained,
            store_prefix: String::new(),
        };
        let engine = runtime.child("engine");
        let (application, outlets, said) = (
            self.application.clone(),
            self.outlets.clone(),
            Arc::clone(&self.said),
        );
        match &self.config.network {
            Network::Solitary if validators > 1 => Err(Error::Config {
                key: "network",
                problem: "several validators need addresses to talk to each other".to_owned(),
            }),
            Network::Solitary => {
                let links = solitary::links(signer.public_key());
                let observe = |inbox| inbox;
                engine::start(engine, identity, application, links, outlets, said, observe).await
            }
            Network::Tcp { listen, peers } => {
                let network = runtime.child("network");
                let links = tcp::links(
                    network,
                    signer,
                    &self.namespace,
                    *listen,
                    peers.clone(),
                    validators,
                )?;
                let observe = |inbox| inbox;
                engine::start(engine, identity, application, links, outlets, said, observe).await
            }
        }
    }

    /// Until the node stops the engine, or the engine the node.
    async fn serve(
        &self,
        runtime: &Context,
        mut running: Running,
        inbox: &mut Inbox,
    ) -> Result<End, Error> {
        let mut behind = Box::pin(self.falls_behind(runtime));
        loop {
            tokio::select! {
                biased;
                Some(error) = inbox.failed.recv() => return Err(error),
                _ = &mut inbox.stopping => return Ok(End::Stopped),
                Some(answer) = inbox.questions.recv() => {
                    // Whoever asked may have gone.
                    let _ = answer.send(runtime.encode());
                }
                _ = &mut running.done => return Ok(End::Again),
                () = &mut behind => {
                    tracing::warn!("the other members are further than the engine goes back");
                    return Ok(End::Again);
                }
                Some(end) = running.tasks.next() => {
                    let why = match end {
                        Ok(()) => "one of its tasks ended".to_owned(),
                        Err(error) => error.to_string(),
                    };
                    return Err(Error::Engine(why));
                }
            }
        }
    }

    /// Resolves when nothing has been committed for long and another member has more: the engine of the others no
    /// longer has what this one lacks, or they have given its seat to somebody else while it was away.
    async fn falls_behind(&self, runtime: &Context) {
        let mut committed = self.outlets.committed.subscribe();
        loop {
            let height = committed.borrow_and_update().height;
            runtime.sleep(PATIENCE).await;
            if committed.borrow().height != height {
                continue;
            }
            let fetched = self.application.fetch(height.saturating_add(1)).await;
            let is_ahead = fetched.is_some() || self.application.recovery().is_some();
            if is_ahead && committed.borrow().height == height {
                return;
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

/// How long nothing may be committed before other members are asked for what they have.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a shutdown waits for a commit under way.
const COMMIT_PATIENCE: Duration = Duration::from_secs(10);
