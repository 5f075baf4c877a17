// What the server says about itself and its records, held against the definitions by FHIR.js, which shares no code
// with the node.
// Rows: NFR-INTEROP1 (validator passes), S31, FR-R4.

import assert from "node:assert/strict";
import { before, test } from "node:test";

import { Fhir } from "fhir";

import { chart, node, token } from "./node.mjs";

const DEADLINE = { timeout: 240_000 };

const validator = new Fhir();

let ask;

before(async () => {
  const { base, http, key } = await node();
  const { access_token: bearer } = await token(`${http}/auth/token`, key);
  ask = async (method, path, body, headers = {}) => {
    const response = await fetch(`${base}${path}`, {
      method,
      headers: { authorization: `Bearer ${bearer}`, "content-type": "application/fhir+json", ...headers },
      body: body && JSON.stringify(body),
    });
    return response.json();
  };
  await ask("POST", "", chart("v", 6));
  const first = await ask("GET", "/Observation/v-0");
  await ask("PUT", "/Observation/v-0", { ...first, status: "amended" });
}, DEADLINE);

/** Errors of the validator; what it only warns of (extensions it does not know) is no mistake. */
function valid(resource, resourceType) {
  assert.equal(resource.resourceType, resourceType, JSON.stringify(resource).slice(0, 500));
  const { messages } = validator.validate(resource, { errorOnUnexpected: true });
  const errors = messages.filter(({ severity }) => severity === "error" || severity === "fatal");
  assert.deepEqual(errors, []);
}

test("the validator sees mistakes", DEADLINE, () => {
  const { valid: good } = validator.validate({ resourceType: "Observation", status: "excellent" });
  assert.equal(good, false);
});

test("the CapabilityStatement is valid R4", DEADLINE, async () => {
  const statement = await ask("GET", "/metadata");
  valid(statement, "CapabilityStatement");
  assert.equal(statement.fhirVersion, "4.0.1");
});

test("Bundles are valid R4", DEADLINE, async () => {
  for (const path of [
    "/Observation?patient=v&_count=2&_include=Observation:subject&_total=accurate",
    "/Observation/v-0/_history",
    "/Observation/_history?_count=3",
    "/Patient/v/$everything",
    "/Observation?shoe-size=44",
  ]) {
    const bundle = await ask("GET", path);
    valid(bundle, "Bundle");
    for (const { resource } of bundle.entry) if (resource) valid(resource, resource.resourceType);
  }
  const transaction = { resourceType: "Bundle", type: "batch", entry: [{ request: { method: "GET", url: "Patient/none" } }] };
  valid(await ask("POST", "", transaction), "Bundle");
});

test("refusals are valid OperationOutcomes", DEADLINE, async () => {
  valid(await ask("GET", "/Observation/none"), "OperationOutcome");
  valid(await ask("GET", "/Spaceship/none"), "OperationOutcome");
  valid(await ask("POST", "/Observation", { resourceType: "Observation", status: "excellent" }), "OperationOutcome");
  valid(await ask("DELETE", "/metadata"), "OperationOutcome");
  const kept = await ask("POST", "/Observation", { ...chart("v", 1).entry[1].resource, id: undefined }, { prefer: "respond-async" });
  valid(kept, "OperationOutcome");
});

test("AuditEvents, Provenances and differences are valid R4", DEADLINE, async () => {
  const events = await ask("GET", "/AuditEvent?patient=v");
  valid(events, "Bundle");
  assert.ok(events.entry.length > 3);
  for (const { resource } of events.entry) valid(resource, "AuditEvent");
  const provenance = await ask("GET", "/Provenance?target=Observation/v-0");
  assert.equal(provenance.entry.length, 2);
  for (const { resource } of provenance.entry) valid(resource, "Provenance");
  valid(await ask("GET", `/Provenance/${provenance.entry[0].resource.id}`), "Provenance");
  valid(await ask("GET", "/Observation/v-0/$diff"), "Parameters");
});
