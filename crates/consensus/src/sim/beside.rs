//! What a simulated validator does beside agreeing: messages of its own over the same network, at the same simulated
//! time, cut off and crashing with it.

use std::time::Duration;

use commonware_cryptography::ed25519::PublicKey;
use commonware_glue::simulate::engine::ChannelPair;
use commonware_p2p::{Receiver as _, Recipients, Sender as _};
use commonware_runtime::{Clock as _, Spawner as _, Supervisor as _, deterministic::Context};

use crate::adapter::unix_ms;

/// Messages to send: to which validator, what.
type Said = Vec<(usize, Vec<u8>)>;

/// What a validator does beside agreeing. Made anew at each start, as the application is. Times are milliseconds since the
/// Unix epoch by the simulated clock; validators are named by their position in the order of
/// [`super::Simulation::validator_keys`]. No clock, threads or randomness of its own.
pub trait Beside: Send + 'static {
    /// Called again and again. Gives messages to send: to whom, what.
    fn wake(&mut self, now_ms: u64) -> Vec<(usize, Vec<u8>)>;

    /// Takes a message of another validator. Gives messages to send.
    fn hear(&mut self, from: usize, message: &[u8], now_ms: u64) -> Vec<(usize, Vec<u8>)>;
}

/// Does nothing.
pub(super) struct Nothing;

impl Beside for Nothing {
    fn wake(&mut self, _: u64) -> Said {
        Vec::new()
    }

    fn hear(&mut self, _: usize, _: &[u8], _: u64) -> Said {
        Vec::new()
    }
}

/// It, with its channel.
pub(super) struct Aside<B> {
    pub(super) pause: Duration,
    pub(super) doing: B,
    pub(super) everyone: Vec<PublicKey>,
    pub(super) channel: ChannelPair<PublicKey>,
}

impl<B: Beside> Aside<B> {
    /// Begins it, where there is something to do.
    pub(super) fn start(aside: Option<Self>, context: &Context) {
        if let Some(aside) = aside {
            let talking = context.child("beside");
            talking.spawn(move |context| aside.run(context));
        }
    }

    /// Until the validator ends.
    async fn run(self, context: Context) {
        let Self {
            pause,
            mut doing,
            everyone,
            channel: (mut sender, mut receiver),
        } = self;
        let mut next = context.current();
        loop {
            let said = tokio::select! {
                biased;
                heard = receiver.recv() => {
                    let Ok((from, message)) = heard else { return };
                    let Some(from) = everyone.iter().position(|key| *key == from) else {
                        continue;
                    };
                    let message: Vec<u8> = message.into();
                    doing.hear(from, &message, unix_ms(&context))
                }
                () = context.sleep_until(next) => {
                    let now = context.current();
                    next = now.checked_add(pause).unwrap_or(now);
                    doing.wake(unix_ms(&context))
                }
            };
            for (to, message) in said {
                if let Some(key) = everyone.get(to) {
                    sender.send(Recipients::One(key.clone()), message, false);
                }
            }
        }
    }
}
