// What a page weighs: everything that a browser fetches for it but pictures and the record itself, as it comes over the wire.

import assert from "node:assert/strict";
import { test } from "node:test";

import { patients, signedUp, world } from "./browser.mjs";

const DEADLINE = { timeout: 240_000 };
const MOST = 100_000;

/** Bytes of a page, by what they are. */
async function weigh({ page, base }, path, ready) {
  await page.goto(`${base}${path}`);
  await page.waitForLoadState("networkidle").catch(() => {});
  if (ready) await page.locator(ready).first().waitFor();
  const parts = await page.evaluate(() => {
    const all = [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")];
    return all.map(({ name, encodedBodySize, initiatorType }) => [new URL(name).pathname, encodedBodySize, initiatorType]);
  });
  const counted = parts.filter(([name, , by]) => !/\.(svg|png)$/.test(name) && !name.startsWith("/keys/records") && by !== "eventsource" && name !== "/events");
  const bytes = counted.reduce((sum, [, size]) => sum + size, 0);
  const largest = counted.toSorted((one, other) => other[1] - one[1]).slice(0, 8);
  assert.ok(bytes > 10_000, `${path}: ${bytes} bytes are less than its style alone`);
  assert.ok(bytes < MOST, `${path}: ${bytes} bytes, of which ${JSON.stringify(largest)}`);
}

/** Pages under 100 kB without images, for whoever opens them. */
test("pages weigh less than 100 kB", DEADLINE, async () => {
  const { account } = await world();
  const [{ id }] = await patients();
  const patient = await signedUp(id);
  for (const path of ["/record", "/record/add", "/record/add/blood-pressure", "/record/add/file", "/access", "/access/share", "/prescriptions", "/history", "/account", "/notices"]) {
    await weigh(patient, path);
  }
  await patient.page.goto(`${patient.base}/keys`);
  await patient.page.getByRole("button", { name: "Take over my keys" }).click();
  await patient.page.getByRole("heading", { name: "You hold the keys of your record" }).waitFor();
  await weigh(patient, "/record", "#glance h2");
  const entry = await patient.page.locator("#timeline article h3 a").first().getAttribute("href");
  await weigh(patient, entry, "#entry h1");
  for (const path of ["/record/add/weight", "/record/add/file", "/access", "/keys"]) await weigh(patient, path);
  const doctor = await signedUp(account("Dr Tomas Lind"));
  for (const path of ["/worklist", "/ask", "/account"]) await weigh(doctor, path);
});
