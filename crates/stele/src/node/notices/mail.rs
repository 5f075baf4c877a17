//! E-mail, handed to the mail relay of this machine (RFC 5321, plain, no sign-in). Queues, TLS to the world, DKIM and
//! bounces are the relay's work: Postfix, OpenSMTPD and the like do that well.

use std::{net::SocketAddr, time::Duration};

use stele_core::time::{Clock as _, SystemClock};
use stele_service::ports::{CourierError, Mail};
use time::format_description::well_known::Rfc2822;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream},
    net::TcpStream,
};

use super::permanent;

/// How long the relay may take for all of it.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Longest reply that is read, in bytes; RFC 5321, 4.5.3.1.5 allows 512 a line.
const REPLY_MAX: u64 = 16 * 1024;

/// The relay, and in whose name it is written.
pub(super) struct Relay {
    pub(super) address: SocketAddr,
    /// As it stands in `From`: `Green Valley <notices@example.org>`, ASCII.
    pub(super) from: String,
}

impl Relay {
    /// Hands a message over. What the relay has taken is its own to deliver.
    pub(super) async fn send(&self, mail: &Mail) -> Result<(), CourierError> {
        let is_plain =
            |text: &str| text.is_ascii() && !text.bytes().any(|byte| byte.is_ascii_control());
        if !is_plain(&mail.to) || !is_plain(&mail.subject) {
            return Err(permanent("the address or the subject is not plain ASCII"));
        }
        match tokio::time::timeout(TIMEOUT, self.talk(mail)).await {
            Ok(done) => done,
            Err(_) => Err(later("the mail relay does not answer".into())),
        }
    }

    async fn talk(&self, mail: &Mail) -> Result<(), CourierError> {
        let stream = TcpStream::connect(self.address)
            .await
            .map_err(|_| later("the mail relay can't be reached".into()))?;
        let mut stream = BufStream::new(stream);
        expect(&mut stream, 220).await?;
        let from = mailbox(&self.from);
        let domain = from.rsplit('@').next().unwrap_or("localhost");
        for (line, code) in [
            (format!("EHLO {domain}"), 250),
            (format!("MAIL FROM:<{from}>"), 250),
            (format!("RCPT TO:<{}>", mail.to), 250),
            ("DATA".to_owned(), 354),
        ] {
            say(&mut stream, &line).await?;
            expect(&mut stream, code).await?;
        }
        say(&mut stream, &self.message(mail, domain)).await?;
        expect(&mut stream, 250).await?;
        // It is the relay's from here on, whatever becomes of the farewell.
        drop(say(&mut stream, "QUIT").await);
        Ok(())
    }

    /// The message with its end mark's dot: headers (RFC 5322), text, dots at line beginnings doubled (RFC 5321, 4.5.2).
    fn message(&self, mail: &Mail, domain: &str) -> String {
        let date = SystemClock.now().to_utc().format(&Rfc2822);
        let mut text = format!(
            "From: {}\r\nTo: <{}>\r\nSubject: {}\r\nDate: {}\r\nMessage-ID: <{}@{domain}>\r\nAuto-Submitted: auto-generated\r\n\
             MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n",
            self.from,
            mail.to,
            mail.subject,
            date.unwrap_or_default(),
            mail.id,
        );
        for line in mail.text.lines() {
            if line.starts_with('.') {
                text.push('.');
            }
            text.push_str(line);
            text.push_str("\r\n");
        }
        text.push('.');
        text
    }
}

/// The address of `Name <address>`, or all of it.
pub(super) fn mailbox(from: &str) -> &str {
    from.rsplit_once('<')
        .map_or(from, |(_, rest)| rest.trim_end_matches('>'))
        .trim()
}

async fn say(stream: &mut BufStream<TcpStream>, line: &str) -> Result<(), CourierError> {
    let broken = |_| later("the mail relay hung up".into());
    stream.write_all(line.as_bytes()).await.map_err(broken)?;
    stream.write_all(b"\r\n").await.map_err(broken)?;
    stream.flush().await.map_err(broken)
}

/// Reads a reply, of one line or several. Its text may quote an address, so only its number is passed on.
async fn expect(stream: &mut BufStream<TcpStream>, code: u16) -> Result<(), CourierError> {
    let mut limited = stream.take(REPLY_MAX);
    loop {
        let mut line = String::new();
        let read = limited.read_line(&mut line).await;
        if !read.is_ok_and(|length| length > 0) {
            return Err(later("the mail relay hung up".into()));
        }
        let number: u16 = line
            .get(..3)
            .and_then(|digits| digits.parse().ok())
            .unwrap_or(0);
        if line.as_bytes().get(3) == Some(&b'-') {
            continue;
        }
        if number == code {
            return Ok(());
        }
        return Err(CourierError {
            is_permanent: (500..600).contains(&number),
            reason: format!("the mail relay answered {number}"),
        });
    }
}

fn later(reason: String) -> CourierError {
    CourierError {
        is_permanent: false,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_ends_where_it_ends() {
        let relay = Relay {
            address: SocketAddr::from(([127, 0, 0, 1], 25)),
            from: "Green Valley <notices@example.org>".into(),
        };
        let mail = Mail {
            id: "1".into(),
            to: "a@example.org".into(),
            subject: "Hello".into(),
            text: "One\n.\nRSET\n".into(),
        };
        let message = relay.message(&mail, "example.org");
        assert!(message.ends_with("\r\n\r\nOne\r\n..\r\nRSET\r\n."));
        assert!(message.contains("Message-ID: <1@example.org>\r\n"));
        assert_eq!(mailbox(&relay.from), "notices@example.org");
        assert_eq!(mailbox("a@b.example"), "a@b.example");
    }

    #[tokio::test]
    async fn no_header_can_be_added() {
        let relay = Relay {
            address: SocketAddr::from(([127, 0, 0, 1], 9)),
            from: "a@b.example".into(),
        };
        let mail = Mail {
            id: "1".into(),
            to: "a@example.org\r\nBcc: b@example.org".into(),
            subject: "Hello".into(),
            text: String::new(),
        };
        let error = relay.send(&mail).await.expect_err("refused");
        assert!(error.is_permanent);
    }
}
