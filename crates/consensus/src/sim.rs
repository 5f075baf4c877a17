//! Seeded simulation: a whole consortium with its network, disks and clock on one thread. The same
//! seed gives the same run, so whatever fails can be replayed.
//!
//! It runs the engine exactly as [`crate::start`] does; only the runtime and the network differ.
//! Applications must not use a clock, threads or randomness of their own here.

mod beside;
mod conflict;
mod twins;

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
    time::Duration,
};

use commonware_cryptography::ed25519::PublicKey;
use commonware_glue::simulate::{
    action::{Action, Crash, Schedule},
    engine::{ChannelPair, EngineDefinition, InitContext},
    exit::ProcessedHeightAtLeast,
    plan::PlanBuilder,
    processed::ProcessedHeight,
    reporter::MonitorReporter,
    tracker::FinalizationUpdate,
};
use commonware_p2p::simulated::{Control, Link, Manager, Receiver, SplitForwarder, SplitSender};
use commonware_runtime::{
    Clock as _, Handle, Quota, Spawner as _, Supervisor as _, deterministic::Context,
};
use commonware_utils::{
    NZU32, Probability,
    channel::mpsc::{self, UnboundedSender},
};
use futures::StreamExt as _;
use stele_core::certificate::{ValidatorKey, ValidatorSet, namespace};
use tokio::sync::{Mutex, watch};
use zeroize::Zeroizing;

use crate::{
    Application, Committed, Error, SignerSeed, Timing,
    certificate::engine_key,
    engine::{self, CHANNELS, Identity, Links, Outlets, Running, message_bytes_max},
    fault::Faults,
    follow::{self, Step},
    gossip::Gossip,
    node::panic_text,
    schedule::Schedule as Epochs,
};

pub use beside::Beside;

use beside::{Aside, Nothing};
use twins::Half;

/// One simulated run. [`Simulation::new`] gives a good network and no crashes.
#[derive(Clone, Debug)]
pub struct Simulation {
    /// Validators, 1 to 50.
    pub validators: u8,
    /// Decides every delay, loss and crash.
    pub seed: u64,
    /// Mean delay of a message in milliseconds.
    pub latency_ms: u64,
    /// Standard deviation of the delay in milliseconds.
    pub jitter_ms: u64,
    /// Messages lost of a thousand.
    pub loss_permille: u64,
    /// Who crashes when.
    pub crashes: Crashes,
    /// The run ends when every validator that is up, and no twin, has committed this many blocks.
    pub blocks: u64,
    /// The run fails after this much simulated time.
    pub timeout: Duration,
    /// Waiting times of the validators.
    pub timing: Timing,
    /// Validators (positions in the order of [`Simulation::validator_keys`]) that contradict themselves: they sign every
    /// proposal and another one. They take their blocks from [`Application::fetch`].
    pub conflicting: Vec<usize>,
    /// Validators that run two engines with one key, each of which hears one side of the network: two proposals for a
    /// view, and votes for both. The application of the second engine is started as number `validators` + its position.
    pub twins: Vec<usize>,
    /// Validators that the others go on without. Nobody waits for them, whether they are up or not.
    pub abandoned: Vec<usize>,
}

/// Who crashes when. A crashed validator loses everything but what it wrote.
#[derive(Clone, Debug)]
pub enum Crashes {
    /// Nobody.
    None,
    /// Some validator, again and again.
    Random {
        /// Time between two crashes.
        every: Duration,
        /// Time it stays down.
        down: Duration,
    },
    /// As listed: when, which validator (position in the order of [`Simulation::validator_keys`]),
    /// what.
    Schedule(Vec<(Duration, usize, Event)>),
}

/// What happens to a validator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It is killed.
    Crash,
    /// It comes back with what it had written.
    Restart,
    /// The network splits: validators whose bit is set hear each other, and so do the others, but no message passes
    /// between the two sides. The event's own validator does not matter.
    Split(u64),
    /// All messages pass again, with the loss that the simulation has. The event's own validator does not matter.
    Heal,
}

/// What a run did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Hash over everything that happened, in order. Equal traces are equal runs.
    pub trace: String,
    /// Crashes that happened.
    pub crashes: u64,
}

impl Simulation {
    /// Ten milliseconds of delay, nothing lost, nobody crashes, twenty blocks.
    pub const fn new(validators: u8, seed: u64) -> Self {
        Self {
            validators,
            seed,
            latency_ms: 10,
            jitter_ms: 3,
            loss_permille: 0,
            crashes: Crashes::None,
            blocks: 20,
            timeout: Duration::from_secs(600),
            timing: Timing::members(),
            conflicting: Vec::new(),
            twins: Vec::new(),
            abandoned: Vec::new(),
        }
    }

    /// The validators' keys, in the order in which `start` of [`Self::run`] counts them.
    pub fn validator_keys(&self) -> Vec<ValidatorKey> {
        (0..self.validators)
            .map(|index| signer(index).public_key())
            .collect()
    }

    /// The same as a set, for verifying certificates.
    ///
    /// # Errors
    /// None for 1 to 50 validators.
    pub fn validator_set(&self) -> Result<ValidatorSet, Error> {
        Ok(ValidatorSet::new(self.validator_keys())?)
    }

    fn link(&self) -> Option<Link> {
        Some(Link {
            latency: Duration::from_millis(self.latency_ms),
            jitter: Duration::from_millis(self.jitter_ms),
            success_rate: Probability::new(1000_u64.checked_sub(self.loss_permille)?, 1000)?,
        })
    }

    /// Runs it. `start` makes the application of a validator at its start and at every restart,
    /// so whatever is to survive a crash must live outside the application. Who of [`Self::validator_keys`] validates
    /// is for the applications to say; one without a seat takes its blocks from [`Application::fetch`].
    ///
    /// # Errors
    /// A text that says which property failed, which validator stopped, or that time ran out; the
    /// seed is in it.
    pub fn run<A: Application>(
        &self,
        start: impl Fn(usize) -> A + Clone + Send + Sync + 'static,
    ) -> Result<Outcome, String> {
        self.run_with(None, move |index| (start(index), Nothing))
    }

    /// As [`Self::run`], with what each validator does beside agreeing, woken once every `pause`.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_beside<A: Application, B: Beside>(
        &self,
        pause: Duration,
        start: impl Fn(usize) -> (A, B) + Clone + Send + Sync + 'static,
    ) -> Result<Outcome, String> {
        self.run_with(Some(pause), start)
    }

    fn run_with<A: Application, B: Beside>(
        &self,
        pause: Option<Duration>,
        start: impl Fn(usize) -> (A, B) + Clone + Send + Sync + 'static,
    ) -> Result<Outcome, String> {
        let in_this_run = |what: &dyn std::fmt::Display| format!("seed {}: {what}", self.seed);
        let consortium = Consortium {
            keys: self.validator_keys(),
            timing: self.timing,
            conflicting: self.conflicting.clone(),
            twins: self.twins.clone(),
            abandoned: self.abandoned.clone(),
            pause,
            start,
        };
        let participants = consortium.participants();
        let link = self
            .link()
            .ok_or_else(|| in_this_run(&"loss_permille is above 1000"))?;
        let mut plan = PlanBuilder::new(consortium)
            .seed(self.seed)
            .link(link.clone())
            .exit_condition(ProcessedHeightAtLeast::new(self.blocks))
            .timeout(self.timeout);
        if let Some(crash) = self.crashes.plan(&participants, &link) {
            plan = plan.crash(crash);
        }
        // A validator that stops and the simulator's own timeout end the run by unwinding.
        let results = catch_unwind(AssertUnwindSafe(|| plan.run()))
            .unwrap_or_else(|panic| Err(panic_text(panic.as_ref())))
            .map_err(|error| in_this_run(&error))?;
        let result = results
            .into_iter()
            .next()
            .ok_or_else(|| in_this_run(&"it did not run"))?;
        Ok(Outcome {
            trace: result.state,
            crashes: result.crashes,
        })
    }
}

impl Crashes {
    fn plan(&self, participants: &[PublicKey], link: &Link) -> Option<Crash<PublicKey>> {
        match self {
            Self::None => None,
            Self::Random { every, down } => Some(Crash::Random {
                frequency: *every,
                downtime: *down,
                count: 1,
            }),
            Self::Schedule(events) => {
                let mut schedule = Schedule::new();
                for (at, validator, event) in events {
                    let key = participants.get(*validator)?.clone();
                    let actions = match event {
                        Event::Crash => vec![Action::Crash(key)],
                        Event::Restart => vec![Action::Restart(key)],
                        Event::Split(side) => cuts(participants, *side, link),
                        Event::Heal => vec![Action::Heal(link.clone())],
                    };
                    for action in actions {
                        schedule = schedule.at(*at, action);
                    }
                }
                Some(Crash::Schedule(schedule))
            }
        }
    }
}

/// Links between the two sides of a split, both ways, on which nothing arrives.
fn cuts(participants: &[PublicKey], side: u64, link: &Link) -> Vec<Action<PublicKey>> {
    let is_here = |position: usize| {
        u32::try_from(position).is_ok_and(|bit| side.checked_shr(bit).unwrap_or(0) & 1 == 1)
    };
    let cut = Link {
        success_rate: Probability::new(0, 1).unwrap_or(link.success_rate),
        ..link.clone()
    };
    let mut actions = Vec::new();
    for (from_position, from) in participants.iter().enumerate() {
        for (to_position, to) in participants.iter().enumerate() {
            if is_here(from_position) != is_here(to_position) {
                actions.push(Action::UpdateLink {
                    from: from.clone(),
                    to: to.clone(),
                    link: cut.clone(),
                });
            }
        }
    }
    actions
}

/// The consortium as the simulator wants it described.
#[derive(Clone)]
struct Consortium<F> {
    keys: Vec<ValidatorKey>,
    timing: Timing,
    conflicting: Vec<usize>,
    twins: Vec<usize>,
    abandoned: Vec<usize>,
    /// Between two wakes of what validators do beside; `None` for nothing.
    pause: Option<Duration>,
    start: F,
}

/// A validator about to start.
struct Validator<A, B> {
    context: Context,
    key: PublicKey,
    index: usize,
    timing: Timing,
    is_conflicting: bool,
    application: A,
    /// What its second engine decides with.
    twin: Option<A>,
    /// What it does beside.
    aside: Option<Aside<B>>,
    everyone: Vec<PublicKey>,
    channels: Vec<ChannelPair<PublicKey>>,
    peers: Manager<PublicKey, Context>,
    blocker: Control<PublicKey, Context>,
    monitor: UnboundedSender<FinalizationUpdate<PublicKey>>,
    committed: watch::Sender<Committed>,
}

/// What the simulator may ask a running validator.
struct Progress {
    committed: watch::Receiver<Committed>,
    /// The others stop listening to one that contradicts itself, or go on without one: nobody waits for it.
    is_awaited: bool,
}

impl ProcessedHeight for Progress {
    async fn processed_height(&self) -> u64 {
        if self.is_awaited {
            self.committed.borrow().height
        } else {
            u64::MAX
        }
    }
}

impl<A, B, F> EngineDefinition for Consortium<F>
where
    A: Application,
    B: Beside,
    F: Fn(usize) -> (A, B) + Clone + Send + Sync + 'static,
{
    type PublicKey = PublicKey;
    type Engine = Validator<A, B>;
    type State = Progress;

    fn participants(&self) -> Vec<PublicKey> {
        // Made from signing keys, so all of them are valid.
        self.keys
            .iter()
            .filter_map(|key| engine_key(key).ok())
            .collect()
    }

    fn channels(&self) -> Vec<(u64, Quota)> {
        // The last one is for what is said beside.
        let beside = u64::from(self.pause.is_some());
        (0..CHANNELS.saturating_add(beside))
            .map(|channel| (channel, Quota::per_second(NZU32!(1024))))
            .collect()
    }

    fn max_message_size(&self) -> u32 {
        message_bytes_max(u32::try_from(self.keys.len()).unwrap_or(u32::MAX))
    }

    async fn init(&self, init: InitContext<'_, PublicKey>) -> (Validator<A, B>, Progress) {
        let (application, doing) = (self.start)(init.index);
        let mut channels = init.channels;
        let aside = self.pause.and_then(|pause| {
            Some(Aside {
                pause,
                doing,
                everyone: self.participants(),
                channel: channels.pop()?,
            })
        });
        let has_twin = self.twins.contains(&init.index);
        let twin = has_twin.then(|| (self.start)(self.keys.len().saturating_add(init.index)).0);
        let (committed, watched) = watch::channel(application.committed());
        let progress = Progress {
            committed: watched,
            is_awaited: !has_twin && !self.abandoned.contains(&init.index),
        };
        let validator = Validator {
            twin,
            aside,
            everyone: self.participants(),
            key: init.public_key.clone(),
            index: init.index,
            timing: self.timing,
            is_conflicting: self.conflicting.contains(&init.index),
            application,
            channels,
            peers: init.oracle.manager(),
            blocker: init.oracle.control(init.public_key.clone()),
            monitor: init.monitor,
            committed,
            context: init.context,
        };
        (validator, progress)
    }

    fn start(validator: Validator<A, B>) -> Handle<()> {
        // Everything runs below this task, so that a crash takes all of it at once.
        validator
            .context
            .child("node")
            .spawn(move |context| validator.run(context))
    }
}

impl<A: Application, B: Beside> Validator<A, B> {
    async fn run(self, context: Context) {
        if let Err(error) = self.live(context).await {
            resume_unwind(Box::new(format!("a validator stopped: {error:?}")));
        }
    }

    async fn live(self, mut context: Context) -> Result<(), Error> {
        let (faults, mut failed) = Faults::new();
        let outlets = Outlets {
            committed: self.committed,
            busy: Arc::new(Mutex::new(())),
            faults: faults.clone(),
        };
        let signer = signer(u8::try_from(self.index).unwrap_or(u8::MAX));
        let genesis = self.application.genesis().hash();
        let namespace = namespace(CHAIN_ID, &genesis);
        let schedule = Epochs::new(&self.application, namespace.clone(), vec![signer.clone()])?;
        Aside::start(self.aside, &context);
        let has_twin = self.twin.is_some();
        let [mine, others] = twins::split(&mut context, self.channels, self.everyone, has_twin);
        let follower = Follower {
            application: self.application.clone(),
            schedule: schedule.clone(),
            outlets: outlets.clone(),
        };
        if self.is_conflicting {
            let votes = mine.into_iter().next();
            let votes = votes.ok_or_else(|| Error::Engine("a channel is missing".to_owned()))?;
            let me = signer.public_key();
            let voting = context.child("conflict");
            voting.spawn(move |context| conflict::vote_twice(context, schedule, me, votes));
            return follower.for_ever(&context).await;
        }
        follower.until_seated(&context).await?;
        let seat = Seated {
            key: self.key,
            signer: signer.clone(),
            timing: self.timing,
            peers: self.peers,
            blocker: self.blocker,
        };
        // The simulated validators share one disk.
        let prefix = format!("validator-{}-", self.index);
        let instance = Instance {
            application: self.application,
            schedule,
            outlets,
            monitor: self.monitor,
            store_prefix: prefix.clone(),
        };
        let mut running = seat.start(context.child("engine"), instance, mine).await?;
        let _twin = match self.twin {
            None => None,
            Some(application) => {
                let instance = Instance {
                    schedule: Epochs::new(&application, namespace, vec![signer])?,
                    outlets: Outlets {
                        committed: watch::channel(application.committed()).0,
                        busy: Arc::new(Mutex::new(())),
                        faults,
                    },
                    // How far the second one is does not count: nobody listens.
                    monitor: mpsc::unbounded_channel().0,
                    store_prefix: format!("{prefix}twin-"),
                    application,
                };
                Some(seat.start(context.child("twin"), instance, others).await?)
            }
        };
        tokio::select! {
            biased;
            Some(error) = failed.recv() => Err(error),
            _ = &mut running.done => follower.for_ever(&context).await,
            _ = running.tasks.next() => Err(Error::Engine("one of its tasks ended".to_owned())),
        }
    }
}

/// What the engines of one key share.
struct Seated {
    key: PublicKey,
    signer: SignerSeed,
    timing: Timing,
    peers: Manager<PublicKey, Context>,
    blocker: Control<PublicKey, Context>,
}

/// What an engine has for itself.
struct Instance<A> {
    application: A,
    schedule: Epochs,
    outlets: Outlets,
    monitor: UnboundedSender<FinalizationUpdate<PublicKey>>,
    store_prefix: String,
}

impl Seated {
    async fn start<A: Application, F: SplitForwarder<PublicKey>>(
        &self,
        context: Context,
        instance: Instance<A>,
        channels: Vec<Half<F>>,
    ) -> Result<Running, Error> {
        let Instance {
            application,
            schedule,
            outlets,
            monitor,
            store_prefix,
        } = instance;
        let links = links(channels, self.peers.clone(), self.blocker.clone())?;
        let identity = Identity {
            signer: self.signer.clone(),
            schedule,
            timing: self.timing,
            blocks_retained: 16_384,
            store_prefix,
        };
        let (_, said) = Gossip::new();
        let observe = |inbox| MonitorReporter::new(self.key.clone(), monitor, inbox);
        engine::start(
            context,
            identity,
            application,
            links,
            outlets,
            said,
            observe,
        )
        .await
    }
}

/// A validator without a seat, which takes its blocks from others. One that loses its seat gets it back only after a
/// crash, for its channels have gone with its engine.
struct Follower<A> {
    application: A,
    schedule: Epochs,
    outlets: Outlets,
}

impl<A: Application> Follower<A> {
    async fn step(&self) -> Result<Step, Error> {
        let Outlets {
            committed, busy, ..
        } = &self.outlets;
        follow::step(&self.application, &self.schedule, committed, busy).await
    }

    async fn until_seated(&self, context: &Context) -> Result<(), Error> {
        loop {
            let has_seat = self.schedule.seat().is_some();
            match self.step().await? {
                Step::Nothing if has_seat => return Ok(()),
                Step::Nothing => context.sleep(follow::PAUSE).await,
                Step::Took => {}
            }
        }
    }

    async fn for_ever(&self, context: &Context) -> Result<(), Error> {
        loop {
            if self.step().await? == Step::Nothing {
                context.sleep(follow::PAUSE).await;
            }
        }
    }
}

type SimulatedLinks<F> = Links<
    SplitSender<PublicKey, Context, F>,
    Receiver<PublicKey>,
    Manager<PublicKey, Context>,
    Control<PublicKey, Context>,
>;

/// The simulated network lets everybody in: that is what it is for.
fn links<F: SplitForwarder<PublicKey>>(
    channels: Vec<Half<F>>,
    peers: Manager<PublicKey, Context>,
    blocker: Control<PublicKey, Context>,
) -> Result<SimulatedLinks<F>, Error> {
    let mut channels = channels.into_iter();
    let mut link = || {
        channels
            .next()
            .ok_or_else(|| Error::Engine("a channel is missing".to_owned()))
    };
    Ok(Links {
        votes: link()?,
        certificates: link()?,
        resolver: link()?,
        backfill: link()?,
        blocks: link()?,
        gossip: link()?,
        notices: link()?,
        peers,
        blocker,
        room: usize::MAX,
        meet: Box::new(|_| {}),
    })
}

fn signer(index: u8) -> SignerSeed {
    SignerSeed::new(Zeroizing::new([index; 32]))
}

/// Chain id of simulated chains.
pub const CHAIN_ID: u64 = 57831;
