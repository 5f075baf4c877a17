// The portal on a phone: installable, a page for when there is no connection, nothing of a record kept on the device; and
// an address that nothing answers.

import assert from "node:assert/strict";
import { before, test } from "node:test";

import { patients, signedUp, sound, world } from "./browser.mjs";

const DEADLINE = { timeout: 180_000 };

let patient;

before(async () => {
  await world();
  const [{ id }] = await patients();
  patient = await signedUp(id, { serviceWorkers: "allow" });
}, DEADLINE);

/** NFR-UX3: what browsers ask for before they offer to install a site. */
test("the portal can be installed", DEADLINE, async () => {
  const { page, base, devtools } = patient;
  await page.goto(`${base}/record`);
  const { errors, data } = await devtools.send("Page.getAppManifest");
  assert.deepEqual(errors, []);
  const manifest = JSON.parse(data);
  assert.equal(manifest.display, "standalone");
  for (const { src, sizes, type } of manifest.icons) {
    const answer = await fetch(base + src);
    assert.equal(answer.headers.get("content-type"), type);
    const bytes = Buffer.from(await answer.arrayBuffer());
    // Width and height stand in a PNG's first chunk.
    assert.equal(`${bytes.readUInt32BE(16)}x${bytes.readUInt32BE(20)}`, sizes);
  }
  const { installabilityErrors } = await devtools.send("Page.getInstallabilityErrors");
  // The test's own windows are private ones, which install nothing.
  assert.deepEqual(installabilityErrors.map(({ errorId }) => errorId).filter((id) => id !== "in-incognito"), []);
});

/** NFR-UX3: without a connection one page says so; what a device keeps is public, whatever was looked at before. */
test("offline, a page says so, and the device holds nothing of the record", DEADLINE, async () => {
  const { page, base, context } = patient;
  await page.goto(`${base}/record`);
  await page.evaluate(() => navigator.serviceWorker.ready.then(() => {}));
  // Once more under the worker, with an entry's page and the history.
  for (const path of ["/record", "/history", "/access"]) await page.goto(base + path);
  const kept = await page.evaluate(async () => {
    const all = [];
    for (const name of await caches.keys()) {
      const cache = await caches.open(name);
      for (const { url } of await cache.keys()) all.push({ path: new URL(url).pathname, text: await (await cache.match(url)).clone().text() });
    }
    return all;
  });
  assert.ok(kept.length > 5);
  for (const { path, text } of kept) {
    assert.match(path, /^\/(assets\/([0-9a-f]{16}\/own\/)?[\w.-]+|offline)$/);
    assert.doesNotMatch(text, /REC\d+|PAT\d{3}/, path);
  }
  await context.setOffline(true);
  await page.goto(`${base}/record`);
  await page.getByRole("heading", { name: "You are offline" }).waitFor();
  await page.getByText("Nothing of the record is kept on the device").waitFor();
  await context.setOffline(false);
  await page.getByRole("link", { name: "Try again" }).click();
  await page.getByRole("heading", { name: "Your record" }).waitFor();
  await page.goto(`${base}/offline`);
  await sound(patient, "offline");
});

/** People get a page where a program gets FHIR's words. */
test("an address that nothing answers is told by a page", DEADLINE, async () => {
  const { page, base } = patient;
  const answer = await page.goto(`${base}/recrod`);
  assert.equal(answer.status(), 404);
  assert.match(answer.headers()["content-security-policy"], /^default-src 'none'/);
  await page.getByRole("heading", { name: "There is nothing here" }).waitFor();
  await sound(patient, "nothing-here");
  const program = await fetch(`${base}/recrod`, { headers: { accept: "application/fhir+json" } });
  assert.equal(program.status, 404);
  assert.equal((await program.json()).resourceType, "OperationOutcome");
  const fhir = await fetch(`${base}/fhir/r4/NoSuchType/1`, { headers: { accept: "text/html" } });
  assert.doesNotMatch(await fhir.text(), /<html/);
});
