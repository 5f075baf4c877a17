//! Prescriptions: a doctor prescribes, the patient shows a code, a pharmacist holds it against the ledger and dispenses.
//!
//! What is prescribed is a MedicationRequest in the patient's record with the code in an extension, and the text inside
//! the code; the ledger has neither (`docs/contracts/prescriptions.md`). Whoever is shown a code may see its text without
//! access to the record. Must never log a code, or put one in an address.

mod check;
mod dispense;

use std::sync::Arc;

use alloy_primitives::{Address, aliases::U40, hex};
use serde_json::{Value, json};
use stele_core::{
    abi::prescriptions::IPrescriptions::{cancelCall, issueCall},
    consent::Permissions,
    crypto::os_rng,
    id::{PRESCRIPTIONS, PatientId},
    prescription::{Code, Sheet},
    time::Timestamp,
};
use stele_fhir::{
    category::Category,
    outcome::{Issue, IssueCode},
    parse::{self, Resource},
    words,
};

pub use check::{Checked, Verdict};
pub use dispense::Dispensed;
pub use stele_index::prescriptions::Dispensing;

use crate::{
    Service, Stored, Write, Written,
    directory::role,
    error::{Error, Result},
    ports::BlockRef,
    records::new_id,
    session::Actor,
    transactions::Order,
};

/// System of the identifier by which a MedicationRequest names its prescription on the ledger.
pub const PRESCRIPTION_SYSTEM: &str = "https://stele.health/prescription";
/// Extension of a MedicationRequest that holds the code.
pub const CODE_EXTENSION: &str = "https://stele.health/fhir/prescription-code";
/// How long a prescription is good when nothing is said, in milliseconds: 90 days.
pub const PRESCRIPTION_MS: u64 = 90 * 24 * 3600 * 1000;

const WHAT: &str = "a prescription";
const DAY_MS: u64 = 24 * 3600 * 1000;
/// Gas that an act on a prescription may use.
pub(crate) const GAS: u64 = 300_000;
/// Longest medicine, dose and name of a portion, in characters, so that the code stays small.
const MEDICINE_MAX: usize = 120;
const DOSE_MAX: usize = 200;
const PORTION_MAX: usize = 40;
/// Most allergies that a sheet names, and their length.
const ALLERGIES_MAX: usize = 8;
const ALLERGY_MAX: usize = 40;

/// A prescription that is on the ledger and in the record.
#[derive(Debug)]
pub struct Prescribed {
    /// Its id on the ledger.
    pub id: Address,
    /// The code that the patient shows.
    pub code: String,
    /// The MedicationRequest.
    pub written: Written,
}

/// A prescription ready to be signed.
pub(crate) struct Ready {
    pub(crate) sheet: Sheet,
    pub(crate) call: issueCall,
    /// FHIR id that the MedicationRequest gets.
    pub(crate) id: String,
    pub(crate) resource: Resource,
    pub(crate) code: String,
}

/// A prescription of a record with where it stands on the ledger.
pub struct Kept {
    /// The MedicationRequest.
    pub stored: Stored,
    /// The code that the patient shows.
    pub code: Code,
    /// Where it stands.
    pub checked: Checked,
}

/// What the request asks for, read from FHIR.
struct Asked {
    patient: PatientId,
    reference: String,
    medicine: String,
    dose: String,
    portions: u16,
    portion: String,
    until: Timestamp,
}

impl Service {
    /// Prescribes: the request is issued on the ledger by the doctor's account, with the key that this node keeps, and
    /// written to the patient's record with its code.
    ///
    /// # Errors
    /// The actor is no doctor or may not add medicines to this record, the request says too little, or the ledger
    /// refuses. Then nothing is left behind.
    pub async fn prescribe(self: &Arc<Self>, actor: &Actor, request: &Value) -> Result<Prescribed> {
        let ready = self.ready(actor, request).await?;
        let order = Order::new(PRESCRIPTIONS, &ready.call, GAS);
        self.transactions.settle(WHAT, actor.account, order).await?;
        self.record_prescription(actor, ready).await
    }

    /// Writes what was issued to the record. A prescription that nobody can be shown is taken back.
    pub(crate) async fn record_prescription(
        &self,
        actor: &Actor,
        ready: Ready,
    ) -> Result<Prescribed> {
        let id = ready.call.id;
        let write = Write::Update {
            resource: ready.resource,
            id: ready.id,
            if_match: None,
        };
        let written = match self.write(actor, vec![write]).await {
            Ok(written) => written,
            Err(error) => {
                let order = Order::new(PRESCRIPTIONS, &cancelCall { id }, GAS);
                self.transactions
                    .settle("taking back a prescription", actor.account, order)
                    .await?;
                return Err(error);
            }
        };
        let written = written
            .into_iter()
            .next()
            .ok_or_else(|| Error::internal(WHAT, "nothing was written"))?;
        Ok(Prescribed {
            id,
            code: ready.code,
            written,
        })
    }

    /// Sees that the actor may prescribe this, and makes sheet, code, call and resource.
    pub(crate) async fn ready(self: &Arc<Self>, actor: &Actor, request: &Value) -> Result<Ready> {
        self.require_prescriptions()?;
        self.require_role(actor, role::DOCTOR, "Only doctors prescribe")?;
        let now = self.clock.now();
        let asked = self.asked(request, now)?;
        let may_add = self.open_parts(actor, asked.patient, Permissions::WRITE)?;
        if !may_add.contains(&Category::Medicines) {
            return Err(Error::NotPermitted {
                message: "The patient does not let you add medicines. Ask the patient.".into(),
            });
        }
        let about = self.demographics(actor, asked.patient).await?;
        let prescriber = self.named(actor.account).await?.name;
        let organization = self.named(actor.organization.0).await?.name;
        let id = new_id();
        let last = Timestamp(asked.until.0.saturating_sub(1));
        let sheet = Sheet {
            medicine: asked.medicine.clone(),
            dose: asked.dose.clone(),
            portions: asked.portions,
            portion: asked.portion.clone(),
            patient: cut(&about.name, MEDICINE_MAX),
            born: about.born,
            allergies: self.allergies(actor, asked.patient, &about.id).await?,
            prescriber: cut(&prescriber, MEDICINE_MAX),
            organization: cut(&organization, MEDICINE_MAX),
            issued: day(now),
            until: day(last),
            request: id.clone(),
        };
        let code = Code::new(&sheet, &mut os_rng())
            .map_err(|_| invalid("MedicationRequest", "it is too long for a code"))?;
        let call = issueCall {
            id: code.id(),
            commitment: code.commitment(),
            portions: asked.portions,
            expires: U40::saturating_from(asked.until.seconds()),
        };
        let made = with_code(request, &asked, &code, actor.account, now);
        let resource = parse::edited(made.to_string()).map_err(|issues| Error::Invalid {
            issues,
            unreadable: false,
        })?;
        Ok(Ready {
            sheet,
            call,
            id,
            resource,
            code: code.written(),
        })
    }

    fn asked(&self, request: &Value, now: Timestamp) -> Result<Asked> {
        let reference = words::text_at(request, "/subject/reference").to_owned();
        let patient = reference
            .strip_prefix("Patient/")
            .ok_or_else(|| invalid("MedicationRequest.subject", "it names no patient"))?;
        let medicine = request
            .get("medicationCodeableConcept")
            .and_then(words::concept)
            .unwrap_or_default();
        let dose = words::text_at(request, "/dosageInstruction/0/text");
        let portion = words::text_at(request, "/dispenseRequest/quantity/unit");
        for (text, max, at, is_needed) in [
            (medicine, MEDICINE_MAX, "medicationCodeableConcept", true),
            (dose, DOSE_MAX, "dosageInstruction[0].text", false),
            (portion, PORTION_MAX, "dispenseRequest.quantity.unit", true),
        ] {
            if text.chars().count() > max || (is_needed && text.trim().is_empty()) {
                let problem = format!("a prescription needs 1 to {max} characters here");
                return Err(invalid(&format!("MedicationRequest.{at}"), problem));
            }
        }
        let number = |pointer: &str| request.pointer(pointer).and_then(Value::as_u64);
        let repeats = number("/dispenseRequest/numberOfRepeatsAllowed").unwrap_or(0);
        let portions = number("/dispenseRequest/quantity/value")
            .and_then(|each| each.checked_mul(repeats.checked_add(1)?))
            .and_then(|all| u16::try_from(all).ok())
            .filter(|all| *all > 0)
            .ok_or_else(|| {
                invalid(
                    "MedicationRequest.dispenseRequest.quantity.value",
                    "a prescription needs a whole number of portions, 1 to 65535 with repeats",
                )
            })?;
        let end = words::text_at(request, "/dispenseRequest/validityPeriod/end");
        let until = match end_of(end) {
            Some(until) if until > now => until,
            None if end.is_empty() => midnight(now).plus_ms(PRESCRIPTION_MS.saturating_add(DAY_MS)),
            _ => {
                return Err(invalid(
                    "MedicationRequest.dispenseRequest.validityPeriod.end",
                    "a prescription ends on a day from today on, such as 2026-06-30",
                ));
            }
        };
        Ok(Asked {
            patient: self.patient_of(patient)?,
            medicine: medicine.trim().to_owned(),
            dose: dose.trim().to_owned(),
            portions,
            portion: portion.trim().to_owned(),
            until,
            reference,
        })
    }

    /// Names of the allergies that the actor may see; `None` where that part is not open.
    async fn allergies(
        self: &Arc<Self>,
        actor: &Actor,
        patient: PatientId,
        id: &str,
    ) -> Result<Option<Vec<String>>> {
        let open = self.open_parts(actor, patient, Permissions::READ)?;
        if !open.contains(&Category::Allergies) {
            return Ok(None);
        }
        let criteria = [
            ("patient".to_owned(), format!("Patient/{id}")),
            ("_count".to_owned(), "30".to_owned()),
        ];
        let query = self.query("AllergyIntolerance", &criteria)?;
        let mut names: Vec<String> = Vec::new();
        for stored in self.search(actor, &query).await?.matches {
            let Ok(value) = serde_json::from_str::<Value>(&stored.text) else {
                continue;
            };
            let is_over = matches!(
                words::status(&value),
                Some("Resolved" | "Inactive" | "Entered in error")
            );
            let name = cut(&words::title("AllergyIntolerance", &value), ALLERGY_MAX);
            if !is_over && !names.contains(&name) {
                names.push(name);
            }
        }
        if names.len() > ALLERGIES_MAX {
            names.truncate(ALLERGIES_MAX.saturating_sub(1));
            names.push("and others".to_owned());
        }
        Ok(Some(names))
    }

    /// Ends what is left of a prescription, on the ledger and in the record. For its prescriber.
    ///
    /// # Errors
    /// There is no such prescription for this actor, it is not the actor's, or it has ended.
    pub async fn cancel_prescription(
        self: &Arc<Self>,
        actor: &Actor,
        request: &str,
    ) -> Result<Written> {
        self.require_prescriptions()?;
        let stored = self.read(actor, "MedicationRequest", request).await?;
        let mut value: Value =
            serde_json::from_str(&stored.text).map_err(|error| Error::internal(WHAT, error))?;
        let code = code_of(&value).ok_or_else(no_prescription)?;
        let order = Order::new(PRESCRIPTIONS, &cancelCall { id: code.id() }, GAS);
        self.transactions
            .settle("cancelling a prescription", actor.account, order)
            .await
            .map_err(in_words)?;
        if let Some(members) = value.as_object_mut() {
            members.insert("status".into(), json!("cancelled"));
        }
        let resource = parse::edited(value.to_string()).map_err(|issues| Error::Invalid {
            issues,
            unreadable: false,
        })?;
        let write = Write::Update {
            resource,
            id: request.to_owned(),
            if_match: None,
        };
        let written = self.write(actor, vec![write]).await?;
        written
            .into_iter()
            .next()
            .ok_or_else(|| Error::internal(WHAT, "nothing was written"))
    }

    /// Prescriptions in a patient's record that the actor may see, newest first, with where each stands now.
    ///
    /// # Errors
    /// The index or the ledger fails.
    pub async fn prescriptions_of(
        self: &Arc<Self>,
        actor: &Actor,
        patient: PatientId,
    ) -> Result<Vec<Kept>> {
        if !self.has_prescriptions()? {
            return Ok(Vec::new());
        }
        let named = self
            .index
            .search()
            .patient_named(patient)
            .map_err(Error::index(WHAT))?;
        let Some(id) = named else {
            return Ok(Vec::new());
        };
        let criteria = [
            ("patient".to_owned(), format!("Patient/{id}")),
            ("identifier".to_owned(), format!("{PRESCRIPTION_SYSTEM}|")),
            ("_sort".to_owned(), "-authoredon".to_owned()),
            ("_count".to_owned(), "30".to_owned()),
        ];
        let query = self.query("MedicationRequest", &criteria)?;
        let mut kept = Vec::new();
        for stored in self.search(actor, &query).await?.matches {
            kept.extend(self.kept(stored).await?);
        }
        Ok(kept)
    }

    /// A prescription of a record, by the FHIR id of its MedicationRequest.
    ///
    /// # Errors
    /// There is none for this actor.
    pub async fn prescription(self: &Arc<Self>, actor: &Actor, request: &str) -> Result<Kept> {
        self.require_prescriptions()?;
        let stored = self.read(actor, "MedicationRequest", request).await?;
        self.kept(stored).await?.ok_or_else(no_prescription)
    }

    async fn kept(self: &Arc<Self>, stored: Stored) -> Result<Option<Kept>> {
        let value: Value = serde_json::from_str(&stored.text).unwrap_or_default();
        let Some(code) = code_of(&value) else {
            return Ok(None);
        };
        let checked = self.checked(&code).await?;
        Ok(Some(Kept {
            stored,
            code,
            checked,
        }))
    }

    /// Whether this chain has the contract: those begun by earlier versions have not.
    ///
    /// # Errors
    /// The ledger can't answer.
    pub fn has_prescriptions(&self) -> Result<bool> {
        let (_, nonce, _) = self
            .ledger
            .account(PRESCRIPTIONS, BlockRef::Latest)
            .map_err(Error::ledger(WHAT))?;
        Ok(nonce > 0)
    }

    fn require_prescriptions(&self) -> Result<()> {
        if self.has_prescriptions()? {
            return Ok(());
        }
        Err(Error::NotSupported {
            message: "This consortium's chain was begun without prescriptions.".into(),
        })
    }

    pub(crate) fn require_role(&self, actor: &Actor, roles: u32, message: &str) -> Result<()> {
        let account = self.account(actor.account)?;
        if account.is_some_and(|found| found.kind == 2 && found.active && found.roles & roles != 0)
        {
            return Ok(());
        }
        Err(Error::NotPermitted {
            message: format!("{message}."),
        })
    }
}

/// The code of a MedicationRequest that is a prescription.
fn code_of(request: &Value) -> Option<Code> {
    let extensions = request.get("extension")?.as_array()?;
    let code = extensions
        .iter()
        .find(|one| words::text_at(one, "/url") == CODE_EXTENSION)?;
    Code::parse(words::text_at(code, "/valueString")).ok()
}

/// The request as it is stored: what was sent, made an order of this doctor's, with id and code of the prescription.
fn with_code(
    request: &Value,
    asked: &Asked,
    code: &Code,
    prescriber: Address,
    now: Timestamp,
) -> Value {
    let mut made = request.clone();
    let Some(members) = made.as_object_mut() else {
        return made;
    };
    members.remove("id");
    members.insert("resourceType".into(), json!("MedicationRequest"));
    members.insert("status".into(), json!("active"));
    members.insert("intent".into(), json!("order"));
    members.insert("subject".into(), json!({ "reference": asked.reference }));
    members.insert("authoredOn".into(), json!(now.to_instant()));
    let requester = format!("Practitioner/{}", hex::encode(prescriber));
    members.insert("requester".into(), json!({ "reference": requester }));
    let mut append = |name: &str, value: Value| {
        let list = members.entry(name).or_insert_with(|| json!([]));
        if let Some(list) = list.as_array_mut() {
            list.push(value);
        }
    };
    let identifier = json!({ "system": PRESCRIPTION_SYSTEM, "value": code.id().to_string() });
    append("identifier", identifier);
    let extension = json!({ "url": CODE_EXTENSION, "valueString": code.written() });
    append("extension", extension);
    made
}

/// The first moment after a day that FHIR writes as a date or an instant.
fn end_of(written: &str) -> Option<Timestamp> {
    let format = time::macros::format_description!("[year]-[month]-[day]");
    let date = time::Date::parse(written.get(..10)?, &format).ok()?;
    let seconds = date.midnight().assume_utc().unix_timestamp();
    Some(Timestamp::from_seconds(u64::try_from(seconds).ok()?).plus_ms(DAY_MS))
}

fn midnight(now: Timestamp) -> Timestamp {
    Timestamp(now.0.saturating_sub(now.0 % DAY_MS))
}

/// `2026-06-30`
fn day(at: Timestamp) -> String {
    at.to_instant().get(..10).unwrap_or_default().to_owned()
}

fn cut(text: &str, characters: usize) -> String {
    text.chars().take(characters).collect()
}

fn invalid(at: &str, problem: impl Into<String>) -> Error {
    Error::Invalid {
        issues: vec![Issue::error(IssueCode::Invariant, problem.into()).at(at)],
        unreadable: false,
    }
}

fn no_prescription() -> Error {
    Error::not_found("prescription", "of this record")
}

/// The contract's refusals as people read them.
pub(crate) fn in_words(error: Error) -> Error {
    let (Error::Conflict { message } | Error::NotPermitted { message }) = &error else {
        return error;
    };
    let words = [
        ("PrescriptionCancelled", "It has been cancelled already."),
        ("AlreadyDispensed", "All of it has been dispensed already."),
        ("PrescriptionExpired", "It has expired."),
        ("UnknownPrescription", "It is not on the ledger."),
        (
            "NotItsPrescriber",
            "Only the doctor who prescribed it can cancel it.",
        ),
        ("NotADispenser", "Only pharmacists dispense."),
    ];
    words
        .into_iter()
        .find(|(name, _)| message.contains(name))
        .map_or(error, |(_, words)| Error::Conflict {
            message: words.to_owned(),
        })
}
