// Medplum's HL7 client against a node: another vendor's framing and acknowledgement handling. Rows: NFR-INTEROP1, S11.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Hl7Message } from "@medplum/core";
import { Hl7Client } from "@medplum/hl7";

import { node, settled } from "./node.mjs";

const DEADLINE = { timeout: 120_000 };
let ready, get, client;

before(async () => {
  ({ ready, get } = await node());
  const [host, port] = ready.mllp.split(":");
  client = new Hl7Client({ host, port: Number(port) });
}, DEADLINE);

after(() => client.close());

const head = (kind, id) => `MSH|^~\\&|LAB|HOSP^1.2.3^ISO|EHR|US|20240301101500+0100||${kind}|${id}|P|2.5.1`;
const PERSON = "PID|1||77^^^HOSP&1.2.3&ISO^MR||Müller^Jane||19800102|F";

const send = (...segments) => client.sendAndWait(Hl7Message.parse(segments.join("\r")));
const verdict = (answer) => [answer.getSegment("MSA").getField(1).toString(), answer.getSegment("MSA").getField(2).toString()];

test("what Medplum's client sends is read back as FHIR", DEADLINE, async () => {
  assert.deepEqual(verdict(await send(head("ADT^A01^ADT_A01", "M1"), "EVN|A01|20240301", PERSON, "PV1|1|I")), ["AA", "M1"]);
  const result = [
    head("ORU^R01^ORU_R01", "M2"),
    PERSON,
    "OBR|1|P1|F1|2345-7^Glucose^LN|||202403010800|||||||||||||||||F",
    "OBX|1|NM|2345-7^Glucose^LN||6.30|mmol/L^^UCUM||||F",
  ];
  assert.deepEqual(verdict(await send(...result)), ["AA", "M2"]);
  assert.deepEqual(await settled(get), []);
  const patients = JSON.parse(await get("/fhir/r4/Patient?family=M%C3%BCller"));
  assert.equal(patients.entry.length, 1);
  const found = await get(`/fhir/r4/Observation?patient=${patients.entry[0].resource.id}`);
  assert.match(found, /"valueQuantity":\{"value":6\.30,/);
});

test("a refusal names the place", DEADLINE, async () => {
  const answer = await send(head("ADT^A01^ADT_A01", "M3"), "EVN|A01|20240301", "PID|1");
  assert.deepEqual(verdict(answer), ["AE", "M3"]);
  assert.equal(answer.getSegment("ERR").getField(2).toString(), "PID^1^3");
  assert.equal((await settled(get)).length, 1);
});
