// How long a patient with a long record waits for its first view: STELE=target/release/stele node bench/portal/timeline.mjs 2000 10000
//
// For each size a patient gets so many entries over FHIR, signs in with a passkey in a real Chromium, and looks at the record, at
// the next page, and at one kind of entry. Printed are milliseconds at the median and the 95th percentile: of the answer over HTTP, and
// of the page in the browser up to its first contentful paint. What of the answer is the index and what is opening shows by
// the view of a kind that the record has nothing of: it asks the index for the same counts and opens the side lists only.

import { performance } from "node:perf_hooks";

import { signedUp, world } from "../../e2e/portal/browser.mjs";

const BATCH = 250;
const LOOKS = 40;
const NAMES = ["Potassium", "Sodium", "Glucose", "Haemoglobin", "Creatinine"];

const sizes = process.argv.slice(2).map(Number);
if (sizes.length === 0 || sizes.some((size) => !Number.isInteger(size) || size < 1)) {
  throw new Error("name how many entries the record has, for example 2000 10000");
}

const { fhir, token } = await world();

async function send(path, body) {
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/fhir+json" };
  const answer = await fetch(`${fhir}${path}`, { method: "POST", headers, body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
  return answer.json();
}

const entry = (patient, number) => ({
  resource: {
    resourceType: "Observation",
    status: "final",
    category: [{ coding: [{ system: "http://terminology.hl7.org/CodeSystem/observation-category", code: "laboratory" }] }],
    code: { text: NAMES[number % NAMES.length] },
    subject: { reference: `Patient/${patient}` },
    effectiveDateTime: new Date(Date.UTC(2000, 0, 1 + ((number * 7) % 9_000), number % 24)).toISOString(),
    valueQuantity: { value: 1 + (number % 90) / 10, unit: "mmol/L" },
  },
  request: { method: "POST", url: "Observation" },
});

/** Runs in the page: when something of it was first seen, in milliseconds from the start of the navigation. */
const painted = () =>
  new Promise((done) => {
    const look = (list) => {
      const paint = list.getEntries().find(({ name }) => name === "first-contentful-paint");
      if (paint) done(paint.startTime);
    };
    new PerformanceObserver(look).observe({ type: "paint", buffered: true });
  });

const spread = (times) => {
  const sorted = times.toSorted((a, b) => a - b);
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))].toFixed(0);
  return `${at(0.5).padStart(6)} ${at(0.95).padStart(6)}`;
};

console.log("entries  view                      p50    p95   (ms)");
for (const size of sizes) {
  const { id } = await send("/Patient", { resourceType: "Patient", name: [{ family: `Long${size}` }], birthDate: "1951-02-03" });
  for (let begin = 0; begin < size; begin += BATCH) {
    const many = Array.from({ length: Math.min(BATCH, size - begin) }, (_, at) => entry(id, begin + at));
    await send("", { resourceType: "Bundle", type: "transaction", entry: many });
  }
  const { page, base, context } = await signedUp(id);
  await page.goto(`${base}/record`);
  const older = new URL(await page.getByRole("link", { name: "Show older entries" }).getAttribute("href"), base).href;
  const views = { "first page": `${base}/record`, "next page": older, "one kind, none of it": `${base}/record?show=vaccines` };
  for (const [name, address] of Object.entries(views)) {
    const times = [];
    for (let look = 0; look < LOOKS; look++) {
      const began = performance.now();
      const answer = await page.request.get(address);
      await answer.body();
      times.push(performance.now() - began);
      if (answer.status() !== 200) throw new Error(`${address}: ${answer.status()}`);
    }
    console.log(`${String(size).padStart(7)}  ${name.padEnd(22)} ${spread(times)}`);
  }
  const paints = [];
  for (let look = 0; look < LOOKS; look++) {
    await page.goto(`${base}/record`);
    paints.push(await page.evaluate(painted));
  }
  console.log(`${String(size).padStart(7)}  ${"first paint".padEnd(22)} ${spread(paints)}`);
  await context.close();
}
process.exit(0);
