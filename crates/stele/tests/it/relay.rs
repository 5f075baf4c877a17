//! A way from one member to another that is slow, or cut: a TCP relay. `bench/` uses it, too.
//!
//! Kernels without `netem` have no other way to delay what passes between processes of one machine. A cut relay holds
//! what arrives, as a network does that drops packets: connections stay, and what was held arrives when it is mended.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep_until},
};

/// Parts of a connection's bytes that may be under way at once.
const UNDER_WAY: usize = 4096;
/// Bytes taken from a socket at once.
const PART_BYTES: usize = 64 * 1024;

/// Listens on a port of its own and passes everything on, until it is dropped.
pub(crate) struct Relay {
    address: SocketAddr,
    is_open: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Relay {
    /// Passes on to `to`; every byte takes `delay`, in both directions.
    pub(crate) async fn new(to: SocketAddr, delay: Duration) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (is_open, open) = watch::channel(true);
        let accepting = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(pass(near, to, delay, open.clone()));
            }
        });
        Ok(Self {
            address,
            is_open,
            accepting,
        })
    }

    /// Where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Nothing passes until it is opened again.
    pub(crate) fn set_open(&self, open: bool) {
        self.is_open.send_replace(open);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Both directions of a connection. Whatever ends one of them ends both.
async fn pass(near: TcpStream, to: SocketAddr, delay: Duration, open: watch::Receiver<bool>) {
    let Ok(far) = TcpStream::connect(to).await else {
        return;
    };
    // Small messages would wait for each other otherwise.
    if near.set_nodelay(true).and(far.set_nodelay(true)).is_err() {
        return;
    }
    let (near_in, near_out) = near.into_split();
    let (far_in, far_out) = far.into_split();
    tokio::select! {
        _ = carry(near_in, far_out, delay, open.clone()) => {}
        _ = carry(far_in, near_out, delay, open) => {}
    }
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    delay: Duration,
    mut open: watch::Receiver<bool>,
) -> io::Result<()> {
    let (sender, mut due) = mpsc::channel(UNDER_WAY);
    let reading = async move {
        let mut part = vec![0_u8; PART_BYTES];
        loop {
            let count = from.read(&mut part).await?;
            if open.wait_for(|open| *open).await.is_err() || count == 0 {
                return Ok(());
            }
            let bytes = part.get(..count).unwrap_or_default().to_vec();
            if sender.send((Instant::now() + delay, bytes)).await.is_err() {
                return Ok(());
            }
        }
    };
    let writing = async move {
        while let Some((at, bytes)) = due.recv().await {
            sleep_until(at).await;
            to.write_all(&bytes).await?;
        }
        to.shutdown().await
    };
    tokio::try_join!(reading, writing).map(drop)
}
