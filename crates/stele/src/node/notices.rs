//! Carries notices out: by e-mail through a mail server, and by signed calls of the organisation's webhook.

use std::time::Duration;

use anyhow::{Context as _, Result};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use stele_core::time::{Clock as _, SystemClock};
use stele_service::ports::{BoxFuture, Courier, CourierError, Mail};
use zeroize::Zeroizing;

use crate::config::notices::Notices;
use mail::Relay;

mod mail;

/// How long a server may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// What is configured of the two ways.
pub(super) struct Carrier {
    mail: Option<Relay>,
    hook: Option<Hook>,
}

struct Hook {
    http: reqwest::Client,
    address: String,
    name: String,
    secret: Zeroizing<String>,
}

impl Carrier {
    /// From the configuration; none where nothing is configured.
    pub(super) fn new(config: &Notices) -> Result<Option<Self>> {
        let server = config.server()?;
        let mail = server.map(|server| Relay::new(config, &server));
        let hook = config.webhook.as_deref().map(|to| hook(config, to));
        let (mail, hook) = (mail.transpose()?, hook.transpose()?);
        let is_any = mail.is_some() || hook.is_some();
        Ok(is_any.then_some(Self { mail, hook }))
    }
}

fn hook(config: &Notices, address: &str) -> Result<Hook> {
    let http = reqwest::Client::builder()
        .timeout(TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .context("making a client for the webhook")?;
    Ok(Hook {
        http,
        address: address.to_owned(),
        name: config.webhook_name.clone(),
        secret: config.webhook_secret()?,
    })
}

impl Courier for Carrier {
    fn has_mail(&self) -> bool {
        self.mail.is_some()
    }

    fn hook_name(&self) -> Option<&str> {
        self.hook.as_ref().map(|hook| hook.name.as_str())
    }

    fn send_mail(&self, mail: Mail) -> BoxFuture<'_, Result<(), CourierError>> {
        Box::pin(async move {
            let relay = self.mail.as_ref();
            relay
                .ok_or_else(|| permanent("no mail server is configured any more"))?
                .send(&mail)
                .await
        })
    }

    fn call_hook<'a>(
        &'a self,
        id: &'a str,
        body: String,
    ) -> BoxFuture<'a, Result<(), CourierError>> {
        Box::pin(async move {
            let hook = self.hook.as_ref();
            let hook = hook.ok_or_else(|| permanent("no webhook is configured any more"))?;
            let seconds = SystemClock.now().0 / 1000;
            let signature = signature(&hook.secret, seconds, &body)?;
            let answer = hook
                .http
                .post(&hook.address)
                .header("content-type", "application/json")
                .header("stele-notice", id)
                .header("stele-signature", signature)
                .body(body)
                .send()
                .await;
            let reason = match answer {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                Ok(answer) => format!("the webhook answered {}", answer.status()),
                Err(error) if error.is_timeout() => "the webhook does not answer".into(),
                Err(_) => "the webhook can't be reached".into(),
            };
            // Whatever it answers may be mended there, so it is tried again.
            Err(CourierError {
                is_permanent: false,
                reason,
            })
        })
    }
}

/// `t=SECONDS,v1=HEX`: HMAC-SHA-256 over `SECONDS.BODY`, so that an old call can't be sent again unnoticed.
fn signature(secret: &str, seconds: u64, body: &str) -> Result<String, CourierError> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes())
        .map_err(|error| permanent(&error.to_string()))?;
    mac.update(format!("{seconds}.{body}").as_bytes());
    let code = alloy_primitives::hex::encode(mac.finalize().into_bytes());
    Ok(format!("t={seconds},v1={code}"))
}

fn permanent(reason: &str) -> CourierError {
    CourierError {
        is_permanent: true,
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231 gives no case of this shape; the value is OpenSSL's: `printf '1.{}' | openssl dgst -sha256 -hmac key`.
    #[test]
    fn a_call_is_signed_with_its_time() {
        let signed = signature("key", 1, "{}").expect("signs");
        assert_eq!(signed, format!("t=1,v1={EXPECTED}"));
        assert_ne!(signature("key", 2, "{}").expect("signs"), signed);
    }

    const EXPECTED: &str = "1ba6b8171186efc613e8bcc0cbdab2748f24984d7c5a84faa2637afa0e40d224";
}
