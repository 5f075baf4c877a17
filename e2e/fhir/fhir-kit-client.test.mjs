// fhir-kit-client, unmodified: discovery, every interaction, pages.
// Rows: NFR-INTEROP1 (FHIR R4 API with CapabilityStatement, used by clients that know nothing of us).

import assert from "node:assert/strict";
import { before, test } from "node:test";

import { CapabilityTool, Client } from "fhir-kit-client";

import { chart, node, token } from "./node.mjs";

const DEADLINE = { timeout: 120_000 };

let client;

before(async () => {
  const { base, key } = await node();
  client = new Client({ baseUrl: base });
  const { tokenUrl } = await client.smartAuthMetadata();
  const { access_token: bearer } = await token(String(tokenUrl), key);
  client.bearerToken = bearer;
}, DEADLINE);

const refused = (status) => (error) => error.response?.status === status && error.response.data.resourceType === "OperationOutcome";

test("the statement says what is offered", DEADLINE, async () => {
  const tool = new CapabilityTool(await client.capabilityStatement());
  assert.equal(tool.serverCan("transaction"), true);
  assert.equal(tool.resourceCan("Patient", "patch"), true);
  assert.equal(tool.resourceCan("AuditEvent", "create"), false);
  const { searchParam } = tool.resourceCapabilities({ resourceType: "Observation" });
  assert.ok(searchParam.some(({ name }) => name === "combo-code-value-quantity"));
});

test("records are written, changed, read and deleted", DEADLINE, async () => {
  const reply = await client.transaction({ body: chart("kit", 3) });
  assert.deepEqual(reply.entry.map(({ response }) => response.status), Array(4).fill("201 Created"));
  const patient = await client.read({ resourceType: "Patient", id: "kit" });
  const changed = await client.update({ resourceType: "Patient", id: "kit", body: { ...patient, gender: "female" } });
  assert.equal(changed.meta.versionId, "2");
  const { response } = Client.httpFor(changed);
  assert.equal(response.headers.get("etag"), 'W/"2"');
  const jsonPatch = [{ op: "replace", path: "/gender", value: "other" }];
  const patched = await client.patch({ resourceType: "Patient", id: "kit", jsonPatch });
  assert.equal(patched.gender, "other");
  const first = await client.vread({ resourceType: "Patient", id: "kit", version: "1" });
  assert.equal(first.gender, undefined);
  const history = await client.history({ resourceType: "Patient", id: "kit" });
  assert.deepEqual(history.entry.map(({ resource }) => resource.meta.versionId), ["3", "2", "1"]);
  const made = await client.create({ resourceType: "Observation", body: { ...chart("kit", 1).entry[1].resource, id: undefined } });
  await client.delete({ resourceType: "Observation", id: made.id });
  await assert.rejects(client.read({ resourceType: "Observation", id: made.id }), refused(410));
  await assert.rejects(client.read({ resourceType: "Observation", id: "never" }), refused(404));
  await assert.rejects(client.create({ resourceType: "Observation", body: { resourceType: "Observation" } }), refused(422));
  const batch = { resourceType: "Bundle", type: "batch", entry: [{ request: { method: "GET", url: "Patient/kit" } }] };
  assert.equal((await client.batch({ body: batch })).entry[0].resource.gender, "other");
});

test("searches are followed through their pages", DEADLINE, async () => {
  await client.transaction({ body: chart("pages", 17) });
  const searchParams = { patient: "pages", code: "http://loinc.org|4548-4", _sort: "-date", _count: 5 };
  let page = await client.search({ resourceType: "Observation", searchParams });
  const found = [];
  while (page) {
    found.push(...page.entry.map(({ resource }) => resource.id));
    page = await client.nextPage({ bundle: page });
  }
  assert.deepEqual(found, Array.from({ length: 17 }, (_, n) => `pages-${16 - n}`));
  const posted = await client.resourceSearch({
    resourceType: "Observation",
    searchParams: { patient: "pages", _summary: "count" },
    options: { postSearch: true },
  });
  assert.equal(posted.total, 17);
  const everything = await client.operation({ name: "$everything", resourceType: "Patient", id: "pages", method: "GET" });
  assert.equal(everything.entry.length, 18);
  const checked = await client.operation({ name: "$validate", resourceType: "Observation", method: "POST", input: { resourceType: "Observation" } });
  assert.ok(checked.issue.some(({ code, diagnostics }) => code === "required" && diagnostics.includes("status")));
});

test("references are resolved", DEADLINE, async () => {
  await client.transaction({ body: chart("ref", 1) });
  const observation = await client.read({ resourceType: "Observation", id: "ref-0" });
  const patient = await client.resolve({ reference: observation.subject.reference });
  assert.equal(patient.id, "ref");
});
