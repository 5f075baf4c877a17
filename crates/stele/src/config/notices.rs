//! How notices leave the node: through the mail relay of this machine, and the organisation's own channel. Its secret comes from a file or the environment.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Where the secret of the webhook may stand instead of in a file.
const SECRET: &str = "STELE_WEBHOOK_SECRET";
/// Shortest secret of a webhook, in bytes.
const SECRET_MIN: usize = 16;

/// Notices beside the portal's own pages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Notices {
    /// The mail relay on this machine, such as `127.0.0.1:25`; no e-mail when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) smtp: Option<SocketAddr>,
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

impl Default for Notices {
    fn default() -> Self {
        Self {
            smtp: None,
            from: None,
            webhook: None,
            webhook_name: "message from your hospital".into(),
            webhook_secret_file: None,
        }
    }
}

impl Notices {
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(smtp) = self.smtp {
            if !smtp.ip().is_loopback() {
                bail!(
                    "notices.smtp = {smtp}: must be a mail relay on this machine, such as 127.0.0.1:25; it speaks TLS to the world"
                );
            }
            if self.from.is_none() {
                bail!(
                    "notices.from: is needed where notices.smtp is set, such as \"Green Valley <notices@example.org>\""
                );
            }
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

    /// Paths that a configuration file names are read from where it lies.
    pub(crate) fn beside(&mut self, folder: &Path) {
        if let Some(path) = &mut self.webhook_secret_file {
            *path = folder.join(&path);
        }
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
                "smtp = \"192.0.2.1:25\"\nfrom = \"a@b.example\"",
                "notices.smtp",
            ),
            ("smtp = \"127.0.0.1:25\"", "notices.from"),
            ("webhook = \"http://elsewhere.example/\"", "notices.webhook"),
            (
                "webhook = \"https://user:pw@x.example/\"",
                "notices.webhook",
            ),
        ] {
            assert!(refused(text).contains(named), "{text}");
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
