// A long record at the portal: two thousand entries, page by page, by day, by kind and by name, while it changes.

import assert from "node:assert/strict";
import { before, test } from "node:test";

import { signedUp, sound, world } from "./browser.mjs";

const DEADLINE = { timeout: 300_000 };
const ENTRIES = 2_000;
const BATCH = 250;
const NAMES = ["Potassium", "Sodium", "Glucose", "Haemoglobin", "Creatinine"];

let node, patient;

/** One FHIR request of the hospital's own system. */
async function fhir(path, method = "GET", resource = undefined) {
  const headers = { authorization: `Bearer ${node.token}`, "content-type": "application/fhir+json" };
  const answer = await fetch(`${node.fhir}${path}`, { method, headers, body: resource && JSON.stringify(resource) });
  const text = await answer.text();
  assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${text}`);
  return text && JSON.parse(text);
}

const result = (number, more = {}) => ({
  resourceType: "Observation",
  id: `long-${number}`,
  status: "final",
  category: [{ coding: [{ system: "http://terminology.hl7.org/CodeSystem/observation-category", code: "laboratory" }] }],
  code: { text: NAMES[number % NAMES.length] },
  subject: { reference: `Patient/${patient.id}` },
  // Not in the order in which they are recorded, some on the same day.
  effectiveDateTime: new Date(Date.UTC(2015, 0, 1 + ((number * 7) % 3_000), number % 24)).toISOString(),
  valueQuantity: { value: 1 + (number % 90) / 10, unit: "mmol/L" },
  ...more,
});

/** What the page lists: number of each entry in the record, in order. */
const listed = (page) => page.locator("article .mono").allTextContents();
const months = async (page) => (await page.locator("section.month > h2").allTextContents()).map((month) => Date.parse(`1 ${month} UTC`));

before(async () => {
  node = await world();
  const created = await fhir("/Patient", "POST", { resourceType: "Patient", name: [{ family: "Long", given: ["Lena"] }], birthDate: "1951-02-03", gender: "female" });
  patient = { id: created.id };
  for (let begin = 0; begin < ENTRIES; begin += BATCH) {
    const entry = Array.from({ length: BATCH }, (_, at) => {
      const resource = result(begin + at);
      return { resource, request: { method: "PUT", url: `Observation/${resource.id}` } };
    });
    await fhir("", "POST", { resourceType: "Bundle", type: "transaction", entry });
  }
  const problem = (id, state, text) =>
    fhir(`/Condition/${id}`, "PUT", {
      resourceType: "Condition",
      id,
      clinicalStatus: { coding: [{ system: "http://terminology.hl7.org/CodeSystem/condition-clinical", code: state }] },
      category: [{ coding: [{ system: "http://terminology.hl7.org/CodeSystem/condition-category", code: "problem-list-item" }] }],
      code: { text },
      subject: { reference: `Patient/${patient.id}` },
      onsetDateTime: "2001-05-06",
    });
  await problem("long-asthma", "active", "Asthma");
  await problem("long-fracture", "resolved", "Broken wrist");
  Object.assign(patient, await signedUp(patient.id));
}, DEADLINE);

/** FR-P04: the record newest first, a page at a time; each entry on one page, also while others are added and amended. */
test("a long record is read to its end", DEADLINE, async () => {
  const { page, base } = patient;
  await page.goto(`${base}/record`);
  await page.getByText("2002 entries, newest first").waitFor();
  assert.deepEqual(await page.getByRole("complementary").getByRole("link").allTextContents(), ["Asthma"]);
  await sound(patient, "record-long");
  const seen = [];
  const heads = [];
  for (let pages = 1; ; pages++) {
    const here = await listed(page);
    assert.ok(here.length > 0 && here.length <= 50, `${here.length} entries on page ${pages}`);
    seen.push(...here);
    heads.push(...(await months(page)));
    if (pages === 5) {
      // Newer than everything, and a new version of what was seen and of what is still to come.
      await fhir("/Observation/long-new", "PUT", result(1, { id: "long-new", effectiveDateTime: "2026-01-02" }));
      for (const number of [1, 1_500]) await fhir(`/Observation/long-${number}`, "PUT", result(number, { status: "amended" }));
      await node.stele("erase", "Observation/long-1234", "--yes");
    }
    const older = page.getByRole("link", { name: "Show older entries" });
    if (!(await older.count())) break;
    const next = new URL(await older.getAttribute("href"), base).href;
    assert.doesNotMatch(decodeURIComponent(next), /\d{4}-\d\d|Potassium/, "an address says nothing of the record");
    await page.goto(next);
    await page.getByRole("link", { name: "Show the newest entries" }).waitFor();
  }
  assert.equal(new Set(seen).size, seen.length, "an entry was shown twice");
  // Whether the erased one was seen before is chance; all others are there.
  assert.ok(seen.length === ENTRIES + 1 || seen.length === ENTRIES + 2, `${seen.length} entries`);
  assert.deepEqual(heads, heads.toSorted((a, b) => b - a), "newest month first");
  await page.getByRole("link", { name: "Show the newest entries" }).click();
  await page.getByText("2002 entries, newest first").waitFor();
  assert.match(await page.locator("article").first().textContent(), /2 January 2026/);
  assert.deepEqual(patient.wrong, []);
});

/** FR-P06: filters by kind, name and day ask the index; what they show is what there is. */
test("a long record is filtered", DEADLINE, async () => {
  const { page, base } = patient;
  await page.goto(`${base}/record`);
  await page.getByLabel("Show").selectOption("problems");
  await page.getByRole("button", { name: "Apply" }).click();
  await page.getByText("2 entries, newest first").waitFor();
  await page.getByLabel("Show").selectOption("results");
  await page.getByLabel("From day").fill("2016-03-01");
  await page.getByLabel("To day").fill("2016-03-31");
  await page.getByRole("button", { name: "Apply" }).click();
  await page.getByRole("heading", { name: "March 2016" }).waitFor();
  const inMarch = Array.from({ length: ENTRIES }, (_, number) => result(number)).filter(({ effectiveDateTime }) => effectiveDateTime.startsWith("2016-03"));
  assert.equal((await listed(page)).length, inMarch.length);
  assert.equal((await months(page)).length, 1);
  await page.goto(`${base}/record?find=hAemo`);
  const names = await page.locator("article h3").allTextContents();
  assert.ok(names.length >= 25 && names.every((name) => name === "Haemoglobin"), `${names.length}: ${[...new Set(names)]}`);
  await page.goto(`${base}/record?find=nothing+like+it`);
  await page.getByText("No entry fits.").waitFor();
  for (const [query, status] of [["from=yesterday", 400], ["until=2026-02-30", 400], ["older=AAAA", 422]]) {
    assert.equal((await page.goto(`${base}/record?${query}`)).status(), status, query);
  }
});

/** A result over time has the newest dozen of the same name, and a clinician's chart the newest of each section. */
test("a doctor reads a long chart section by section", DEADLINE, async () => {
  const { page, base } = patient;
  await page.goto(`${base}/record/Observation/long-10`);
  await page.getByRole("heading", { name: "Over time" }).waitFor();
  assert.equal(await page.locator("svg.trend circle").count(), 12);
  await page.goto(`${base}/account`);
  const number = (await page.locator("dd.mono").first().textContent()).trim();
  const doctor = await signedUp(node.account("Dr Ana Reyes"));
  await doctor.page.goto(`${base}/patients/${number}`);
  const problems = doctor.page.locator("#problems");
  // What lasts stands before what ended.
  assert.deepEqual(await problems.locator("tbody th").allTextContents(), ["Asthma", "Broken wrist"]);
  const results = doctor.page.locator("#results");
  assert.equal(await results.locator("tbody tr").count(), 25);
  await sound(doctor, "chart-long");
  await results.getByRole("link", { name: /older/ }).click();
  await doctor.page.getByText("2000 entries").waitFor();
  const seen = [];
  for (;;) {
    seen.push(...(await doctor.page.locator("tbody th a").evaluateAll((links) => links.map(({ href }) => href))));
    if (seen.length === 100) await sound(doctor, "chart-section");
    const older = doctor.page.getByRole("link", { name: "Show older entries" });
    if (!(await older.count())) break;
    await doctor.page.goto(new URL(await older.getAttribute("href"), base).href);
    await doctor.page.getByRole("link", { name: "Show the newest entries" }).waitFor();
  }
  assert.deepEqual([seen.length, new Set(seen).size], [2_000, 2_000]);
});
