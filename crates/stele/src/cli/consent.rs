//! Who may see or add what: grants, their end, requests and the answers to them. With `--key-file-of-patient` the
//! patient's own key signs; without it staff of the organisation that manages the patient record the decision.

use std::str::FromStr;

use alloy_primitives::Address;
use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use serde_json::{Value, json};
use stele_core::{
    consent::{Period, Permissions, Purpose, Terms},
    time::{Clock as _, SystemClock, Timestamp},
};
use stele_fhir::category::Category;

use super::{Answer, client::Target, operator::print, own_keys::KeyOfPatient};
use crate::output;

/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;

/// What is granted, as the flags say it.
#[derive(Clone, Debug, Args)]
pub(crate) struct Scope {
    /// Parts of the record, separated by commas; see docs/categories.md. `all` is every part.
    #[arg(
        long,
        visible_alias = "category",
        value_delimiter = ',',
        required = true
    )]
    categories: Vec<String>,
    /// read, write, share; separated by commas.
    #[arg(
        long,
        visible_alias = "permission",
        value_delimiter = ',',
        default_value = "read"
    )]
    permissions: Vec<String>,
    /// Purposes of use, separated by commas: TREAT, HPAYMT, HRESCH, ETREAT, PATRQT, HOPERAT, PUBHLTH.
    #[arg(
        long,
        visible_alias = "purpose",
        value_delimiter = ',',
        default_value = "TREAT"
    )]
    purposes: Vec<Purpose>,
    /// For how many days from now.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
    /// Last day on which it holds (UTC), such as 2027-06-30; takes the place of --days.
    #[arg(long, value_name = "DATE", conflicts_with = "days")]
    until: Option<Day>,
    /// Only records that were written in these months, such as 2024-01..2026-12 [default: all, also later ones].
    #[arg(long, value_name = "FROM..TO")]
    months: Option<Months>,
}

/// A day of the calendar.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Day(time::Date);

impl FromStr for Day {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let format = time::macros::format_description!("[year]-[month]-[day]");
        time::Date::parse(text, &format)
            .map(Self)
            .map_err(|_| format!("{text:?} is not a day; write it as 2027-06-30"))
    }
}

impl Day {
    /// The day's last second, in which the grant ends: its sentence then names the day that was asked for.
    fn end(self) -> Result<Timestamp> {
        let last = time::Time::from_hms(23, 59, 59).context("a second before midnight")?;
        let end = self.0.with_time(last).assume_utc().unix_timestamp();
        Ok(Timestamp::from_seconds(
            u64::try_from(end).context("--until lies before 1970")?,
        ))
    }
}

/// Months of sealing, both included, since January 1970.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Months(u16, u16);

impl FromStr for Months {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a span of months; write it as 2024-01..2026-12");
        let (from, to) = text.split_once("..").unwrap_or((text, text));
        let (from, to) = (month(from).ok_or_else(wrong)?, month(to).ok_or_else(wrong)?);
        if from <= to {
            Ok(Self(from, to))
        } else {
            Err(format!("{text:?} ends before it begins"))
        }
    }
}

/// `2024-01` as months since January 1970.
fn month(text: &str) -> Option<u16> {
    let (year, month) = text.split_once('-')?;
    let (year, month): (u16, u16) = (year.parse().ok()?, month.parse().ok()?);
    let month = month.checked_sub(1).filter(|month| *month < 12)?;
    year.checked_sub(1970)?.checked_mul(12)?.checked_add(month)
}

/// A grant that was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) grantee: Address,
    pub(crate) request: Option<u32>,
    pub(crate) scope: Scope,
}

impl Scope {
    /// What a patient gives the organisation that registers them, in its words of the portal: treatment, all parts.
    pub(crate) fn treatment(days: u32) -> Self {
        Self {
            categories: vec!["all".into()],
            permissions: vec!["read".into(), "write".into()],
            purposes: vec![Purpose::Treat],
            days,
            until: None,
            months: None,
        }
    }

    fn period(&self) -> Result<Period> {
        let now = SystemClock.now();
        let until = match self.until {
            Some(day) => day.end()?,
            None => now.plus_ms(u64::from(self.days).saturating_mul(DAY_MS)),
        };
        ensure!(until > now, "the grant would have ended already");
        Ok(Period { from: now, until })
    }

    fn permissions(&self) -> Result<Permissions> {
        self.permissions
            .iter()
            .try_fold(Permissions::default(), |all, word| {
                Ok(all.and(match word.as_str() {
                    "read" => Permissions::READ,
                    "write" => Permissions::WRITE,
                    "share" => Permissions::SHARE,
                    other => bail!("{other:?} is not a permission; use read, write or share"),
                }))
            })
    }
}

impl Asked {
    pub(crate) fn categories(&self) -> Result<Vec<Category>> {
        let names = &self.scope.categories;
        if names.iter().any(|name| name == "all") {
            return Ok(Category::ALL.to_vec());
        }
        names
            .iter()
            .map(|name| {
                Category::from_name(name)
                    .with_context(|| format!("{name:?} is not a category; see docs/categories.md"))
            })
            .collect()
    }

    pub(crate) fn terms(&self, slots: u64) -> Result<Terms> {
        let Months(records_from, records_to) = self.scope.months.unwrap_or(Months(0, u16::MAX));
        Ok(Terms {
            categories: slots,
            permissions: self.scope.permissions()?,
            purposes: self.scope.purposes.clone(),
            period: self.scope.period()?,
            records_from,
            records_to,
        })
    }

    fn body(&self, patient: &str) -> Result<Value> {
        let scope = &self.scope;
        Ok(json!({
            "patient": patient,
            "grantee": self.grantee,
            "categories": scope.categories,
            "permissions": scope.permissions,
            "purposes": scope.purposes.iter().map(|one| one.code()).collect::<Vec<_>>(),
            "until": scope.period()?.until,
            "months": scope.months.map(|Months(from, to)| (from, to)),
            "request": self.request
        }))
    }

    async fn record(self, patient: &str, target: &Target, key: &KeyOfPatient) -> Result<Value> {
        match key.sign_in(target).await? {
            Some(own) => own.grant(&self).await,
            None => {
                let body = self.body(patient)?;
                target.connect()?.post("/admin/grants", &body).await
            }
        }
    }
}

/// Let somebody see or add to a patient's records.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stele grant p1 --to 0x… --categories cardiology,medicines --days 30
  stele grant p1 --to 0x… --category all --permission read,write --until 2027-06-30
  stele grant p1 --to 0x… --category laboratory --purpose HRESCH --months 2024-01..2026-12
  stele grant p1 --to 0x… --category all --key-file-of-patient p1.key --passphrase-file p1.txt")]
pub(crate) struct Grant {
    /// FHIR id of the Patient.
    patient: String,
    /// Account of whoever gets access.
    #[arg(long, value_name = "ACCOUNT")]
    to: Address,
    #[command(flatten)]
    scope: Scope,
    /// The request it answers.
    #[arg(long)]
    request: Option<u32>,
    #[command(flatten)]
    key: KeyOfPatient,
    #[command(flatten)]
    target: Target,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

impl Grant {
    pub(crate) async fn run(self) -> Result<Answer> {
        let asked = Asked {
            grantee: self.to,
            request: self.request,
            scope: self.scope,
        };
        let answer = asked.record(&self.patient, &self.target, &self.key).await?;
        print(&answer, self.json);
        Ok(Answer::Yes)
    }
}

/// End a grant: refused from its block on; what is written later is sealed to new keys.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stele revoke p1 --from 0x… --id 1
  stele revoke p1 --from 0x… --id 1 --key-file-of-patient p1.key --passphrase-file p1.txt")]
pub(crate) struct Revoke {
    /// FHIR id of the Patient.
    patient: String,
    /// Account of whoever has access.
    #[arg(long, value_name = "ACCOUNT")]
    from: Address,
    /// Number of the grant, as `stele grant` and `stele grants` print it.
    #[arg(long)]
    id: u32,
    #[command(flatten)]
    key: KeyOfPatient,
    #[command(flatten)]
    target: Target,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

impl Revoke {
    pub(crate) async fn run(self) -> Result<Answer> {
        let answer = match self.key.sign_in(&self.target).await? {
            Some(own) => own.revoke(self.from, self.id).await?,
            None => {
                let body = json!({ "patient": self.patient, "grantee": self.from, "id": self.id });
                let client = self.target.connect()?;
                client.post("/admin/grants/revoke", &body).await?
            }
        };
        print(&answer, self.json);
        Ok(Answer::Yes)
    }
}

/// Whose list is asked for, and how.
#[derive(Debug, Args)]
struct OfPatient {
    /// FHIR id of the Patient.
    patient: String,
    #[command(flatten)]
    key: KeyOfPatient,
    #[command(flatten)]
    target: Target,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

impl OfPatient {
    /// A list about the patient: the patient's own with the key file, else the operator's.
    async fn list(&self, what: &str) -> Result<Value> {
        match self.key.sign_in(&self.target).await? {
            Some(own) => own.client.get(&format!("/own/{what}")).await,
            None => {
                let path = format!("/admin/patients/{}/{what}", self.patient);
                self.target.connect()?.get(&path).await
            }
        }
    }
}

/// List who may see or add what, ended grants too.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stele grants p1
  stele grants p1 --key-file-of-patient p1.key --passphrase-file p1.txt --json")]
pub(crate) struct Grants {
    #[command(flatten)]
    of: OfPatient,
}

impl Grants {
    pub(crate) async fn run(self) -> Result<Answer> {
        let list = self.of.list("grants").await?;
        if self.of.json {
            output::json(&list);
            return Ok(Answer::Yes);
        }
        for line in list.as_array().into_iter().flatten() {
            let terms: Terms =
                serde_json::from_value(line.get("terms").cloned().unwrap_or_default())
                    .context("a grant's terms")?;
            let names: Vec<&str> = match line.get("categories").and_then(Value::as_array) {
                Some(names) => names.iter().filter_map(Value::as_str).collect(),
                None => vec!["parts only the patient can name"],
            };
            let state = match line.get("live").and_then(Value::as_bool) {
                Some(true) => "active",
                _ => "ended",
            };
            output::line(format_args!(
                "{:>4}  {state}  {}",
                line.get("id").and_then(Value::as_u64).unwrap_or_default(),
                terms.sentence(text(line, "grantee"), &names)
            ));
        }
        Ok(Answer::Yes)
    }
}

/// Ask a patient for access.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stele request p1 --as 0x… --reason 'second opinion before surgery' --categories cardiology
  stele requests p1          # what the patient sees
  stele approve p1 1 --categories cardiology --days 14
  stele decline p1 1")]
pub(crate) struct Request {
    /// FHIR id of the Patient.
    patient: String,
    /// Account that asks.
    #[arg(long = "as", value_name = "ACCOUNT")]
    act_as: Address,
    /// What is asked for and why, for the patient to read; stays off chain.
    #[arg(long)]
    reason: String,
    /// Parts of the record that are asked for, separated by commas [default: the patient chooses].
    #[arg(long, visible_alias = "category", value_delimiter = ',')]
    categories: Vec<String>,
    /// Permissions that are asked for, separated by commas.
    #[arg(long, visible_alias = "permission", value_delimiter = ',')]
    permissions: Vec<String>,
    /// Purposes of use, separated by commas.
    #[arg(long, visible_alias = "purpose", value_delimiter = ',')]
    purposes: Vec<Purpose>,
    #[command(flatten)]
    target: Target,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

impl Request {
    pub(crate) async fn run(self) -> Result<Answer> {
        let body = json!({
            "patient": self.patient, "requester": self.act_as, "reason": self.reason,
            "categories": self.categories, "permissions": self.permissions,
            "purposes": self.purposes
        });
        let client = self.target.connect()?;
        print(&client.post("/admin/requests", &body).await?, self.json);
        Ok(Answer::Yes)
    }
}

/// List the requests made to a patient, and what each asks for.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stele requests p1
  stele requests p1 --key-file-of-patient p1.key --passphrase-file p1.txt")]
pub(crate) struct Requests {
    #[command(flatten)]
    of: OfPatient,
}

impl Requests {
    pub(crate) async fn run(self) -> Result<Answer> {
        let list = self.of.list("requests").await?;
        if self.of.json {
            output::json(&list);
            return Ok(Answer::Yes);
        }
        for line in list.as_array().into_iter().flatten() {
            output::line(format_args!(
                "{:>4}  {:<8}  {}  {}  until {}",
                line.get("request")
                    .and_then(Value::as_u64)
                    .unwrap_or_default(),
                text(line, "status"),
                text(line, "requester"),
                line.pointer("/asks/reason")
                    .and_then(Value::as_str)
                    .unwrap_or("(what is asked for is not kept here)"),
                text(line, "expires")
            ));
        }
        Ok(Answer::Yes)
    }
}

/// Approve a request: grants what the flags say to whoever asked.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stele approve p1 1 --categories cardiology --days 14
  stele approve p1 1 --category all --key-file-of-patient p1.key --passphrase-file p1.txt")]
pub(crate) struct Approve {
    /// FHIR id of the Patient.
    patient: String,
    /// Number of the request, as `stele requests` prints it.
    request: u32,
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    key: KeyOfPatient,
    #[command(flatten)]
    target: Target,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

impl Approve {
    pub(crate) async fn run(self) -> Result<Answer> {
        let list = match self.key.sign_in(&self.target).await? {
            Some(own) => own.client.get("/own/requests").await?,
            None => {
                let path = format!("/admin/patients/{}/requests", self.patient);
                self.target.connect()?.get(&path).await?
            }
        };
        let line = list
            .as_array()
            .into_iter()
            .flatten()
            .find(|line| line.get("request").and_then(Value::as_u64) == Some(self.request.into()))
            .with_context(|| format!("{} has no request {}", self.patient, self.request))?;
        ensure!(
            text(line, "status") == "open",
            "request {} is {} already",
            self.request,
            text(line, "status")
        );
        let asked = Asked {
            grantee: text(line, "requester").parse().context("who asked")?,
            request: Some(self.request),
            scope: self.scope,
        };
        let answer = asked.record(&self.patient, &self.target, &self.key).await?;
        print(&answer, self.json);
        Ok(Answer::Yes)
    }
}

/// Decline a request.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stele decline p1 1
  stele decline p1 1 --key-file-of-patient p1.key --passphrase-file p1.txt")]
pub(crate) struct Decline {
    /// FHIR id of the Patient.
    patient: String,
    /// Number of the request, as `stele requests` prints it.
    request: u32,
    #[command(flatten)]
    key: KeyOfPatient,
    #[command(flatten)]
    target: Target,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

impl Decline {
    pub(crate) async fn run(self) -> Result<Answer> {
        let answer = match self.key.sign_in(&self.target).await? {
            Some(own) => own.decline(self.request).await?,
            None => {
                let body = json!({ "patient": self.patient, "request": self.request });
                let client = self.target.connect()?;
                client.post("/admin/requests/decline", &body).await?
            }
        };
        print(&answer, self.json);
        Ok(Answer::Yes)
    }
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_months_are_read_or_named() {
        let end = "2027-06-30".parse::<Day>().and_then(|day| {
            let end = day.end().map_err(|error| error.to_string())?;
            Ok(end.to_instant())
        });
        assert_eq!(end.as_deref(), Ok("2027-06-30T23:59:59.000Z"));
        let months: Months = "2024-01..2026-12".parse().expect("a span");
        assert_eq!((months.0, months.1), (648, 683));
        let one: Months = "1970-01".parse().expect("one month");
        assert_eq!((one.0, one.1), (0, 0));
        for wrong in [
            "2024-13..2024-14",
            "2024",
            "2026-01..2024-01",
            "1969-12",
            "",
        ] {
            let error = wrong.parse::<Months>().expect_err(wrong);
            assert!(error.contains(&format!("{wrong:?}")), "{error}");
        }
        assert!("30-06-2027".parse::<Day>().is_err());
    }
}
