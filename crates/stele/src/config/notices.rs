//! How notices leave the node: through a mail server, and the organisation's own channel. Secrets come from files or the
//! environment.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Where the secret of the webhook may stand instead of in a file.
const SECRET: &str = "STELE_WEBHOOK_SECRET";
/// Where the password for the mail server may stand instead of in a file.
const PASSWORD: &str = "STELE_SMTP_PASSWORD";
/// The port on which mail servers speak TLS from the first byte (RFC 8314).
const SUBMISSIONS: u16 = 465;
/// Shortest secret of a webhook, in bytes.
const SECRET_MIN: usize = 16;

/// Notices beside the portal's own pages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Notices {
    /// The mail server with its port, such as `127.0.0.1:25` or `mail.example.org:587`; no e-mail when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) smtp: Option<String>,
    /// How the way there is encrypted. When absent: not at all on this machine, else as the port says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) smtp_tls: Option<Encryption>,
    /// User name at the mail server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) smtp_user: Option<String>,
    /// File with the password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) smtp_password_file: Option<PathBuf>,
    /// File with the certificate (PEM) of an authority that vouches for the mail server, beside those that the system trusts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) smtp_ca_file: Option<PathBuf>,
    /// Sender of the messages, `Green Valley <notices@example.org>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<String>,
    /// Where notices go through the organisation's own channel; none when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) webhook: Option<String>,
    /// What people call that channel.
    pub(crate) webhook_name: String,
    /// File with the secret that signs what is sent there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) webhook_secret_file: Option<PathBuf>,
}

/// How the way to a mail server is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Encryption {
    /// In the clear: to a relay on this machine.
    None,
    /// The connection becomes an encrypted one before anything is said (RFC 3207); a server without it is not used.
    Starttls,
    /// TLS from the first byte (RFC 8314).
    Implicit,
}

/// A mail server, as it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    /// Name or address; certificates are held against it.
    pub(crate) host: String,
    /// Its port.
    pub(crate) port: u16,
    /// How the way there is encrypted.
    pub(crate) encryption: Encryption,
}

impl Default for Notices {
    fn default() -> Self {
        Self {
            smtp: None,
            smtp_tls: None,
            smtp_user: None,
            smtp_password_file: None,
            smtp_ca_file: None,
            from: None,
            webhook: None,
            webhook_name: "message from your hospital".into(),
            webhook_secret_file: None,
        }
    }
}

impl Notices {
    pub(crate) fn check(&self) -> Result<()> {
        if self.server()?.is_some() && self.from.is_none() {
            bail!(
                "notices.from: is needed where notices.smtp is set, such as \"Green Valley <notices@example.org>\""
            );
        }
        let Some(webhook) = &self.webhook else {
            return Ok(());
        };
        let host = webhook
            .strip_prefix("http://")
            .map(|rest| rest.split(['/', ':']).next().unwrap_or_default());
        let is_good = webhook.starts_with("https://") || host.is_some_and(is_here);
        if !is_good || webhook.contains(['@', ' ']) {
            bail!(
                "notices.webhook = {webhook:?}: must be an https address without a password in it, or http on this machine"
            );
        }
        Ok(())
    }

    /// The mail server, if there is one.
    pub(crate) fn server(&self) -> Result<Option<Server>> {
        let Some(smtp) = &self.smtp else {
            return Ok(None);
        };
        let (host, port) = smtp.rsplit_once(':').unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = port.parse::<u16>().ok().filter(|port| *port > 0);
        let is_name = !host.is_empty() && !host.contains(['/', '@', ' ', '[', ']']);
        let Some(port) = port.filter(|_| is_name) else {
            bail!(
                "notices.smtp = {smtp:?}: must be a host with its port, such as 127.0.0.1:25 or mail.example.org:587"
            );
        };
        let encryption = self.smtp_tls.unwrap_or(match (is_here(host), port) {
            (true, _) => Encryption::None,
            (false, SUBMISSIONS) => Encryption::Implicit,
            (false, _) => Encryption::Starttls,
        });
        if encryption == Encryption::None && !is_here(host) {
            bail!(
                "notices.smtp_tls = \"none\": is for a mail relay on this machine; to {host} use \"starttls\" or \"implicit\""
            );
        }
        Ok(Some(Server {
            host: host.to_owned(),
            port,
            encryption,
        }))
    }

    /// Paths that a configuration file names are read from where it lies.
    pub(crate) fn beside(&mut self, folder: &Path) {
        for path in [
            &mut self.webhook_secret_file,
            &mut self.smtp_password_file,
            &mut self.smtp_ca_file,
        ]
        .into_iter()
        .flatten()
        {
            *path = folder.join(&path);
        }
    }

    /// The password for the mail server.
    pub(crate) fn smtp_password(&self) -> Result<Zeroizing<String>> {
        secret(PASSWORD, self.smtp_password_file.as_deref())?.with_context(|| {
            format!(
                "notices.smtp_user is set: give the password in notices.smtp_password_file or {PASSWORD}"
            )
        })
    }

    /// The secret of the webhook.
    pub(crate) fn webhook_secret(&self) -> Result<Zeroizing<String>> {
        let secret = secret(SECRET, self.webhook_secret_file.as_deref())?.with_context(|| {
            format!(
                "notices.webhook is set: give its secret in notices.webhook_secret_file or {SECRET}"
            )
        })?;
        if secret.len() < SECRET_MIN {
            bail!(
                "the secret of notices.webhook has {} bytes; it needs at least {SECRET_MIN}",
                secret.len()
            );
        }
        Ok(secret)
    }
}

fn is_here(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn secret(variable: &str, file: Option<&Path>) -> Result<Option<Zeroizing<String>>> {
    if let Ok(text) = std::env::var(variable) {
        return Ok(Some(Zeroizing::new(text)));
    }
    let Some(file) = file else { return Ok(None) };
    let text = fs::read_to_string(file)
        .with_context(|| format!("reading the secret in {}", file.display()))?;
    let text = Zeroizing::new(text);
    Ok(Some(Zeroizing::new(
        text.trim_end_matches(['\r', '\n']).to_owned(),
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_named() {
        let refused = |text: &str| {
            let notices: Notices = toml::from_str(text).expect("parses");
            notices.check().expect_err(text).to_string()
        };
        for (text, named) in [
            (
                "smtp = \"192.0.2.1:25\"\nsmtp_tls = \"none\"\nfrom = \"a@b.example\"",
                "notices.smtp_tls",
            ),
            ("smtp = \"mail.example.org\"", "notices.smtp"),
            ("smtp = \"https://mail.example.org:587\"", "notices.smtp"),
            ("smtp = \"127.0.0.1:25\"", "notices.from"),
            ("webhook = \"http://elsewhere.example/\"", "notices.webhook"),
            (
                "webhook = \"https://user:pw@x.example/\"",
                "notices.webhook",
            ),
        ] {
            assert!(refused(text).contains(named), "{text}");
        }
        for (text, port, encryption) in [
            ("smtp = \"127.0.0.1:25\"", 25, Encryption::None),
            ("smtp = \"[::1]:2525\"", 2525, Encryption::None),
            ("smtp = \"mail.example.org:587\"", 587, Encryption::Starttls),
            ("smtp = \"mail.example.org:465\"", 465, Encryption::Implicit),
            (
                "smtp = \"localhost:465\"\nsmtp_tls = \"implicit\"",
                465,
                Encryption::Implicit,
            ),
        ] {
            let notices: Notices = toml::from_str(text).expect("parses");
            let server = notices.server().expect("good").expect("one");
            assert_eq!(
                (server.port, server.encryption),
                (port, encryption),
                "{text}"
            );
        }
        let good = "webhook = \"http://localhost:1/x\"";
        let notices: Notices = toml::from_str(good).expect("parses");
        notices.check().expect("good");
        assert!(
            notices
                .webhook_secret()
                .expect_err("no secret")
                .to_string()
                .contains("webhook_secret_file")
        );
    }
}
