// A node with an organisation's client system registered, and tokens for it by SMART backend services.

import { createPrivateKey, generateKeyPairSync, randomUUID, sign } from "node:crypto";

import { start } from "../start.mjs";

const ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/** Starts a node; gives its FHIR base, an operator's fetch, and a client system with its own ES384 key. */
export async function node() {
  const { ready, stele } = await start();
  const admin = await stele("token", "--scope", "admin");
  const operate = async (path, body) => {
    const response = await fetch(`${ready.http}/admin/${path}`, {
      method: "POST",
      headers: { authorization: `Bearer ${admin}`, "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return response.json();
  };
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-384" });
  const jwk = { ...publicKey.export({ format: "jwk" }), kid: "k1" };
  await operate("clients", {
    id: "ehr",
    jwks: { keys: [jwk] },
    scope: "system/*.cruds",
    organization: ready.organization,
    purposes: ["TREAT"],
  });
  return { base: `${ready.http}/fhir/r4`, http: ready.http, stele, operate, key: createPrivateKey(privateKey.export({ format: "pem", type: "pkcs8" })) };
}

/** The token endpoint's answer to an assertion signed with ES384. */
export async function token(endpoint, key, scope = "system/*.cruds") {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const now = Math.floor(Date.now() / 1000);
  const claims = { iss: "ehr", sub: "ehr", aud: endpoint, exp: now + 120, jti: randomUUID() };
  const signed = `${part({ alg: "ES384", typ: "JWT", kid: "k1" })}.${part(claims)}`;
  const signature = sign("sha384", Buffer.from(signed), { key, dsaEncoding: "ieee-p1363" }).toString("base64url");
  const response = await fetch(endpoint, {
    method: "POST",
    headers: { "content-type": "application/x-www-form-urlencoded" },
    body: new URLSearchParams({
      grant_type: "client_credentials",
      client_assertion_type: ASSERTION,
      client_assertion: `${signed}.${signature}`,
      scope,
    }),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(JSON.stringify(answer));
  return answer;
}

/** A patient with observations, as a transaction; `first` is told apart by its numbers. */
export function chart(patient, count) {
  const observations = Array.from({ length: count }, (_, n) => ({
    resource: {
      resourceType: "Observation",
      id: `${patient}-${n}`,
      status: "final",
      category: [{ coding: [{ system: "http://terminology.hl7.org/CodeSystem/observation-category", code: "laboratory" }] }],
      code: { coding: [{ system: "http://loinc.org", code: "4548-4" }] },
      subject: { reference: `Patient/${patient}` },
      effectiveDateTime: `2026-03-${String(n + 1).padStart(2, "0")}`,
      valueQuantity: { value: 5 + n / 10, unit: "%", system: "http://unitsofmeasure.org", code: "%" },
    },
    request: { method: "PUT", url: `Observation/${patient}-${n}` },
  }));
  const resource = {
    resourceType: "Patient",
    id: patient,
    active: true,
    name: [{ family: "Testfamily", given: ["Given"] }],
    birthDate: "1970-01-02",
  };
  return {
    resourceType: "Bundle",
    type: "transaction",
    entry: [{ resource, request: { method: "PUT", url: `Patient/${patient}` } }, ...observations],
  };
}
