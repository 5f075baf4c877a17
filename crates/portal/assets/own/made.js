// What a patient adds, as FHIR: the same resources as the portal makes for patients whose organisation keeps the keys
// (`views/own.rs`); a test holds them against each other.

import { Digits } from "./seal.js";

const LOINC = "http://loinc.org";

const coded = (code, display) => ({ coding: [{ system: LOINC, code, display }], text: display });

const quantity = (value, unit, code) => ({ value: new Digits(value), unit, system: "http://unitsofmeasure.org", code });

const vital = [{ coding: [{ system: "http://terminology.hl7.org/CodeSystem/observation-category", code: "vital-signs" }] }];

const observation = (subject, { when }, parts) => ({
  resourceType: "Observation", status: "final", subject, performer: [subject], effectiveDateTime: when, ...parts,
});

const noted = ({ note }) => (note ? { note: [{ text: note }] } : {});

/** By the name of the form: the part of the record, and the resource of what was typed. */
export const KINDS = {
  "blood-pressure": {
    category: "vital-signs",
    resource: (subject, values) =>
      observation(subject, values, {
        category: vital,
        code: coded("85354-9", "Blood pressure"),
        component: [
          { code: coded("8480-6", "Systolic blood pressure"), valueQuantity: quantity(values.upper, "mmHg", "mm[Hg]") },
          { code: coded("8462-4", "Diastolic blood pressure"), valueQuantity: quantity(values.lower, "mmHg", "mm[Hg]") },
        ],
        ...noted(values),
      }),
  },
  weight: {
    category: "vital-signs",
    resource: (subject, values) =>
      observation(subject, values, {
        category: vital, code: coded("29463-7", "Body Weight"), valueQuantity: quantity(values.weight, "kg", "kg"), ...noted(values),
      }),
  },
  "how-i-feel": {
    // Where an observation without a code of its own belongs.
    category: "laboratory",
    resource: (subject, values) => observation(subject, values, { code: { text: "How I feel" }, valueString: values.note }),
  },
};

/** The entry of a file: what is said of it, and where its content is (`stele_service::people::files`). */
export const fileEntry = (subject, { title, when, note }, { lastUpdated }, { id }, file) => ({
  resourceType: "DocumentReference", status: "current", subject, author: [subject], date: lastUpdated,
  type: { text: title },
  context: { period: { start: when } },
  ...(note ? { description: note } : {}),
  content: [{
    attachment: {
      contentType: file.type || "application/octet-stream", url: `Binary/${id}`, title: file.name, creation: when,
      // FHIR's size is 32 bits wide; the Binary itself knows the length of a larger file.
      ...(file.size < 2 ** 32 ? { size: file.size } : {}),
    },
  }],
});
