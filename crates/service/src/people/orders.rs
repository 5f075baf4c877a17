//! Laboratory tests: a doctor orders one, the laboratory answers it. The order is an entry of the patient's record; the
//! laboratory gets a slip of it, as on paper, and writes its results under the patient's permission to add, which lets it
//! read nothing.

mod report;

use std::sync::Arc;

use alloy_primitives::{Address, hex};
use serde::{Deserialize, Serialize};
use serde_json::json;
use stele_core::{
    id::{OrganizationId, PatientId},
    time::Timestamp,
};
use stele_fhir::{bundle, parse};

pub use report::report_problems;
use report::transaction;

use super::{Named, PersonKind};
use crate::{
    Service, Write,
    directory::role,
    error::{Error, Result},
    notices::{Notice, NoticeKind},
    session::Actor,
};

/// Most slips that a worklist shows of each kind.
const LISTED_MAX: u32 = 200;
/// Longest name of a test and longest text, in characters.
const NAME_MAX: usize = 200;
const TEXT_MAX: usize = 2_000;
/// Most results of one report.
pub const RESULTS_MAX: usize = 40;
/// Largest document of a report, in bytes: it is kept inside the report.
pub const REPORT_DOCUMENT_MAX: usize = 10 << 20;

/// A test to be ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewOrder {
    /// The organisation whose laboratory does it.
    pub laboratory: OrganizationId,
    /// What is to be measured.
    pub test: String,
    /// What the laboratory should know; may be empty.
    pub reason: String,
    /// Whether it cannot wait.
    pub is_urgent: bool,
}

/// The slip of an order: what the laboratory sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OrderSlip {
    /// FHIR id of the ServiceRequest.
    pub id: String,
    /// Whose test it is.
    pub patient: Address,
    /// Name and birth date, as the doctor who ordered sees them: samples are told apart by them.
    pub name: String,
    /// Birth date as written; may be empty.
    pub born: String,
    /// Who ordered.
    pub orderer: Address,
    /// Whose laboratory it is for.
    pub laboratory: Address,
    /// What is to be measured.
    pub test: String,
    /// What the laboratory should know; may be empty.
    pub reason: String,
    /// Whether it cannot wait.
    pub is_urgent: bool,
    /// When it was ordered.
    pub at: Timestamp,
    /// When it was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<Timestamp>,
    /// When the answer was corrected last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corrected: Option<Timestamp>,
    /// Where the answer stands in the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filed: Option<Filed>,
}

/// Where the answer to an order stands in the record, so that it can be corrected without being read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Filed {
    /// FHIR id of the DiagnosticReport.
    pub report: String,
    /// FHIR ids of the Observations and what was measured, in the order of the report's rows.
    pub results: Vec<(String, String)>,
}

impl Filed {
    /// Of what a report's transaction wrote: its rows, in order, and the report last.
    fn of(before: Option<&Self>, report: &NewReport, written: &[String]) -> Option<Self> {
        let (last, rows) = written.split_last()?;
        let earlier = before.map_or(&[][..], |filed| &filed.results);
        let results = rows.iter().enumerate().map(|(at, id)| {
            let typed = report.results.get(at).filter(|one| !one.value.is_empty());
            let name = typed.map_or_else(
                || {
                    earlier
                        .get(at)
                        .map(|(_, name)| name.clone())
                        .unwrap_or_default()
                },
                |one| one.name.clone(),
            );
            (id.clone(), name)
        });
        Some(Self {
            report: last.clone(),
            results: results.collect(),
        })
    }
}

/// One result of a report, as it was typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewResult {
    /// What was measured.
    pub name: String,
    /// Its LOINC code, such as `2823-3`; may be empty.
    pub loinc: String,
    /// A number, such as `6.30` or `<0.1`, or words.
    pub value: String,
    /// Unit in UCUM; empty for words.
    pub unit: String,
    /// Lower end of the reference range; may be empty.
    pub low: String,
    /// Upper end of the reference range; may be empty.
    pub high: String,
}

/// A report on an order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewReport {
    /// What was found.
    pub results: Vec<NewResult>,
    /// What it means, in words; may be empty.
    pub conclusion: String,
    /// The report as a PDF: name and content.
    pub document: Option<(String, Vec<u8>)>,
}

impl Service {
    /// Organisations here with laboratory staff, by name.
    ///
    /// # Errors
    /// The ledger or the index fails.
    pub async fn laboratories(self: &Arc<Self>) -> Result<Vec<Named>> {
        let mut found = Vec::new();
        for organization in self.hosted_organizations()? {
            let mut has_laboratory = false;
            for account in self.accounts_of(organization, 2)? {
                let person = self.person(account)?;
                has_laboratory |= person.is_some_and(|one| one.has(role::LABORATORY));
            }
            if has_laboratory {
                found.push(self.named(organization.0).await?);
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// Orders a test: a ServiceRequest in the patient's record, and the slip for the laboratory.
    ///
    /// # Errors
    /// [`Error::Conflict`] with what is wrong with the order; else as for [`Service::write`].
    pub async fn order_test(
        self: &Arc<Self>,
        actor: &Actor,
        patient: PatientId,
        order: &NewOrder,
    ) -> Result<OrderSlip> {
        const WHAT: &str = "ordering a test";
        let wrong = |message: &str| Error::Conflict {
            message: message.to_owned(),
        };
        if order.test.is_empty() || order.test.chars().count() > NAME_MAX {
            return Err(wrong(
                "Enter what is to be measured, in at most 200 characters.",
            ));
        }
        if order.reason.chars().count() > TEXT_MAX {
            return Err(wrong("Write at most 2000 characters for the laboratory."));
        }
        let known = self.laboratories().await?;
        if !known.iter().any(|one| one.account == order.laboratory.0) {
            return Err(wrong("Choose a laboratory."));
        }
        let who = self.demographics(actor, patient).await?;
        let now = self.clock.now();
        let mut made = json!({
            "resourceType": "ServiceRequest", "status": "active", "intent": "order",
            "category": [{ "coding": [{ "system": "http://snomed.info/sct", "code": "108252007", "display": "Laboratory procedure" }] }],
            "priority": if order.is_urgent { "urgent" } else { "routine" },
            "code": { "text": order.test },
            "subject": { "reference": format!("Patient/{}", who.id) },
            "authoredOn": now.to_instant(),
            "requester": { "reference": practitioner(actor.account) },
            "performer": [{ "reference": organization(order.laboratory.0) }],
        });
        if let (false, Some(members)) = (order.reason.is_empty(), made.as_object_mut()) {
            members.insert("note".into(), json!([{ "text": order.reason }]));
        }
        let resource = parse::edited(made.to_string()).map_err(invalid)?;
        let written = self.write(actor, vec![Write::Create { resource }]).await?;
        let id = written.into_iter().next().map(|one| one.id);
        let slip = OrderSlip {
            id: id.ok_or_else(|| Error::internal(WHAT, "no result"))?,
            patient: patient.0,
            name: who.listed,
            born: who.born,
            orderer: actor.account,
            laboratory: order.laboratory.0,
            test: order.test.clone(),
            reason: order.reason.clone(),
            is_urgent: order.is_urgent,
            at: now,
            answered: None,
            corrected: None,
            filed: None,
        };
        self.keep_order(&slip)?;
        for account in self.accounts_of(order.laboratory, 2)? {
            let person = self.person(account)?;
            if person.is_some_and(|one| one.kind == PersonKind::Staff && one.has(role::LABORATORY))
            {
                let notice = Notice {
                    kind: NoticeKind::OrderReceived,
                    at: now,
                    who: Some(patient.0),
                };
                self.tell(account, &notice, &format!("order/{}", slip.id))?;
            }
        }
        Ok(slip)
    }

    /// Orders addressed to the actor's laboratory: those that wait, and those answered lately.
    ///
    /// # Errors
    /// The actor is no laboratory staff.
    pub fn orders(&self, actor: &Actor) -> Result<(Vec<OrderSlip>, Vec<OrderSlip>)> {
        self.require_laboratory(actor)?;
        let list = |is_open| -> Result<Vec<OrderSlip>> {
            self.index
                .local()
                .orders_of(actor.organization.0, is_open, LISTED_MAX)
                .map_err(Error::index("listing orders"))?
                .iter()
                .map(|document| read(document))
                .collect()
        };
        Ok((list(true)?, list(false)?))
    }

    /// An order addressed to the actor's laboratory.
    ///
    /// # Errors
    /// [`Error::NotFound`] also for those of others.
    pub fn order(&self, actor: &Actor, id: &str) -> Result<OrderSlip> {
        self.require_laboratory(actor)?;
        self.index
            .local()
            .order(id)
            .map_err(Error::index("reading an order"))?
            .map(|document| read(&document))
            .transpose()?
            .filter(|slip| slip.laboratory == actor.organization.0)
            .ok_or_else(|| Error::not_found("order", id))
    }

    /// Writes the results of an order into the patient's record, all or none, and tells who ordered. The patient is told
    /// as of every new entry.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it is answered already or a result can't be read; [`Error::NotPermitted`] without the
    /// patient's permission to add.
    pub async fn answer_order(
        self: &Arc<Self>,
        actor: &Actor,
        id: &str,
        report: &NewReport,
    ) -> Result<()> {
        let slip = self.order(actor, id)?;
        if slip.answered.is_some() {
            return Err(Error::Conflict {
                message: "This order is answered already.".into(),
            });
        }
        self.send_report(actor, &slip, report, NoticeKind::ResultReady)
            .await
    }

    /// Corrects the answer to an order: the report takes the place of the one before, whose entries get new versions. A row
    /// of it whose value is empty is marked as a mistake. Patient and orderer are told.
    ///
    /// # Errors
    /// As for [`Service::answer_order`]; [`Error::Conflict`] where there is no answer to correct.
    pub async fn correct_order(
        self: &Arc<Self>,
        actor: &Actor,
        id: &str,
        report: &NewReport,
    ) -> Result<()> {
        let slip = self.order(actor, id)?;
        if slip.filed.is_none() {
            return Err(Error::Conflict {
                message:
                    "What was written for this order is not known here, so it cannot be corrected on this page."
                        .into(),
            });
        }
        self.send_report(actor, &slip, report, NoticeKind::ResultCorrected)
            .await
    }

    /// Writes a report, all or nothing, and tells who ordered it.
    async fn send_report(
        self: &Arc<Self>,
        actor: &Actor,
        slip: &OrderSlip,
        report: &NewReport,
        kind: NoticeKind,
    ) -> Result<()> {
        let rows = slip.filed.as_ref().map_or(0, |filed| filed.results.len());
        if let Some((_, message)) = report_problems(report, rows).into_iter().next() {
            return Err(Error::Conflict { message });
        }
        let now = self.clock.now();
        let subject = self.patient_reference(PatientId(slip.patient))?;
        let made = transaction(slip, actor, &subject, report, now);
        let resource = parse::edited(made.to_string()).map_err(invalid)?;
        let plan = bundle::parse(resource).map_err(invalid)?;
        let written: Vec<String> = self
            .bundle(actor, plan)
            .await?
            .into_iter()
            .filter_map(|entry| Some(entry.written?.id))
            .collect();
        let mut slip = slip.clone();
        slip.filed = Filed::of(slip.filed.as_ref(), report, &written);
        match slip.answered {
            None => slip.answered = Some(now),
            Some(_) => slip.corrected = Some(now),
        }
        self.keep_order(&slip)?;
        let notice = Notice {
            kind,
            at: now,
            who: Some(slip.patient),
        };
        let source = match slip.corrected {
            None => format!("result/{}", slip.id),
            Some(at) => format!("corrected/{}/{}", slip.id, at.0),
        };
        self.tell(slip.orderer, &notice, &source)
    }

    fn keep_order(&self, slip: &OrderSlip) -> Result<()> {
        const WHAT: &str = "keeping an order";
        let document = serde_json::to_vec(slip).map_err(|e| Error::internal(WHAT, e))?;
        self.index
            .local()
            .put_order(
                &slip.id,
                slip.laboratory,
                &document,
                slip.answered.is_none(),
                slip.answered.unwrap_or(slip.at),
            )
            .map_err(Error::index(WHAT))
    }

    fn require_laboratory(&self, actor: &Actor) -> Result<()> {
        let person = self.person(actor.account)?;
        if person.is_some_and(|one| one.kind == PersonKind::Staff && one.has(role::LABORATORY)) {
            return Ok(());
        }
        Err(Error::NotPermitted {
            message: "This is for laboratory staff.".into(),
        })
    }
}

fn practitioner(account: Address) -> String {
    format!("Practitioner/{}", hex::encode(account))
}

fn organization(account: Address) -> String {
    format!("Organization/{}", hex::encode(account))
}

fn read(document: &[u8]) -> Result<OrderSlip> {
    serde_json::from_slice(document).map_err(|error| Error::internal("reading an order", error))
}

fn invalid(issues: Vec<stele_fhir::outcome::Issue>) -> Error {
    Error::Invalid {
        issues,
        unreadable: false,
    }
}

#[cfg(test)]
mod tests;
