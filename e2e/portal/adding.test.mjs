// Entries that a patient who holds the keys adds: sealed in the browser, signed by the passkey, read by those with access.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { patients, signedUp, sound, world } from "./browser.mjs";

const DEADLINE = { timeout: 240_000 };

let patient;
let resource;
/** Bodies that the page sent. */
let sent;

/** What the hospital, which holds a grant, finds by FHIR. */
async function found(query) {
  const { fhir, token } = await world();
  const answer = await fetch(`${fhir}/${query}`, { headers: { authorization: `Bearer ${token}` } });
  const bundle = await answer.json();
  assert.equal(answer.status, 200, JSON.stringify(bundle));
  return (bundle.entry ?? []).map((one) => one.resource);
}

const entries = ({ page }) => page.locator("#timeline article.entry");

async function fill({ page, base }, kind, values) {
  await page.goto(`${base}/record/add/${kind}`);
  for (const [label, value] of Object.entries(values)) await page.getByLabel(label).fill(value);
}

const add = ({ page }) => page.getByRole("button", { name: "Add to your record" }).click();

/** FR-P04: an entry is sealed in the browser, stands on the ledger at once, and those with access read it. */
test("a blood pressure is sealed in the browser and read by who has access", DEADLINE, async () => {
  const { stele, data } = await world();
  [resource] = await patients();
  patient = await signedUp(resource.id);
  const { page, base } = patient;
  await page.goto(`${base}/keys`);
  await page.getByRole("button", { name: "Take over my keys" }).click();
  await page.getByRole("heading", { name: "You hold the keys of your record" }).waitFor();
  sent = [];
  page.on("request", (request) => request.method() === "POST" && sent.push([new URL(request.url()).pathname, request.postDataBuffer()?.toString("latin1") ?? ""]));
  await page.goto(`${base}/record`);
  await page.getByRole("link", { name: "Add an entry" }).click();
  await page.getByRole("link", { name: "Blood pressure" }).click();
  await page.getByRole("button", { name: "Add to your record" }).waitFor();
  await sound(patient, "adding-pressure");
  // What can't be is named at its field, and nothing is sent.
  await page.getByLabel("Upper number").fill("1280");
  await page.getByLabel("Lower number").fill("82");
  await add(patient);
  await page.getByRole("alert").getByText("Enter the upper number, between 50 and 300").waitFor();
  await sound(patient, "adding-problem");
  await page.getByLabel("Upper number").fill("128");
  await page.getByLabel("Lower number").fill("130");
  await add(patient);
  await page.getByRole("alert").getByText("Enter a lower number that is below the upper one").waitFor();
  assert.deepEqual(sent, []);
  await page.getByLabel("Lower number").fill("082.0");
  await page.getByLabel("Note, if you want").fill('After a "walk" <b>& a \\ stair</b>\nof ten');
  await add(patient);
  await page.waitForURL(`${base}/record`);
  const entry = entries(patient).filter({ hasText: "128/82.0 mmHg" });
  await entry.waitFor();
  assert.match(await entry.textContent(), /Blood pressure/);
  assert.equal(await entry.locator("details.verify.ok").count(), 1);
  await entry.locator("summary").click();
  await entry.getByText("exactly what you recorded").waitFor();
  // Nothing of it can be read in what was sent.
  assert.deepEqual(sent.map(([path]) => path), ["/keys/entries/offer", "/keys/entries/sealed", "/keys/entries/signed"]);
  for (const [path, body] of sent) assert.doesNotMatch(body, /walk|8480-6|loinc|mmHg|valueQuantity/, path);
  // The hospital's grant covers measurements, so it finds the entry by its code and reads the digits as they were typed.
  const [read] = await found(`Observation?patient=${resource.id}&code=85354-9&_sort=-_lastUpdated&_count=1`);
  assert.equal(read.component[1].valueQuantity.value, 82);
  assert.equal(read.note[0].text, 'After a "walk" <b>& a \\ stair</b>\nof ten');
  assert.equal(read.performer[0].reference, `Patient/${resource.id}`);
  await stele("verify", "record", `Observation/${read.id}`, "--element", "/component/1/valueQuantity/value");
  await entry.getByRole("link", { name: "Blood pressure" }).click();
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Download the proof file" }).click()]);
  const file = join(data, "..", "added.proof.json");
  await download.saveAs(file);
  const verdict = JSON.parse(await stele("verify", "proof", file, "--genesis", join(data, "genesis.json"), "--json"));
  assert.equal(verdict.ok, true);
});

/** Other kinds of entries, and German digits. */
test("weight and how one feels are added as well", DEADLINE, async () => {
  const { page, base } = patient;
  await fill(patient, "weight", { Weight: "071.50" });
  await add(patient);
  await page.waitForURL(`${base}/record`);
  await entries(patient).filter({ hasText: "71.50 kg" }).waitFor();
  await fill(patient, "how-i-feel", {});
  await add(patient);
  await page.getByRole("alert").getByText("Write a few words").waitFor();
  await page.getByLabel("How do you feel?").fill("Tired, but well");
  await add(patient);
  await page.waitForURL(`${base}/record`);
  await entries(patient).filter({ hasText: "Tired, but well" }).waitFor();
  const felt = await found(`Observation?patient=${resource.id}&_sort=-_lastUpdated&_count=1`);
  assert.equal(felt[0].valueString, "Tired, but well");
});

/** FR-P04: a file of several blocks and of one, sealed as it is read, byte-exact back here and for who has access. */
test("files are sealed in the browser and come back byte for byte", DEADLINE, async () => {
  const { fhir, token, data } = await world();
  const { page, base } = patient;
  for (const [name, length] of [["Letter.pdf", 5 * 1024 * 1024 + 37], ["Note.txt", 11]]) {
    const content = randomBytes(length);
    sent.length = 0;
    await page.goto(`${base}/record/add/file`);
    await page.getByLabel("What is it?").fill(`From the clinic: ${name}`);
    await add(patient);
    await page.getByRole("alert").getByText("Choose a file").waitFor();
    await sound(patient, "adding-file");
    await page.getByLabel("File", { exact: true }).setInputFiles({ name, mimeType: "application/pdf", buffer: content });
    await add(patient);
    await page.waitForURL(/\/record\/DocumentReference\//);
    await page.getByRole("heading", { name: `From the clinic: ${name}` }).waitFor();
    await sound(patient, "adding-file-entry");
    const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Download the file" }).click()]);
    assert.equal(download.suggestedFilename(), name);
    const file = join(data, "..", name);
    await download.saveAs(file);
    assert.ok(readFileSync(file).equals(content), name);
    for (const [path, body] of sent) assert.doesNotMatch(body, /From the clinic|Letter\.pdf|Note\.txt|application\/pdf/, path);
    assert.ok(sent.every(([, body]) => !body.includes(content.subarray(0, 11).toString("latin1"))));
    const [document] = await found(`DocumentReference?patient=${resource.id}&_sort=-_lastUpdated&_count=1`);
    const { url, size } = document.content[0].attachment;
    assert.equal(size, length);
    const answer = await fetch(`${fhir}/${url}`, { headers: { authorization: `Bearer ${token}`, accept: "application/pdf" } });
    assert.equal(answer.status, 200);
    assert.equal(answer.headers.get("content-type"), "application/pdf");
    assert.ok(Buffer.from(await answer.arrayBuffer()).equals(content), `${name} for the hospital`);
    // The content has a page of its own as well.
    await page.goto(`${base}/record/${url}`);
    await page.getByRole("button", { name: "Download the file" }).waitFor();
  }
});

/** What is not signed is not recorded, and what would be signed is read by the browser first. */
test("nothing is recorded without the passkey, or where the server would have something else signed", DEADLINE, async () => {
  const { page, base } = patient;
  const all = async () => (await (await page.request.get(`${base}/keys/records`)).json()).leaves.length;
  const before = await all();
  await fill(patient, "weight", { Weight: "72" });
  // The person gives the passkey's question up.
  await page.evaluate(() => {
    const { get } = navigator.credentials;
    navigator.credentials.get = () => {
      navigator.credentials.get = get;
      return Promise.reject(new DOMException("given up", "NotAllowedError"));
    };
  });
  await add(patient);
  await page.getByRole("alert").getByText("did not confirm").waitFor();
  assert.equal(await all(), before);
  // Another account's log, as if the server had put the leaf elsewhere.
  await page.route("**/keys/entries/sealed*", async (route) => {
    const answer = await route.fetch();
    const body = await answer.json();
    const flipped = body.call.slice(0, -200) + (body.call.at(-200) === "0" ? "1" : "0") + body.call.slice(-199);
    await route.fulfill({ response: answer, json: { ...body, call: flipped } });
  });
  await add(patient);
  await page.getByRole("alert").getByText("something else signed").waitFor();
  assert.equal(await all(), before);
  await page.unroute("**/keys/entries/sealed*");
  await add(patient);
  await page.waitForURL(`${base}/record`);
  await entries(patient).filter({ hasText: "72 kg" }).waitFor();
  assert.equal(await all(), before + 1);
});

/** FR-P04: results over time, and what changed from version to version, as patients with managed keys see them. */
test("results over time and earlier versions are put together in the browser", DEADLINE, async () => {
  const { fhir, token } = await world();
  const { page, base } = patient;
  await page.goto(`${base}/record`);
  await entries(patient).filter({ hasText: "72 kg" }).getByRole("link", { name: "Body Weight" }).click();
  const chart = page.locator("svg.trend");
  await chart.waitFor();
  assert.ok((await chart.locator("circle").count()) >= 2);
  await page.getByText("Show the numbers as a table").click();
  const numbers = await page.locator("#trend tbody tr").allTextContents();
  assert.ok(numbers.some((line) => line.includes("71.50 kg")), numbers.join());
  assert.equal(numbers.length, await chart.locator("circle").count());
  await sound(patient, "keys-trend");
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/fhir+json" };
  const observation = { resourceType: "Observation", status: "preliminary", code: { text: "Amended later" }, subject: { reference: `Patient/${resource.id}` }, valueString: "first words" };
  const made = await (await fetch(`${fhir}/Observation`, { method: "POST", headers, body: JSON.stringify(observation) })).json();
  const amended = { ...made, status: "amended", valueString: "other words", note: [{ text: "why" }] };
  const answer = await fetch(`${fhir}/Observation/${made.id}`, { method: "PUT", headers, body: JSON.stringify(amended) });
  assert.equal(answer.status, 200, await answer.text());
  await page.goto(`${base}/record/Observation/${made.id}`);
  await page.getByRole("heading", { name: "2 versions" }).waitFor();
  const table = page.locator("#versions table");
  assert.match(await table.locator("del").allTextContents().then((all) => all.join("|")), /first words/);
  assert.match(await table.locator("ins").allTextContents().then((all) => all.join("|")), /other words.*why|why.*other words/);
  await sound(patient, "keys-versions");
  // An earlier version that is not what was recorded is held back.
  await page.route("**/keys/records/Observation/*?version=1", async (route) => {
    const fetched = await route.fetch();
    const body = await fetched.json();
    body.entries[0].leaf.content = `0x${"00".repeat(32)}`;
    await route.fulfill({ response: fetched, json: body });
  });
  await page.reload();
  await page.getByText("Version 1 does not open, or is not what was recorded.").waitFor();
  await page.unroute("**/keys/records/Observation/*?version=1");
});

/** What is handed over has to fit what was agreed: altered, cut off, for another place, or twice, it is refused. */
test("what does not fit the agreement is refused", DEADLINE, async () => {
  const { page, base } = patient;
  await page.goto(`${base}/record/add/weight`);
  await page.getByRole("button", { name: "Add to your record" }).waitFor();
  const answers = await page.evaluate(async () => {
    const modules = document.querySelector('script[src*="/own/app.js"]').src.replace("app.js", "");
    const load = (name) => import(`${modules}${name}.js`);
    const [{ Places, sealResource }, { root, account, send, hand }, { u32, utf8 }, { KINDS }] = await Promise.all([load("seal"), load("page"), load("bytes"), load("made")]);
    const keys = await root();
    const tried = async (change) => {
      const offer = await send("/keys/entries/offer", { records: [{ resourceType: "Observation", category: "vital-signs" }] });
      const [room] = offer.records;
      const observation = KINDS.weight.resource({ reference: offer.subject }, { when: "2026-06-30", weight: "70" });
      const made = await sealResource(new Places(keys, account), offer.author, room, observation);
      const parts = { offer: offer.id, entry: made.entry, sealed: made.sealed };
      await change(parts);
      const head = utf8(JSON.stringify([parts.entry]));
      return hand(`/keys/entries/sealed?offer=${parts.offer}`, new Blob([u32(head.length), head, parts.sealed]), () => {}).then(
        () => "taken",
        ({ message }) => message,
      );
    };
    const zero = `0x${"00".repeat(32)}`;
    const changed = (name, value) => (parts) => (parts.entry.leaf = { ...parts.entry.leaf, [name]: value });
    let first;
    return {
      whole: await tried((parts) => (first = parts)),
      // Another record's ciphertext: taking this one back would take the other's along.
      twice: await tried((parts) => {
        parts.sealed = first.sealed;
        parts.entry.leaf.cid = first.entry.leaf.cid;
      }),
      cut: await tried((parts) => (parts.sealed = parts.sealed.slice(0, 100))),
      longer: await tried((parts) => {
        parts.sealed = new Blob([parts.sealed, new Uint8Array(100)]);
        parts.entry.sealedBytes += 100;
      }),
      flipped: await tried(async (parts) => {
        const bytes = new Uint8Array(await parts.sealed.arrayBuffer());
        bytes[90] ^= 1;
        parts.sealed = new Blob([bytes]);
      }),
      record: await tried(changed("record", zero)),
      author: await tried(changed("author", `0x${"11".repeat(20)}`)),
      previous: await tried(changed("previous", `0x${"11".repeat(32)}`)),
      envelope: await tried(changed("envelopeDigest", zero)),
      tree: await tried(changed("elementRoot", zero)),
      slot: await tried((parts) => (parts.entry.leaf.categorySlot ^= 1)),
      offer: await tried((parts) => (parts.offer = "nothing")),
      type: await send("/keys/entries/offer", { records: [{ resourceType: "Patient", category: "demographics" }] }).catch(({ message }) => message),
      mine: await send("/keys/entries/offer", { records: [{ resourceType: "Patient", category: "x" }] }).catch(({ message }) => message),
    };
  });
  const { whole, ...refused } = answers;
  assert.equal(whole, "taken");
  for (const [name, words] of Object.entries(refused)) assert.notEqual(words, "taken", name);
  assert.match(refused.twice, /another record's/);
  assert.match(refused.cut, /ended early/);
  assert.match(refused.flipped, /not the one that its leaf names/);
  assert.match(refused.type, /no entries of this type/);
});
