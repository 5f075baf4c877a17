//! Who is who, in words: names stand in the directory as FHIR resources, found by the account.

use std::sync::Arc;

use alloy_primitives::{Address, hex};
use serde_json::Value;
use stele_core::{
    consent::Purpose,
    id::{OrganizationId, PatientId},
};
use stele_fhir::{
    search::{Handling, Options, ast::Query},
    words,
};

use crate::{
    Service, Stored,
    directory::role,
    error::{Error, Result},
    records::ACCOUNT_SYSTEM,
    session::Actor,
};

/// Most people that a search gives.
const FOUND_MAX: u32 = 30;

/// Somebody of the directory: a member of staff or an organisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The account.
    pub account: Address,
    /// Name, or what is known instead.
    pub name: String,
    /// What they are: "cardiologist"; absent for organisations.
    pub what: Option<String>,
    /// The organisation of a member of staff.
    pub organization: Option<OrganizationId>,
}

/// A patient as lists show them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demographics {
    /// The account.
    pub patient: PatientId,
    /// FHIR id of the Patient resource.
    pub id: String,
    /// Name as written.
    pub name: String,
    /// Family name in capitals, then given names: how clinical lists sort people.
    pub listed: String,
    /// Birth date as written; empty where it is not known.
    pub born: String,
    /// `female`, `male`, `other`, `unknown`, or empty.
    pub sex: String,
}

impl Service {
    /// Name and calling of an account. Somebody whose entry can't be read is named by what the ledger says.
    ///
    /// # Errors
    /// The ledger can't answer.
    pub async fn named(self: &Arc<Self>, account: Address) -> Result<Named> {
        let found = self.account(account)?;
        let (kind, fallback) = match found.map(|found| found.kind) {
            Some(1) => ("Organization", "An organisation"),
            Some(2) => ("Practitioner", "A member of staff"),
            Some(3) => ("", "A patient"),
            Some(4) => ("", "A device"),
            _ => ("", "Somebody unknown"),
        };
        let organization = found.filter(|found| found.kind == 2).map(|f| f.sponsor);
        let mut named = Named {
            account,
            name: fallback.to_owned(),
            what: found
                .filter(|found| found.kind == 2)
                .map(|found| role_words(found.roles).to_owned()),
            organization,
        };
        if kind.is_empty() {
            return Ok(named);
        }
        let reader = Actor::system(self.organization, Purpose::Treat, "portal");
        match self.read(&reader, kind, &hex::encode(account)).await {
            Ok(stored) => describe(&mut named, &stored),
            Err(Error::NotFound { .. } | Error::Gone { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(named)
    }

    /// Active staff and organisations whose name matches, for a patient who looks for somebody to share with.
    ///
    /// # Errors
    /// The index fails.
    pub async fn find_recipients(
        self: &Arc<Self>,
        actor: &Actor,
        text: &str,
    ) -> Result<Vec<Named>> {
        let mut found = Vec::new();
        for kind in ["Practitioner", "Organization"] {
            let mut criteria = vec![
                ("identifier".to_owned(), format!("{ACCOUNT_SYSTEM}|")),
                ("_count".to_owned(), FOUND_MAX.to_string()),
            ];
            if !text.trim().is_empty() {
                criteria.push(("name:contains".to_owned(), escaped(text.trim())));
            }
            let query = self.query(kind, &criteria)?;
            for stored in self.search(actor, &query).await?.matches {
                let Some(account) = account_of(&stored) else {
                    continue;
                };
                let Some(view) = self.account(account)?.filter(|view| view.active) else {
                    continue;
                };
                let is_staff = view.kind == 2;
                let mut named = Named {
                    account,
                    name: String::new(),
                    what: is_staff.then(|| role_words(view.roles).to_owned()),
                    organization: is_staff.then_some(view.sponsor),
                };
                describe(&mut named, &stored);
                found.push(named);
            }
        }
        Ok(found)
    }

    /// Patients whom the actor may see, by name; all where the text is empty.
    ///
    /// # Errors
    /// The index fails.
    pub async fn find_patients(
        self: &Arc<Self>,
        actor: &Actor,
        text: &str,
    ) -> Result<Vec<Demographics>> {
        let mut criteria = vec![
            ("_sort".to_owned(), "family".to_owned()),
            ("_count".to_owned(), FOUND_MAX.to_string()),
        ];
        if !text.trim().is_empty() {
            criteria.push(("name:contains".to_owned(), escaped(text.trim())));
        }
        let query = self.query("Patient", &criteria)?;
        let page = self.search(actor, &query).await?;
        let mut found = Vec::with_capacity(page.matches.len());
        for stored in &page.matches {
            if let Ok(patient) = self.patient_of(&stored.id) {
                found.push(demographics(patient, stored));
            }
        }
        Ok(found)
    }

    /// FHIR id of a patient's Patient resource.
    ///
    /// # Errors
    /// [`Error::NotFound`]
    pub fn fhir_id_of(&self, patient: PatientId) -> Result<String> {
        self.index
            .search()
            .patient_named(patient)
            .map_err(Error::index("finding a patient"))?
            .ok_or_else(|| Error::not_found("Patient", "of this account"))
    }

    /// Name, birth date and sex of a patient, as far as the actor may see them.
    ///
    /// # Errors
    /// [`Error::NotFound`] also for what may not be disclosed.
    pub async fn demographics(
        self: &Arc<Self>,
        actor: &Actor,
        patient: PatientId,
    ) -> Result<Demographics> {
        let id = self.fhir_id_of(patient)?;
        let stored = self.read(actor, "Patient", &id).await?;
        Ok(demographics(patient, &stored))
    }

    /// The place of a patient among all patients of the ledger, from 1: `PAT001`.
    ///
    /// # Errors
    /// The index fails, or there is no such patient.
    pub fn patient_number(&self, patient: PatientId) -> Result<u64> {
        self.index
            .chain()
            .patient_number(patient.0)
            .map_err(Error::index("numbering a patient"))?
            .ok_or_else(|| Error::not_found("patient account", &patient.to_string()))
    }

    /// The patient with a number.
    ///
    /// # Errors
    /// The index fails.
    pub fn patient_numbered(&self, number: u64) -> Result<Option<PatientId>> {
        self.index
            .chain()
            .patient_numbered(number)
            .map(|found| found.map(PatientId))
            .map_err(Error::index("finding a patient by number"))
    }

    /// Accounts of an organisation's active members (2) or patients (3).
    ///
    /// # Errors
    /// The index fails.
    pub fn accounts_of(&self, organization: OrganizationId, kind: u8) -> Result<Vec<Address>> {
        let found = self
            .index
            .chain()
            .accounts_of(organization.0, kind)
            .map_err(Error::index("listing an organisation's accounts"))?;
        Ok(found
            .into_iter()
            .filter(|account| account.status == 1)
            .map(|account| account.address)
            .collect())
    }

    pub(crate) fn query(
        &self,
        resource_type: &str,
        criteria: &[(String, String)],
    ) -> Result<Query> {
        let options = Options {
            handling: Handling::Strict,
            now_ms: i64::try_from(self.clock.now().0).unwrap_or(i64::MAX),
            count_max: FOUND_MAX,
            base_url: None,
        };
        stele_fhir::search::parse(resource_type, criteria, &options)
            .map(|(query, _)| query)
            .map_err(|issues| Error::Invalid {
                issues,
                unreadable: false,
            })
    }
}

/// Search values escape what separates them (FHIR R4 §3.1.1.4.0.1).
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace(',', "\\,")
        .replace('|', "\\|")
        .replace('$', "\\$")
}

fn describe(named: &mut Named, stored: &Stored) {
    let Ok(value) = serde_json::from_str::<Value>(&stored.text) else {
        return;
    };
    named.name = match value.get("name").and_then(Value::as_str) {
        Some(name) => name.to_owned(),
        None => words::full_name(&value),
    };
    if let Some(what) = value
        .pointer("/qualification/0/code")
        .and_then(words::concept)
    {
        named.what = Some(what.to_owned());
    }
}

fn account_of(stored: &Stored) -> Option<Address> {
    let value: Value = serde_json::from_str(&stored.text).ok()?;
    value
        .get("identifier")?
        .as_array()?
        .iter()
        .find(|one| one.get("system").and_then(Value::as_str) == Some(ACCOUNT_SYSTEM))
        .and_then(|one| one.get("value")?.as_str()?.parse().ok())
}

fn demographics(patient: PatientId, stored: &Stored) -> Demographics {
    let value: Value = serde_json::from_str(&stored.text).unwrap_or_default();
    let name = words::full_name(&value);
    let family = words::text_at(&value, "/name/0/family");
    let given: Vec<&str> = value
        .pointer("/name/0/given")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let listed = if family.is_empty() {
        name.clone()
    } else {
        format!("{}, {}", family.to_uppercase(), given.join(" "))
    };
    Demographics {
        patient,
        id: stored.id.clone(),
        name,
        listed,
        born: words::text_at(&value, "/birthDate").to_owned(),
        sex: words::text_at(&value, "/gender").to_owned(),
    }
}

/// The first of an account's roles, in a word.
fn role_words(roles: u32) -> &'static str {
    [
        (role::DOCTOR, "doctor"),
        (role::NURSE, "nurse"),
        (role::PHARMACIST, "pharmacist"),
        (role::LABORATORY, "laboratory staff"),
        (role::INSURANCE, "insurance staff"),
        (role::ADMINISTRATOR, "administrator"),
        (role::AUDITOR, "auditor"),
        (role::RESEARCHER, "researcher"),
    ]
    .into_iter()
    .find(|(bit, _)| roles & bit != 0)
    .map_or("member of staff", |(_, words)| words)
}
