//! HL7 v2 over MLLP: a listener that keeps each message and then acknowledges it.
//!
//! Decides nothing about content: which organisation a sender acts for comes from the configuration, whether a message
//! can be taken from `stele-service`. MLLP has neither encryption nor sign-in, so the listener belongs on loopback or
//! behind a tunnel; it opens nowhere else unless it is told to. Log lines name senders, types and sizes, no content.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use stele_core::{id::OrganizationId, time::Timestamp};
use stele_fhir::hl7v2::{
    AckMode, ErrorCode, Header, Location, Problem, Value, ack,
    frame::{Event, Framer, wrap},
    peek,
};
use stele_service::{
    Service,
    outbox::{Acceptance, Incoming},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinHandle,
};

/// Where the listener opens, whom it trusts, and its limits.
#[derive(Clone, Debug)]
pub struct MllpConfig {
    /// Where it listens; port 0 picks a free one.
    pub addr: SocketAddr,
    /// Whether it may listen off loopback.
    pub allow_remote: bool,
    /// Senders and the organisations they act for. Empty: every sender acts for the node's own.
    pub sources: Vec<Source>,
    /// Largest message in bytes.
    pub max_message_bytes: usize,
    /// Connections at the same time.
    pub max_connections: usize,
    /// How long a connection may say nothing.
    pub idle_timeout: Duration,
    /// Offset of times that name none, where the message names none either.
    pub offset: String,
    /// Whether senders that ask for no answer (MSH-15 and MSH-16 `NE`) get none. Most that say so wait for one.
    pub silence: bool,
}

/// A sender that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// MSH-4: the facility's name, or its universal id.
    pub facility: String,
    /// MSH-3, where the facility has several applications that act for different organisations.
    pub application: Option<String>,
    /// Whom its messages are written for.
    pub organization: OrganizationId,
}

impl MllpConfig {
    /// A listener at an address with limits that hold documents of 12 MiB in Base64.
    #[must_use]
    pub fn new(addr: SocketAddr) -> Self {
        Self {
            addr,
            allow_remote: false,
            sources: Vec::new(),
            max_message_bytes: 16 << 20,
            max_connections: 64,
            idle_timeout: Duration::from_secs(300),
            offset: "Z".into(),
            silence: false,
        }
    }
}

/// A running listener.
#[derive(Debug)]
pub struct MllpHandle {
    addr: SocketAddr,
    stop: watch::Sender<bool>,
    listening: JoinHandle<()>,
}

impl MllpHandle {
    /// Where it listens.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Takes no more connections or messages; those under way are answered.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if self.listening.await.is_err() {
            tracing::warn!("mllp: the listener broke off");
        }
    }
}

/// Starts the listener.
///
/// # Errors
/// The address is not loopback and that was not allowed, or it can't be had.
pub async fn serve(service: Arc<Service>, config: MllpConfig) -> io::Result<MllpHandle> {
    if !config.addr.ip().is_loopback() && !config.allow_remote {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "MLLP has no encryption: {} is not loopback; put a TLS tunnel in front, or set mllp.allow_remote",
                config.addr
            ),
        ));
    }
    let listener = TcpListener::bind(config.addr).await?;
    let addr = listener.local_addr()?;
    let (stop, stopped) = watch::channel(false);
    let front = Arc::new(Front { service, config });
    let listening = tokio::spawn(listen(front, listener, stopped));
    Ok(MllpHandle {
        addr,
        stop,
        listening,
    })
}

struct Front {
    service: Arc<Service>,
    config: MllpConfig,
}

async fn listen(front: Arc<Front>, listener: TcpListener, mut stopped: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(front.config.max_connections));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.wait_for(|stop| *stop) => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, peer)) => match Arc::clone(&places).try_acquire_owned() {
                Ok(place) => {
                    let connection = Connection::new(Arc::clone(&front), peer, place);
                    connections.spawn(connection.run(stream, stopped.clone()));
                }
                Err(_) => tracing::warn!(%peer, "mllp.refused: too many connections"),
            },
            Err(error) => {
                // Too many open files, mostly: others may close some.
                tracing::warn!(%error, "mllp.accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    while connections.join_next().await.is_some() {}
}

struct Connection {
    front: Arc<Front>,
    peer: SocketAddr,
    answers: u64,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    const fn new(front: Arc<Front>, peer: SocketAddr, place: OwnedSemaphorePermit) -> Self {
        Self {
            front,
            peer,
            answers: 0,
            _place: place,
        }
    }

    async fn run(mut self, mut stream: TcpStream, mut stopped: watch::Receiver<bool>) {
        let peer = self.peer;
        tracing::debug!(%peer, "mllp.connected");
        if let Err(error) = self.converse(&mut stream, &mut stopped).await {
            tracing::info!(%peer, %error, "mllp.broke");
        }
    }

    /// Reads, keeps, answers, one message after the other.
    async fn converse(
        &mut self,
        stream: &mut TcpStream,
        stopped: &mut watch::Receiver<bool>,
    ) -> io::Result<()> {
        let mut framer = Framer::new(self.front.config.max_message_bytes);
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let read = tokio::select! {
                read = stream.read(&mut buffer) => read?,
                () = tokio::time::sleep(self.front.config.idle_timeout) => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "it said nothing for too long"));
                }
                _ = stopped.wait_for(|stop| *stop) => return Ok(()),
            };
            if read == 0 {
                framer.finish();
            } else {
                framer.push(buffer.get(..read).unwrap_or_default());
            }
            while let Some(event) = framer.next_event() {
                if let Some(answer) = self.answer(event).await {
                    let frame = wrap(answer.as_bytes());
                    let sending = stream.write_all(&frame);
                    tokio::time::timeout(self.front.config.idle_timeout, sending).await??;
                }
            }
            if read == 0 {
                return Ok(());
            }
        }
    }

    /// What is said to something that came; nothing to what is no message.
    async fn answer(&mut self, event: Event) -> Option<String> {
        match event {
            // Some senders keep a line open with empty frames.
            Event::Message(bytes) if bytes.trim_ascii().is_empty() => None,
            Event::Message(bytes) => self.message(bytes).await,
            Event::Oversized { head } => {
                let limit = self.front.config.max_message_bytes;
                let problem = Problem::error(
                    ErrorCode::Internal,
                    format!("the message is larger than {limit} bytes"),
                );
                self.reply(peek(&head).as_ref(), &[problem], limit)
            }
            Event::Truncated { bytes } => {
                tracing::warn!(peer = %self.peer, bytes, "mllp.truncated: a message broke off; it was not taken");
                None
            }
            Event::Garbage { bytes } => {
                tracing::warn!(peer = %self.peer, bytes, "mllp.garbage: bytes outside a frame were skipped");
                None
            }
        }
    }

    async fn message(&mut self, bytes: Vec<u8>) -> Option<String> {
        let size = bytes.len();
        let header = peek(&bytes);
        let organization = match self.front.organization_of(header.as_ref()) {
            Ok(organization) => organization,
            Err(problem) => return self.reply(header.as_ref(), &[problem], size),
        };
        let incoming = Incoming {
            bytes,
            organization,
            offset: self.front.config.offset.clone(),
        };
        let service = Arc::clone(&self.front.service);
        let kept = tokio::task::spawn_blocking(move || service.accept_message(&incoming)).await;
        let Acceptance {
            header,
            problems,
            is_duplicate,
        } = kept.unwrap_or_else(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "mllp.broke");
            Acceptance {
                header,
                problems: vec![Problem::error(
                    ErrorCode::Internal,
                    "internal failure; send the message again later",
                )],
                is_duplicate: false,
            }
        });
        if is_duplicate {
            tracing::info!(peer = %self.peer, "mllp.again: the message was taken before");
        }
        self.reply(header.as_ref(), &problems, size)
    }

    /// The acknowledgement, and one line in the log.
    fn reply(
        &mut self,
        header: Option<&Header>,
        problems: &[Problem],
        size: usize,
    ) -> Option<String> {
        let refusal = problems.iter().find(|problem| problem.is_error());
        let mode = header.map_or(AckMode::Original, |header| {
            header.ack_mode(refusal.is_some())
        });
        let mode = match mode {
            AckMode::Silent if !self.front.config.silence => AckMode::Commit,
            mode => mode,
        };
        let code = ack::Code::of(mode, problems);
        let (sender, kind) = header
            .map(|header| (header.sender(), header.kind()))
            .unwrap_or_default();
        let wire = code.map_or("-", ack::Code::wire);
        match refusal {
            Some(why) => {
                tracing::warn!(peer = %self.peer, sender, kind, size, code = wire, %why, "mllp.refused");
            }
            None => {
                tracing::info!(peer = %self.peer, sender, kind, size, code = wire, "mllp.taken")
            }
        }
        self.answers = self.answers.wrapping_add(1);
        let now = self.front.service.now();
        let control_id = format!("{:x}{:x}", now.0, self.answers);
        Some(ack::write(
            header,
            code?,
            problems,
            &control_id,
            &hl7_time(now),
        ))
    }
}

impl Front {
    /// Whom a sender acts for.
    ///
    /// # Errors
    /// It is not among those that are known.
    fn organization_of(&self, header: Option<&Header>) -> Result<OrganizationId, Problem> {
        let sources = &self.config.sources;
        let Some(header) = header else {
            // Not readable: the service says why, and nothing is kept.
            return Ok(self.service.organization());
        };
        if sources.is_empty() {
            return Ok(self.service.organization());
        }
        let named = |value: &Value, name: &str| {
            [1, 2]
                .into_iter()
                .any(|part| value.text(part).is_some_and(|text| text == name))
        };
        let matching = |source: &&Source| {
            named(&header.sending_facility, &source.facility)
                && source
                    .application
                    .as_ref()
                    .is_none_or(|name| named(&header.sending_application, name))
        };
        // One that names the application goes before one that does not.
        sources
            .iter()
            .filter(matching)
            .max_by_key(|source| source.application.is_some())
            .map(|source| source.organization)
            .ok_or_else(|| {
                Problem::error(
                    ErrorCode::UnknownKey,
                    "the sending facility is not known here; the operator lists it under mllp.sources",
                )
                .at(Location::field("MSH", 4))
            })
    }
}

/// DTM to the second, in UTC.
fn hl7_time(now: Timestamp) -> String {
    let utc = now.to_utc();
    format!(
        "{:04}{:02}{:02}{:02}{:02}{:02}+0000",
        utc.year(),
        u8::from(utc.month()),
        utc.day(),
        utc.hour(),
        utc.minute(),
        utc.second()
    )
}

/// Read at once.
const READ_BYTES: usize = 64 << 10;
