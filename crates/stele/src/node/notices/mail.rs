//! E-mail, handed to a mail server: the relay of this machine, or one elsewhere over TLS, with a user name where it asks for
//! one (RFC 5321, RFC 3207, RFC 8314). Queues, DKIM and bounces are the server's work.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use lettre::{
    AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor,
    message::{
        Mailbox,
        header::{HeaderName, HeaderValue},
    },
    transport::smtp::{
        authentication::Credentials,
        client::{Certificate, Tls, TlsParameters},
    },
};
use stele_service::ports::{CourierError, Mail};

use super::permanent;
use crate::config::notices::{Encryption, Notices, Server};

/// How long the server may take for all of it.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The server, and in whose name it is written.
pub(super) struct Relay {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    /// As it stands in `From`: `Green Valley <notices@example.org>`.
    from: Mailbox,
}

impl Relay {
    /// From the configuration, with the password and the certificate that it names.
    pub(super) fn new(config: &Notices, server: &Server) -> Result<Self> {
        let from = config.from.clone().unwrap_or_default();
        let from: Mailbox = from.parse().with_context(|| {
            format!(
                "notices.from = {from:?}: must be an address such as \"Green Valley <notices@example.org>\""
            )
        })?;
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&server.host)
            .port(server.port)
            .timeout(Some(TIMEOUT))
            .tls(encryption(config, server)?);
        if let Some(user) = &config.smtp_user {
            let password = config.smtp_password()?;
            builder = builder.credentials(Credentials::new(user.clone(), (*password).clone()));
        }
        Ok(Self {
            transport: builder.build(),
            from,
        })
    }

    /// Hands a message over. What the server has taken is its own to deliver.
    pub(super) async fn send(&self, mail: &Mail) -> Result<(), CourierError> {
        let message = self.message(mail)?;
        match tokio::time::timeout(TIMEOUT, self.transport.send(message)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(refused(&error)),
            Err(_) => Err(later("the mail server does not answer")),
        }
    }

    fn message(&self, mail: &Mail) -> Result<Message, CourierError> {
        let to: Mailbox = mail
            .to
            .parse()
            .map_err(|_| permanent("the address is none"))?;
        let domain = self.from.email.domain();
        Message::builder()
            .from(self.from.clone())
            .to(to)
            .subject(&mail.subject)
            .message_id(Some(format!("<{}@{domain}>", mail.id)))
            // RFC 3834: nobody's absence is to be announced to us.
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ))
            .body(mail.text.clone())
            .map_err(|_| permanent("the message can't be written"))
    }
}

fn encryption(config: &Notices, server: &Server) -> Result<Tls> {
    let parameters = || -> Result<TlsParameters> {
        let mut builder = TlsParameters::builder(server.host.clone());
        if let Some(path) = &config.smtp_ca_file {
            let pem = fs::read(path)
                .with_context(|| format!("notices.smtp_ca_file: reading {}", path.display()))?;
            let certificate = Certificate::from_pem(&pem).with_context(|| {
                format!(
                    "notices.smtp_ca_file: {} holds no certificate in PEM",
                    path.display()
                )
            })?;
            builder = builder.add_root_certificate(certificate);
        }
        builder.build().context("preparing TLS for notices.smtp")
    };
    Ok(match server.encryption {
        Encryption::None => Tls::None,
        Encryption::Starttls => Tls::Required(parameters()?),
        Encryption::Implicit => Tls::Wrapper(parameters()?),
    })
}

/// Why a message was not taken. The server's own words may quote an address, so only its number is passed on.
fn refused(error: &lettre::transport::smtp::Error) -> CourierError {
    if let Some(code) = error.status() {
        return CourierError {
            is_permanent: error.is_permanent(),
            reason: format!("the mail server answered {code}"),
        };
    }
    if error.is_timeout() {
        return later("the mail server does not answer");
    }
    if error.is_tls() {
        return later("no TLS connection to the mail server could be made");
    }
    if error.is_client() {
        return later("the mail server offers no way to sign in, or no TLS");
    }
    later("the mail server can't be reached")
}

fn later(reason: &str) -> CourierError {
    CourierError {
        is_permanent: false,
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relay() -> Relay {
        let config: Notices =
            toml::from_str("smtp = \"127.0.0.1:9\"\nfrom = \"Green Valley <notices@example.org>\"")
                .expect("parses");
        let server = config.server().expect("good").expect("one");
        Relay::new(&config, &server).expect("a relay")
    }

    fn mail(to: &str, subject: &str) -> Mail {
        Mail {
            id: "1".into(),
            to: to.into(),
            subject: subject.into(),
            text: "Eins\n.\nRSET\n".into(),
        }
    }

    #[test]
    fn a_message_says_who_writes_to_whom_in_any_language() {
        let message = relay()
            .message(&mail("a@example.org", "Ihre Akte wurde geöffnet"))
            .expect("a message");
        let text = String::from_utf8(message.formatted()).expect("text");
        for line in [
            "From: \"Green Valley\" <notices@example.org>\r\n",
            "To: a@example.org\r\n",
            "Message-ID: <1@example.org>\r\n",
            "Auto-Submitted: auto-generated\r\n",
            "Subject: Ihre Akte wurde =?utf-8?b?",
        ] {
            assert!(text.contains(line), "{line:?} in {text}");
        }
        assert!(text.is_ascii());
    }

    #[tokio::test]
    async fn no_header_can_be_added() {
        let sent = mail("a@example.org\r\nBcc: b@example.org", "Hello");
        let error = relay().send(&sent).await.expect_err("refused");
        assert!(error.is_permanent);
        let text = relay()
            .message(&mail("a@example.org", "Hello\r\nBcc: b@example.org"))
            .map(|message| String::from_utf8_lossy(&message.formatted()).into_owned())
            .unwrap_or_default();
        assert!(!text.contains("\r\nBcc:"), "{text}");
    }
}
