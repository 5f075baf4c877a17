// SMART's own JavaScript client, unmodified, with a token of backend services.
// Rows: NFR-INTEROP1.

import assert from "node:assert/strict";
import { before, test } from "node:test";

import smart from "fhirclient";

import { chart, node, token } from "./node.mjs";

const DEADLINE = { timeout: 120_000 };

let client, base;

before(async () => {
  const started = await node();
  base = started.base;
  const told = await (await fetch(`${base}/.well-known/smart-configuration`)).json();
  const tokenResponse = await token(told.token_endpoint, started.key);
  // The server side of the library wants a request; there is none here to speak of.
  client = smart({ headers: {}, url: "/" }, {}).client({ serverUrl: base, clientId: "ehr", tokenResponse });
}, DEADLINE);

test("records are written, found and resolved", DEADLINE, async () => {
  const body = JSON.stringify(chart("smart", 12));
  const headers = { "content-type": "application/fhir+json" };
  await client.request({ url: base, method: "POST", body, headers });
  const { id } = await client.request("Patient/smart");
  assert.equal(id, "smart");
  const found = await client.request("Observation?patient=smart&_count=5&_sort=date", { pageLimit: 0, flat: true });
  assert.deepEqual(found.map((one) => one.id), Array.from({ length: 12 }, (_, n) => `smart-${n}`));
  const one = await client.request("Observation/smart-3", { resolveReferences: "subject" });
  assert.equal(one.subject.name[0].family, "Testfamily");
  assert.equal(client.getPath(one, "valueQuantity.value"), 5.3);
  const changed = await client.update({ ...one, subject: { reference: "Patient/smart" }, status: "amended" });
  assert.equal(changed.meta.versionId, "2");
  const patched = await client.patch("Observation/smart-3", [{ op: "replace", path: "/status", value: "corrected" }]);
  assert.equal(patched.status, "corrected");
  const { id: made } = await client.create({ ...one, id: undefined, subject: { reference: "Patient/smart" } });
  await client.delete(`Observation/${made}`);
  await assert.rejects(client.request(`Observation/${made}`), (error) => error.status === 410);
  assert.equal(await client.getFhirVersion(), "4.0.1");
});
