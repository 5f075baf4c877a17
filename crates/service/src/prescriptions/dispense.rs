//! Dispensing: the ledger decides who was first; then the record says so, where the pharmacist may add to it.

use std::sync::Arc;

use alloy_primitives::hex;
use serde_json::{Value, json};
use stele_core::{
    abi::prescriptions::IPrescriptions::dispenseCall,
    consent::Permissions,
    id::{PRESCRIPTIONS, PatientId},
    prescription::Code,
};
use stele_fhir::{category::Category, parse};
use stele_index::prescriptions::Dispensing;

use super::{
    GAS, PRESCRIPTION_SYSTEM,
    check::{Checked, Verdict, parsed},
    in_words,
};
use crate::{
    Service, Write, Written,
    directory::role,
    error::{Error, Result},
    session::Actor,
    transactions::Order,
};

const WHAT: &str = "dispensing";
/// Most dispensings of one pharmacist that are listed.
const LISTED_MAX: u32 = 50;

/// A dispensing that is final.
#[derive(Debug)]
pub struct Dispensed {
    /// The prescription after it.
    pub checked: Checked,
    /// Portions dispensed.
    pub portions: u16,
    /// The MedicationDispense in the patient's record; absent where the pharmacist may not add to it: then the ledger
    /// alone says what was dispensed.
    pub written: Option<Written>,
}

impl Service {
    /// Dispenses portions of a prescription whose code the pharmacist was shown.
    ///
    /// # Errors
    /// [`Error::Conflict`] with the reason where nothing may be dispensed, also where another pharmacy was first at
    /// the same moment; [`Error::NotPermitted`] for who is no pharmacist.
    pub async fn dispense(
        self: &Arc<Self>,
        actor: &Actor,
        code: &str,
        portions: u16,
    ) -> Result<Dispensed> {
        self.require_prescriptions()?;
        self.require_role(actor, role::PHARMACIST, "Only pharmacists dispense")?;
        let code = parsed(code)?;
        let before = self.checked(&code).await?;
        if before.verdict != Verdict::Good {
            return Err(Error::Conflict {
                message: before.verdict.words().to_owned(),
            });
        }
        if portions == 0 || portions > before.left {
            return Err(Error::Conflict {
                message: format!("Between 1 and {} can be dispensed.", before.left),
            });
        }
        let signature = code
            .sign(
                self.ledger.facts().chain_id,
                actor.account,
                before.sequence,
                portions,
            )
            .map_err(|error| Error::internal(WHAT, error))?;
        let call = dispenseCall {
            id: code.id(),
            sequence: before.sequence,
            portions,
            signature: signature.to_vec().into(),
        };
        let order = Order::new(PRESCRIPTIONS, &call, GAS);
        if let Err(error) = self.transactions.settle(WHAT, actor.account, order).await {
            return Err(self.overtaken(&code, &before, error).await?);
        }
        let written = self
            .record_dispensing(actor, &before, before.sequence, portions)
            .await?;
        Ok(Dispensed {
            checked: self.checked(&code).await?,
            portions,
            written,
        })
    }

    /// Why the ledger refused what was good a moment ago: mostly because another pharmacy was first.
    async fn overtaken(
        self: &Arc<Self>,
        code: &Code,
        before: &Checked,
        error: Error,
    ) -> Result<Error> {
        let now = self.checked(code).await?;
        let first = now
            .dispensings
            .iter()
            .find(|one| one.sequence == before.sequence);
        let Some(first) = first else {
            return Ok(in_words(error));
        };
        let who = self.named(first.dispenser).await?;
        Ok(Error::Conflict {
            message: format!(
                "{} dispensed {} at the same moment and was first. Nothing was dispensed by you; {} left.",
                who.name, first.portions, now.left
            ),
        })
    }

    /// Writes the MedicationDispense, where the pharmacist may add medicines to the record.
    async fn record_dispensing(
        self: &Arc<Self>,
        actor: &Actor,
        checked: &Checked,
        sequence: u16,
        portions: u16,
    ) -> Result<Option<Written>> {
        // Looked up without reading: a pharmacist without access should not stand in the history as refused.
        let located = self.locate("MedicationRequest", &checked.sheet.request)?;
        let Some(patient) = located.and_then(|version| version.placement.patient) else {
            return Ok(None);
        };
        if !self.may_record(actor, patient)? {
            return Ok(None);
        }
        let request = self
            .read(actor, "MedicationRequest", &checked.sheet.request)
            .await?;
        let request: Value =
            serde_json::from_str(&request.text).map_err(|error| Error::internal(WHAT, error))?;
        let pharmacist = format!("Practitioner/{}", hex::encode(actor.account));
        let identifier = format!("{}/{sequence}", checked.id);
        let mut made = json!({
            "resourceType": "MedicationDispense",
            "identifier": [{ "system": PRESCRIPTION_SYSTEM, "value": identifier }],
            "status": "completed",
            "medicationCodeableConcept": { "text": checked.sheet.medicine },
            "subject": request.get("subject").cloned().unwrap_or_default(),
            "performer": [{ "actor": { "reference": pharmacist } }],
            "authorizingPrescription": [{ "reference": format!("MedicationRequest/{}", checked.sheet.request) }],
            "quantity": { "value": portions, "unit": checked.sheet.portion },
            "whenHandedOver": self.clock.now().to_instant(),
        });
        if !checked.sheet.dose.is_empty()
            && let Some(members) = made.as_object_mut()
        {
            let dose = json!([{ "text": checked.sheet.dose }]);
            members.insert("dosageInstruction".into(), dose);
        }
        let resource = parse::edited(made.to_string()).map_err(|issues| Error::Invalid {
            issues,
            unreadable: false,
        })?;
        let written = self.write(actor, vec![Write::Create { resource }]).await?;
        Ok(written.into_iter().next())
    }

    fn may_record(&self, actor: &Actor, patient: PatientId) -> Result<bool> {
        for permission in [Permissions::READ, Permissions::WRITE] {
            match self.open_parts(actor, patient, permission) {
                Ok(parts) if parts.contains(&Category::Medicines) => {}
                Ok(_) | Err(Error::NotSupported { .. }) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// What the actor dispensed, newest first.
    ///
    /// # Errors
    /// The index fails.
    pub fn dispensed_by(&self, actor: &Actor) -> Result<Vec<Dispensing>> {
        self.index
            .chain()
            .dispensings_by(actor.account, LISTED_MAX)
            .map_err(Error::index("listing dispensings"))
    }
}
