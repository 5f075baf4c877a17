//! The way a fatal error takes from any of the engine's tasks to the one that stops the node.

use std::future::pending;

use tokio::sync::mpsc;

use crate::Error;

/// Reports fatal errors. The first one stops the node; later ones are echoes of it.
#[derive(Clone)]
pub(crate) struct Faults(mpsc::Sender<Error>);

impl Faults {
    /// The sender, and the receiver for whoever stops the node.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Error>) {
        let (sender, receiver) = mpsc::channel(1);
        (Self(sender), receiver)
    }

    /// Reports and never returns, so that nothing is voted or acknowledged after a fatal error.
    pub(crate) async fn raise<T>(&self, error: Error) -> T {
        // A full mailbox already holds the error that stops the node.
        let _ = self.0.try_send(error);
        pending().await
    }
}
