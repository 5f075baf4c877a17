//! The command line as a client of a node: where it is, and the token to speak with.

use std::{fs, path::PathBuf, time::Duration};

use alloy_primitives::Address;
use anyhow::{Context as _, Result, bail};
use clap::Args;
use reqwest::Method;
use serde_json::Value;
use stele_core::{
    consent::Purpose,
    id::OrganizationId,
    time::{Clock as _, SystemClock},
};
use stele_gateway::{NewToken, Scopes, TokenKey, mint};

use super::Settings;
use crate::{config, node::Ready};

/// Which node a command speaks to. By default the one running on the data folder.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Target {
    #[command(flatten)]
    pub(crate) settings: Settings,
    /// Base URL of the gateway [default: that of the node running on the data folder].
    #[arg(long, env = "STELE_GATEWAY", value_name = "URL")]
    pub(crate) gateway: Option<String>,
    /// Access token; `@FILE` reads it from a file [default: made with the data folder's key].
    #[arg(
        long,
        env = "STELE_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true
    )]
    pub(crate) token: Option<String>,
}

/// A node, spoken to over HTTP.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl Target {
    /// Base URL of the gateway.
    pub(crate) fn base(&self) -> Result<String> {
        Ok(match &self.gateway {
            Some(url) => url
                .trim_end_matches('/')
                .trim_end_matches("/fhir/r4")
                .to_owned(),
            None => self.ready()?.http,
        })
    }

    pub(crate) fn connect(&self) -> Result<Client> {
        let base = self.base()?;
        let token = match &self.token {
            Some(token) => match token.strip_prefix('@') {
                Some(path) => fs::read_to_string(path)
                    .with_context(|| format!("reading the token in {path}"))?
                    .trim()
                    .to_owned(),
                None => token.clone(),
            },
            None => self.mint("admin system/*.cruds", 3600)?,
        };
        Client::new(base, token)
    }

    /// Where the node of the data folder is reached.
    pub(crate) fn ready(&self) -> Result<Ready> {
        let path = self.settings.resolve()?.data.join("ready.json");
        let text = fs::read_to_string(&path).with_context(|| {
            format!("reading {}: no node runs there; start it with `stele up` or name one with --gateway", path.display())
        })?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    }

    /// An operator's token for the node of the data folder, acting as the node's organisation.
    pub(crate) fn mint(&self, scope: &str, lifetime_s: u64) -> Result<String> {
        let ready = self.ready()?;
        let organization = ready.organization;
        self.mint_as(
            scope,
            &ready,
            Identity {
                organization,
                practitioner: None,
            },
            lifetime_s,
        )
    }

    /// A token that acts as an account: an organisation of this node, or a member of one's staff.
    pub(crate) async fn mint_for(
        &self,
        scope: &str,
        account: Address,
        lifetime_s: u64,
    ) -> Result<String> {
        let ready = self.ready()?;
        let known = self
            .connect()?
            .get(&format!("/admin/accounts/{account}"))
            .await?;
        let organization: OrganizationId = known
            .get("organization")
            .and_then(Value::as_str)
            .and_then(|text| text.parse().ok())
            .context("the account's organisation")?;
        let practitioner = match known.get("kind").and_then(Value::as_str) {
            Some("organization") => None,
            Some("member") => Some(account),
            other => bail!(
                "{account} is a {}; only organisations and staff act here",
                other.unwrap_or("?")
            ),
        };
        self.mint_as(
            scope,
            &ready,
            Identity {
                organization,
                practitioner,
            },
            lifetime_s,
        )
    }

    fn mint_as(
        &self,
        scope: &str,
        ready: &Ready,
        identity: Identity,
        lifetime_s: u64,
    ) -> Result<String> {
        let config = self.settings.resolve()?;
        let key = config::token_key(&config.data, &config.unlock(false)?, false)?;
        operator_token(
            &TokenKey::new(key),
            &ready.http,
            scope,
            identity,
            lifetime_s,
        )
    }
}

/// Who a token acts as.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    pub(crate) organization: OrganizationId,
    pub(crate) practitioner: Option<Address>,
}

/// Signs an operator's token for the gateway at `base`.
pub(crate) fn operator_token(
    key: &TokenKey,
    base: &str,
    scope: &str,
    identity: Identity,
    lifetime_s: u64,
) -> Result<String> {
    let scopes: Scopes = scope.parse().context("scope")?;
    let token = NewToken {
        client: "operator".into(),
        organization: identity.organization,
        practitioner: identity.practitioner,
        patient: None,
        scopes,
        purposes: vec![Purpose::Treat],
        lifetime_s,
    };
    mint(key, base, &token, SystemClock.now()).context("signing a token")
}

/// An answer with its status.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: String,
    /// How long the node asks to wait before the same is tried again.
    pub(crate) retry_after: Option<Duration>,
}

impl Reply {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub(crate) fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body).context("the node's answer is not JSON")
    }

    /// What went wrong, from an OperationOutcome or the first line of the body.
    pub(crate) fn problem(&self) -> String {
        let parsed: Value = serde_json::from_str(&self.body).unwrap_or_default();
        let texts = problems(&parsed).texts;
        let message = parsed.get("message").and_then(Value::as_str);
        let said = if !texts.is_empty() {
            texts.join("; ")
        } else if let Some(message) = message {
            message.to_owned()
        } else {
            let line = self.body.lines().next().unwrap_or_default();
            line.chars().take(300).collect()
        };
        format!("{} ({})", said, self.status)
    }

    /// Whether the refusal is for something referred to that is not there.
    pub(crate) fn misses_something(&self) -> bool {
        let parsed: Value = serde_json::from_str(&self.body).unwrap_or_default();
        !self.is_success() && problems(&parsed).misses
    }
}

/// What an OperationOutcome says.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    /// One sentence an issue, with the place.
    pub(crate) texts: Vec<String>,
    /// Something referred to is not there.
    pub(crate) misses: bool,
}

/// Reads an OperationOutcome; of anything else, nothing.
pub(crate) fn problems(outcome: &Value) -> Problems {
    let issues = outcome.get("issue").and_then(Value::as_array);
    let mut found = Problems::default();
    for issue in issues.into_iter().flatten() {
        found.misses |= issue.get("code").and_then(Value::as_str) == Some("not-found");
        if let Some(text) = issue.get("diagnostics").and_then(Value::as_str) {
            let at = issue.pointer("/expression/0").and_then(Value::as_str);
            let at = at.map(|at| format!(" at {at}")).unwrap_or_default();
            found.texts.push(format!("{text}{at}"));
        }
    }
    found
}

impl Client {
    pub(crate) fn new(base: String, token: String) -> Result<Self> {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(600))
            .user_agent(concat!("stele/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("making an HTTP client")?;
        Ok(Self { http, base, token })
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<Reply> {
        let url = format!("{}{path}", self.base);
        let mut request = self
            .http
            .request(method, &url)
            .header("accept", "application/fhir+json, application/json");
        if !self.token.is_empty() {
            request = request.bearer_auth(&self.token);
        }
        if let Some(body) = body {
            request = request
                .header("content-type", "application/fhir+json")
                .body(body);
        }
        let response = request
            .send()
            .await
            .with_context(|| format!("asking {}", self.base))?;
        let status = response.status().as_u16();
        let retry_after = response
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let body = response.text().await.context("reading the node's answer")?;
        Ok(Reply {
            status,
            body,
            retry_after,
        })
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        self.expect(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.expect(Method::POST, path, Some(body)).await
    }

    /// The body of an answer as it is.
    pub(crate) async fn text(&self, path: &str) -> Result<String> {
        let reply = self.send(Method::GET, path, None).await?;
        if reply.is_success() {
            Ok(reply.body)
        } else {
            bail!("{}", reply.problem())
        }
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Result<Value> {
        self.expect(Method::PUT, path, Some(body)).await
    }

    async fn expect(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let reply = self.send(method, path, body.map(Value::to_string)).await?;
        if !reply.is_success() {
            bail!("{}", reply.problem());
        }
        if reply.body.is_empty() {
            Ok(Value::Null)
        } else {
            reply.json()
        }
    }
}

/// Percent-encoding of what is not an unreserved character of a URL (RFC 3986) or a slash.
pub(crate) fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// A file to write to, if it does not exist yet.
pub(crate) fn write_new(path: &PathBuf, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
