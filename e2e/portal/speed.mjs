// How fast a record of 2,000 entries (or as many as named) is there: on the page of a managed patient, and opened in the
// browser of a patient who holds the keys, the first time and with what the browser kept. Prints one JSON line.
//
//   STELE=$PWD/target/release/stele node e2e/portal/speed.mjs 2000

import assert from "node:assert/strict";

import { signedUp, world } from "./browser.mjs";

const COUNT = Number(process.argv[2] ?? 2000);
const RUNS = 5;
/** Entries of one transaction: as many as a visit may bring. */
const STEP = 20;
/** Entries that a page shows at once. */
const SHOWN = 50;

const node = await world();

async function send(bundle) {
  const headers = { authorization: `Bearer ${node.token}`, "content-type": "application/fhir+json" };
  const answer = await fetch(node.fhir, { method: "POST", headers, body: JSON.stringify(bundle) });
  assert.equal(answer.status, 200, await answer.clone().text());
  return answer.json();
}

async function patient() {
  const resource = { resourceType: "Patient", name: [{ family: "Speed", given: ["A"] }], birthDate: "1970-01-01" };
  const created = await send({ resourceType: "Bundle", type: "transaction", entry: [{ resource, request: { method: "POST", url: "Patient" } }] });
  const [, id] = created.entry[0].response.location.match(/Patient\/([^/]+)/);
  for (let from = 0; from < COUNT; from += STEP) {
    const entry = Array.from({ length: Math.min(STEP, COUNT - from) }, (_, at) => ({
      request: { method: "POST", url: "Observation" },
      resource: {
        resourceType: "Observation", status: "final", subject: { reference: `Patient/${id}` },
        code: { coding: [{ system: "http://loinc.org", code: "29463-7", display: "Body Weight" }], text: "Body Weight" },
        category: [{ coding: [{ system: "http://terminology.hl7.org/CodeSystem/observation-category", code: "vital-signs" }] }],
        effectiveDateTime: new Date(Date.UTC(2026, 5, 30) - (from + at) * 86_400_000).toISOString().slice(0, 10),
        valueQuantity: { value: 60 + ((from + at) % 300) / 10, unit: "kg", system: "http://unitsofmeasure.org", code: "kg" },
      },
    }));
    await send({ resourceType: "Bundle", type: "transaction", entry });
  }
  return id;
}

/** Notes when the page has the first entries, and when it has all. */
const watch = (shown) => {
  globalThis.seen = {};
  const look = () => {
    const entries = document.querySelectorAll("#timeline article.entry").length;
    if (entries >= shown) globalThis.seen.first ??= performance.now();
    if (document.querySelector("aside h2")) globalThis.seen.whole ??= performance.now();
  };
  addEventListener("DOMContentLoaded", () => {
    look();
    new MutationObserver(look).observe(document.documentElement, { childList: true, subtree: true });
  });
};

const median = (list) => Math.round(list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)]);

/** Milliseconds from the navigation on, the median of some looks. */
async function looks({ page, base }, before = async () => {}) {
  const first = [];
  const whole = [];
  for (let run = 0; run < RUNS; run += 1) {
    await before();
    await page.goto(`${base}/record`);
    await page.waitForFunction(() => globalThis.seen.first && globalThis.seen.whole, undefined, { timeout: 120_000 });
    const seen = await page.evaluate(() => globalThis.seen);
    first.push(seen.first);
    whole.push(seen.whole);
  }
  return { first: median(first), whole: median(whole) };
}

const person = await signedUp(await patient());
const { page, base } = person;
await page.addInitScript(watch, SHOWN);
const managed = await looks(person);
await page.goto(`${base}/keys`);
await page.getByRole("button", { name: "Take over my keys" }).click();
await page.getByRole("heading", { name: "You hold the keys of your record" }).waitFor();
const forget = () =>
  page.evaluate(async () => {
    const asked = (request) => new Promise((done, failed) => Object.assign(request, { onsuccess: () => done(request.result), onerror: () => failed(request.error) }));
    const database = await asked(indexedDB.open("stele-keys", 2));
    await asked(database.transaction("entries", "readwrite").objectStore("entries").clear());
    database.close();
  });
await page.goto(`${base}/record`);
await page.waitForFunction(() => globalThis.seen.whole, undefined, { timeout: 120_000 });
const opened = await looks(person, forget);
const kept = await looks(person);
console.log(JSON.stringify({ entries: COUNT, unit: "ms", managed, opened, kept }));
process.exit(0);
