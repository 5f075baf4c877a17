//! Wires the engine's actors together, on any of its runtimes and networks.

use std::{
    num::{NonZeroU64, NonZeroUsize},
    sync::Arc,
    time::Duration,
};

use commonware_broadcast::buffered;
use commonware_consensus::{
    CertifiableAutomaton, Epochable as _, Relay, Reporter,
    marshal::{
        self, Update,
        core::Actor as MarshalActor,
        resolver::p2p as marshal_resolver,
        standard::{Inline, Standard},
        store::Blocks,
    },
    simplex::{
        self, Floor, ForwardPolicy, SkipBudget, SkipPolicy,
        elector::RoundRobin,
        scheme::ed25519::Scheme,
        types::{Activity, Context, Finalization},
    },
    types::{Epoch as EngineEpoch, Height, ViewDelta},
};
use commonware_cryptography::{
    Digested, Digestible as _, Sha256, Signer as _, certificate::Verifier as _, ed25519::PublicKey,
};
use commonware_p2p::{Blocker, Provider, Receiver, Sender, utils::mux::prefixed};
use commonware_parallel::Sequential;
use commonware_runtime::{Clock, Handle, Metrics, Spawner, Storage, buffer::paged::CacheRef};
use commonware_storage::{archive::prunable, translator::TwoCap};
use commonware_utils::{NZDuration, NZU16, NZU64, NZUsize};
use futures::stream::FuturesUnordered;
use rand_core::CryptoRng;
use stele_core::{block::Block, epoch::Epoch};
use tokio::sync::{Mutex, oneshot, watch};

use crate::{
    Application, Committed, Error, SignerSeed, Timing,
    adapter::Adapter,
    block::{Digest, EngineBlock},
    certificate::{engine_set, to_finalization},
    commit::{Committer, Inbox, Marshal},
    fault::Faults,
    gossip::{self, GOSSIP_BYTES_MAX, Said},
    schedule::{Schedule, Seat},
    turns::{self, EpochLinks, NOTICE_BYTES, Split, Turns},
};

/// What a validator is and how it behaves; the part of [`crate::Config`] that knows no machine.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) signer: SignerSeed,
    pub(crate) schedule: Schedule,
    pub(crate) timing: Timing,
    pub(crate) blocks_retained: u64,
    /// Begins the names of all its stores, for validators that share a disk.
    pub(crate) store_prefix: String,
}

/// The channels between validators, and who may use them.
pub(crate) struct Links<S, R, P, B> {
    pub(crate) votes: (S, R),
    pub(crate) certificates: (S, R),
    pub(crate) resolver: (S, R),
    pub(crate) backfill: (S, R),
    pub(crate) blocks: (S, R),
    pub(crate) gossip: (S, R),
    pub(crate) notices: (S, R),
    pub(crate) peers: P,
    pub(crate) blocker: B,
    /// Validators that can meet on these channels.
    pub(crate) room: usize,
    pub(crate) meet: Meet,
}

/// Lets in the validators of an epoch, and nobody else.
pub(crate) type Meet = Box<dyn FnMut(&Epoch) + Send>;

/// Channels of [`Links`].
#[cfg(feature = "testkit")]
pub(crate) const CHANNELS: u64 = 7;

/// Largest message on any channel among `validators`. The network panics above its bound.
pub(crate) fn message_bytes_max(validators: u32) -> u32 {
    commonware_p2p::max_message_size(&[
        prefixed(simplex::max_payload_size::<Scheme, Digest>(validators)),
        marshal::max_payload_size::<Standard<EngineBlock>, Scheme>(validators, &()),
        GOSSIP_BYTES_MAX,
        NOTICE_BYTES,
    ])
}

/// Where the tasks of a running engine report to.
#[derive(Clone)]
pub(crate) struct Outlets {
    pub(crate) committed: watch::Sender<Committed>,
    /// Held while the application commits.
    pub(crate) busy: Arc<Mutex<()>>,
    pub(crate) faults: Faults,
}

/// The tasks of a running engine. They end with the runtime context they were started in, or if
/// the engine stops by itself.
pub(crate) type Tasks = FuturesUnordered<Handle<()>>;

/// A running engine.
pub(crate) struct Running {
    pub(crate) tasks: Tasks,
    /// Answers when this engine can't go on in the next epoch and does nothing more: this validator has no seat in it,
    /// it has another key there, or there are more validators than there is room for.
    pub(crate) done: oneshot::Receiver<()>,
}

/// Opens the stores and starts all actors, for a validator that has a seat. `observe` may wrap the inbox of final
/// blocks.
pub(crate) async fn start<E, A, S, R, P, B, O>(
    runtime: E,
    identity: Identity,
    application: A,
    links: Links<S, R, P, B>,
    outlets: Outlets,
    said: Said,
    observe: impl FnOnce(Inbox) -> O + Send,
) -> Result<Running, Error>
where
    E: Clock + Spawner + Metrics + Storage + CryptoRng + Sync,
    A: Application,
    S: Sender<PublicKey = PublicKey>,
    R: Receiver<PublicKey = PublicKey>,
    P: Provider<PublicKey = PublicKey> + Clone,
    B: Blocker<PublicKey = PublicKey>,
    O: Reporter<Activity = Update<EngineBlock>>,
{
    let genesis = genesis(application.genesis())?;
    let schedule = identity.schedule.clone();
    let prefix = identity.store_prefix.clone();
    let me = identity.signer.private_key().public_key();
    let ledger_height = outlets.committed.borrow().height;
    let adapter = Adapter::new(application.clone(), &identity, &outlets);
    let (inbox, committer) = Committer::new(
        application.clone(),
        outlets,
        schedule.clone(),
        identity.blocks_retained,
    );
    let resolver = marshal_resolver::init(
        runtime.child("marshal_resolver"),
        backfill_config(&me, &links.peers, &links.blocker),
        links.backfill,
    );
    let (broadcast, buffer) = buffered::Engine::new(
        runtime.child("broadcast"),
        broadcast_config(me, links.peers),
    );
    let pages = CacheRef::new(NZU16!(4096), NZUsize!(256));
    let (actor, marshal, floor) =
        open(&runtime, &prefix, &pages, genesis, &application, &schedule).await?;
    let inline = Inline::new(
        runtime.child("inline"),
        adapter,
        marshal.clone(),
        schedule.clone(),
    );

    let tasks = talk(&runtime, links.gossip, said, application);
    tasks.push(broadcast.start(links.blocks));
    tasks.push(actor.start(observe(inbox), buffer, resolver));
    refuse_older_ledger(&marshal, ledger_height).await?;
    let commit = runtime.child("commit");
    let delivery = marshal.clone();
    tasks.push(commit.spawn(|_| committer.run(delivery)));
    let split = Split::start(
        &runtime.child("epochs"),
        links.votes,
        links.certificates,
        links.resolver,
    );
    let (done, is_done) = oneshot::channel();
    let begin = agreements(
        runtime.child("agreements"),
        prefix,
        identity.timing,
        links.blocker,
        inline,
        pages,
    );
    let turns = Turns {
        schedule,
        marshal,
        split,
        notices: links.notices,
        key: identity.signer.public_key(),
        room: links.room,
        meet: links.meet,
        begin,
        done,
    };
    tasks.push(runtime.child("turns").spawn(|_| turns.run(floor)));
    Ok(Running {
        tasks,
        done: is_done,
    })
}

/// Begins to pass on what applications say to each other.
fn talk<E, A, S, R>(runtime: &E, gossip: (S, R), said: Said, application: A) -> Tasks
where
    E: Spawner + Metrics,
    A: Application,
    S: Sender<PublicKey = PublicKey>,
    R: Receiver<PublicKey = PublicKey>,
{
    let tasks = Tasks::new();
    let (speaker, listener) = gossip;
    let speak = runtime.child("speak");
    tasks.push(speak.spawn(|_| gossip::speak(said, speaker)));
    let listen = runtime.child("listen");
    tasks.push(listen.spawn(|_| gossip::listen(application, listener)));
    tasks
}

/// What the engine's protocol asks about blocks.
type Inlined<E, A> = Inline<E, Scheme, Adapter<A>, EngineBlock, Schedule>;

/// Starts the agreement of an epoch.
fn agreements<E, A, S, B>(
    runtime: E,
    prefix: String,
    timing: Timing,
    blocker: B,
    inline: Inlined<E, A>,
    pages: CacheRef,
) -> impl FnMut(Seat, Floor<Scheme, Digest>, EpochLinks<S>) -> Handle<()> + Send
where
    E: Clock + Spawner + Metrics + Storage + CryptoRng + Sync,
    A: Application,
    S: Sender<PublicKey = PublicKey>,
    B: Blocker<PublicKey = PublicKey>,
{
    move |seat, floor, links| {
        let number = seat.epoch.number();
        let config = simplex_config(
            format!("{prefix}votes-{number}"),
            seat,
            floor,
            timing,
            blocker.clone(),
            inline.clone(),
            pages.clone(),
        );
        let context = runtime.child("simplex").with_attribute("epoch", number);
        let engine = simplex::Engine::new(context, config);
        engine.start(links.votes, links.certificates, links.resolver)
    }
}

/// Delivery of final blocks, with its archives of certificates and blocks.
type Delivery<E> = MarshalActor<
    E,
    Standard<EngineBlock>,
    Schedule,
    prunable::Archive<TwoCap, E, Digest, Finalization<Scheme, Digest>>,
    BlockArchive<E>,
    Schedule,
    Sequential,
>;

type BlockArchive<E> = prunable::Archive<TwoCap, E, Digest, Arc<EngineBlock>>;

/// Where this start begins: at genesis, or at the ledger's last block if the engine's store does
/// not reach it. What the store remembers beyond that takes precedence.
enum Origin {
    Genesis(EngineBlock),
    Checkpoint(Finalization<Scheme, Digest>),
}

impl Origin {
    /// Where the agreement of the newest epoch stands: on the checkpoint, if that is of this epoch.
    fn floor(&self, schedule: &Schedule) -> Floor<Scheme, Digest> {
        let newest = schedule.seat().map(|seat| seat.epoch);
        match (self, newest) {
            (Self::Checkpoint(finalization), Some(newest))
                if finalization.epoch() != EngineEpoch::new(newest.number()) =>
            {
                turns::base(&newest)
            }
            (Self::Checkpoint(finalization), _) => Floor::Finalized(finalization.clone()),
            (Self::Genesis(_), Some(newest)) => turns::base(&newest),
            (Self::Genesis(block), None) => Floor::Genesis(block.digest()),
        }
    }

    fn start(self) -> marshal::Start<Scheme, Digest, Digested<EngineBlock>> {
        match self {
            Self::Genesis(block) => {
                let digest = block.digest();
                marshal::Start::Genesis(Digested::precomputed(block, digest))
            }
            Self::Checkpoint(finalization) => marshal::Start::Floor(finalization),
        }
    }
}

/// Opens the delivery of final blocks, and says where the agreement of the newest epoch stands.
async fn open<E, A>(
    runtime: &E,
    prefix: &str,
    pages: &CacheRef,
    genesis: EngineBlock,
    application: &A,
    schedule: &Schedule,
) -> Result<(Delivery<E>, Marshal, Floor<Scheme, Digest>), Error>
where
    E: Clock + Spawner + Metrics + Storage + CryptoRng,
    A: Application,
{
    let opened = open_blocks(runtime, prefix, pages, genesis, application, schedule);
    let (blocks, origin) = opened.await?;
    let floor = origin.floor(schedule);
    let opened = open_delivery(runtime, prefix, schedule, blocks, origin, pages);
    let (actor, marshal) = opened.await?;
    Ok((actor, marshal, floor))
}

/// Opens the archive of final blocks. Every block is in it before the ledger gets it, so a ledger
/// that is ahead of it means that the engine's store was lost or replaced.
async fn open_blocks<E, A>(
    runtime: &E,
    prefix: &str,
    pages: &CacheRef,
    genesis: EngineBlock,
    application: &A,
    schedule: &Schedule,
) -> Result<(BlockArchive<E>, Origin), Error>
where
    E: Clock + Spawner + Metrics + Storage + CryptoRng,
    A: Application,
{
    let config = archive_config(prefix, "blocks", pages, ());
    let blocks = BlockArchive::<E>::init(runtime.child("blocks"), config);
    let blocks = blocks.await.map_err(store_error("blocks"))?;
    let ledger = application.committed().height;
    if ledger <= blocks.last_index().map_or(0, Height::get) {
        return Ok((blocks, Origin::Genesis(genesis)));
    }
    let (block, certificate) = application
        .checkpoint()
        .filter(|(block, certificate)| {
            block.header.number == ledger && certificate.block == block.hash()
        })
        .ok_or(Error::NoCheckpoint { ledger })?;
    let validators = schedule
        .set(certificate.epoch)
        .ok_or(Error::NoCheckpoint { ledger })?;
    let finalization = to_finalization(&certificate, &engine_set(&validators)?)
        .ok_or(Error::NoCheckpoint { ledger })?;
    let block = Arc::new(EngineBlock::new(block));
    let blocks = Blocks::put(blocks, block.digest(), &block);
    let blocks = Blocks::sync(blocks.await.map_err(store_error("blocks"))?);
    let blocks = blocks.await.map_err(store_error("blocks"))?;
    tracing::warn!(
        height = ledger,
        "the consensus store begins anew from the ledger"
    );
    Ok((blocks, Origin::Checkpoint(finalization)))
}

/// Height of the last block in the archive of final blocks; 0 for none.
pub(crate) async fn stored_height<E>(runtime: &E) -> Result<u64, Error>
where
    E: Clock + Spawner + Metrics + Storage + CryptoRng,
{
    let pages = CacheRef::new(NZU16!(4096), NZUsize!(256));
    let config = archive_config("", "blocks", &pages, ());
    let blocks = BlockArchive::<E>::init(runtime.child("blocks"), config);
    let blocks = blocks.await.map_err(store_error("blocks"))?;
    Ok(blocks.last_index().map_or(0, Height::get))
}

fn store_error<T: std::error::Error + Send + Sync + 'static>(
    store: &'static str,
) -> impl FnOnce(T) -> Error {
    move |source| Error::Store {
        store,
        source: Box::new(source),
    }
}

async fn open_delivery<E>(
    runtime: &E,
    prefix: &str,
    schedule: &Schedule,
    blocks: BlockArchive<E>,
    origin: Origin,
    pages: &CacheRef,
) -> Result<(Delivery<E>, Marshal), Error>
where
    E: Clock + Spawner + Metrics + Storage + CryptoRng,
{
    // Epochs have different numbers of validators.
    let codec_config = Scheme::certificate_codec_config_unbounded();
    let certificates = prunable::Archive::init(
        runtime.child("certificates"),
        archive_config(prefix, "certificates", pages, codec_config),
    );
    let certificates = certificates.await.map_err(store_error("certificates"))?;
    let config = marshal::Config {
        provider: schedule.clone(),
        epocher: schedule.clone(),
        start: origin.start(),
        partition_prefix: format!("{prefix}delivery"),
        mailbox_size: MAILBOX,
        view_retention: VIEWS_RETAINED,
        prunable_items_per_section: ITEMS_PER_SECTION,
        page_cache: pages.clone(),
        replay_buffer: BUFFER_BYTES,
        key_write_buffer: BUFFER_BYTES,
        value_write_buffer: BUFFER_BYTES,
        block_codec_config: (),
        max_repair: NZUsize!(16),
        max_pending_acks: NZUsize!(16),
        strategy: Sequential,
    };
    let (actor, mailbox, _) =
        MarshalActor::init(runtime.child("delivery"), certificates, blocks, config).await;
    Ok((actor, mailbox))
}

/// A ledger older than what it once acknowledged would miss blocks that the engine no longer
/// delivers.
async fn refuse_older_ledger(marshal: &Marshal, ledger: u64) -> Result<(), Error> {
    let processed = marshal
        .get_processed()
        .await
        .map_or(0, |processed| processed.height().get());
    if ledger < processed {
        Err(Error::LedgerBehind { ledger, processed })
    } else {
        Ok(())
    }
}

/// The engine stores genesis like any block, so it must be one that can be read again.
pub(crate) fn genesis(block: Block) -> Result<EngineBlock, Error> {
    let problem = match Block::decode(&block.encode()) {
        Ok(_) if block.header.number == 0 => return Ok(EngineBlock::new(block)),
        Ok(_) => "its height is not 0".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(Error::Config {
        key: "genesis",
        problem,
    })
}

fn backfill_config<P, B>(
    me: &PublicKey,
    peers: &P,
    blocker: &B,
) -> marshal_resolver::Config<PublicKey, P, B>
where
    P: Provider<PublicKey = PublicKey>,
    B: Blocker<PublicKey = PublicKey>,
{
    marshal_resolver::Config {
        public_key: me.clone(),
        peer_provider: peers.clone(),
        blocker: blocker.clone(),
        mailbox_size: MAILBOX,
        fetch_timeout: NZDuration!(FETCH_TIMEOUT),
        fetch_retry_delay: FETCH_RETRY,
        priority_requests: false,
        priority_responses: false,
    }
}

const fn broadcast_config<P>(
    me: PublicKey,
    peers: P,
) -> buffered::Config<PublicKey, (), P, Sequential>
where
    P: Provider<PublicKey = PublicKey>,
{
    buffered::Config {
        public_key: me,
        mailbox_size: MAILBOX,
        deque_size: 16,
        priority: false,
        codec_config: (),
        peer_provider: peers,
        strategy: Sequential,
    }
}

fn archive_config<C>(
    prefix: &str,
    name: &str,
    pages: &CacheRef,
    codec_config: C,
) -> prunable::Config<TwoCap, C> {
    prunable::Config {
        translator: TwoCap,
        metadata_partition: format!("{prefix}{name}-meta"),
        key_partition: format!("{prefix}{name}-key"),
        key_page_cache: pages.clone(),
        value_partition: format!("{prefix}{name}-value"),
        compression: None,
        codec_config,
        items_per_section: ITEMS_PER_SECTION,
        key_write_buffer: BUFFER_BYTES,
        value_write_buffer: BUFFER_BYTES,
        replay_buffer: BUFFER_BYTES,
    }
}

type SimplexConfig<B, A> =
    simplex::Config<Scheme, RoundRobin<Sha256>, B, Digest, A, A, A, Sequential>;

fn simplex_config<B, A>(
    partition: String,
    seat: Seat,
    floor: Floor<Scheme, Digest>,
    timing: Timing,
    blocker: B,
    inline: A,
    page_cache: CacheRef,
) -> SimplexConfig<B, A>
where
    B: Blocker<PublicKey = PublicKey>,
    A: CertifiableAutomaton<Digest = Digest, Context = Context<Digest, PublicKey>>
        + Relay<Digest = Digest>
        + Reporter<Activity = Activity<Scheme, Digest>>,
{
    simplex::Config {
        scheme: seat.scheme,
        elector: RoundRobin::default(),
        blocker,
        automaton: inline.clone(),
        relay: inline.clone(),
        reporter: inline,
        strategy: Sequential,
        // One partition per epoch: votes of one epoch mean nothing in another.
        partition,
        mailbox_size: MAILBOX,
        epoch: EngineEpoch::new(seat.epoch.number()),
        floor,
        replay_buffer: BUFFER_BYTES,
        write_buffer: BUFFER_BYTES,
        page_cache,
        leader_timeout: timing.leader_timeout,
        certification_timeout: timing.leader_timeout.saturating_mul(2),
        timeout_retry: timing.leader_timeout,
        view_retention: VIEWS_RETAINED,
        skip: SkipPolicy::Enabled {
            timeout: timing.leader_timeout.saturating_mul(5),
            budget: SkipBudget::Participants,
        },
        fetch_timeout: NZDuration!(FETCH_TIMEOUT),
        fetch_retry_delay: FETCH_RETRY,
        forward: ForwardPolicy::SilentVoters,
        track_historical_votes: false,
    }
}

/// Messages that an actor's mailbox takes before it sheds load. The engine's tests use as many.
const MAILBOX: NonZeroUsize = NZUsize!(1024);

/// Items in one file of a store. Part of the format on disk: it can never change.
const ITEMS_PER_SECTION: NonZeroU64 = NZU64!(256);

/// Buffers of the stores. There are about ten of them, and blocks larger than one pass through.
const BUFFER_BYTES: NonZeroUsize = NZUsize!(256 * 1024);

/// Views whose votes are kept for validators that lag a little.
const VIEWS_RETAINED: ViewDelta = ViewDelta::new(64);

/// How long one peer may take to answer a request before another is asked.
const FETCH_TIMEOUT: Duration = Duration::from_secs(2);

/// Pause before the same thing is asked for again.
const FETCH_RETRY: Duration = Duration::from_millis(200);
