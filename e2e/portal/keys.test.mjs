// A patient who holds the keys of the record, in a real Chromium with a passkey that can keep keys: taking them over, the
// record opened in the browser, sharing it, and what a stolen session or a stolen wrapped key is worth.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { authenticator, patients, signedUp, sound, visitor, world } from "./browser.mjs";

const DEADLINE = { timeout: 240_000 };
/** What stands in every record of the demonstration in clear. */
const READABLE = /loinc\.org|snomed|Observation\.|valueQuantity|Body (Weight|Height)|mm\[Hg\]/;

let patient;
let resource;
let answers;

/** Takes the keys over on the page that offers it. */
async function takeOver({ page, base }) {
  await page.goto(`${base}/account`);
  await page.getByRole("link", { name: "Hold your keys yourself" }).click();
  await page.getByRole("button", { name: "Take over my keys" }).click();
}

const entries = ({ page }) => page.locator("#timeline article.entry");

/** Until the browser has opened all there is. */
async function opened({ page }) {
  await page.locator("#glance h2").first().waitFor();
  assert.equal(await page.locator("#doing").textContent(), "");
}

/** FR-P01: a passkey that can't keep keys is told so, and everything stays as it was. */
test("without a passkey that can keep keys the organisation goes on holding them", DEADLINE, async () => {
  const [, , { id }] = await patients();
  const person = await signedUp(id, { hasPrf: false });
  await takeOver(person);
  await person.page.getByRole("alert").getByText("can't keep keys. Nothing was changed").waitFor();
  await sound(person, "keys-no-prf");
  await person.page.goto(`${person.base}/record`);
  await person.page.locator("#timeline article.entry").first().waitFor();
  await person.page.goto(`${person.base}/account`);
  await person.page.getByText("holds the keys for you").waitFor();
  await person.context.close();
});

/** FR-P01: keys made in the browser, wrapped by the passkey, and the organisation's destroyed. */
test("a patient takes the keys over with the passkey", DEADLINE, async () => {
  const { stele } = await world();
  [resource] = await patients();
  patient = await signedUp(resource.id);
  const { page, base } = patient;
  answers = [];
  page.on("response", async (answer) => {
    const path = new URL(answer.url()).pathname;
    if (/^\/(record|keys|access|history)/.test(path)) answers.push([path, await answer.text().catch(() => "")]);
  });
  await page.goto(`${base}/keys`);
  await sound(patient, "keys-offer");
  await takeOver(patient);
  await page.getByRole("heading", { name: "You hold the keys of your record" }).waitFor();
  await page.getByText("You have one passkey").waitFor();
  await sound(patient, "keys-held");
  // Staff decide nothing for this patient any more.
  const grant = stele("grant", resource.id, "--to", `0x${"11".repeat(20)}`, "--categories", "medicines", "--days", "1");
  await assert.rejects(grant, /only the patient decides|keep(s)? their own keys/);
  const kept = await (await page.request.get(`${base}/keys/wrapped`)).json();
  assert.equal(kept.keys.length, 1);
});

/** FR-P04, FR-P06: the record is opened and verified in the browser; the node's answers hold nothing readable. */
test("the record is opened in the browser, and nothing readable is on the wire", DEADLINE, async () => {
  const { stele, data } = await world();
  const { page, base } = patient;
  answers.length = 0;
  await page.goto(`${base}/record`);
  await entries(patient).first().waitFor();
  await opened(patient);
  const count = await entries(patient).count();
  assert.ok(count >= 50, `${count} entries`);
  assert.equal(await page.locator("#timeline details.verify.ok").count(), count);
  const months = await page.locator("section.month > h2").allTextContents();
  const moments = months.map((month) => Date.parse(`1 ${month} UTC`));
  assert.deepEqual(moments, moments.toSorted((a, b) => b - a), "newest month first");
  assert.match(await entries(patient).locator(".mono").first().textContent(), /^PAT\d{3}REC\d+$/);
  await sound(patient, "keys-record");
  await page.getByLabel("Show").selectOption("vitals");
  await page.getByRole("link", { name: "Body Weight" }).first().click();
  await page.getByText("Your browser opened it and held it against the ledger").waitFor();
  assert.match(await page.locator(".stat").textContent(), /kg/);
  await sound(patient, "keys-entry");
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Download the proof file" }).click()]);
  const file = join(data, "..", "own.proof.json");
  await download.saveAs(file);
  const verdict = JSON.parse(await stele("verify", "proof", file, "--genesis", join(data, "genesis.json"), "--json"));
  assert.equal(verdict.ok, true);
  // Family names stand in the Patient resource, which is sealed like everything else.
  const family = resource.name[0].family;
  const sealed = answers.filter(([path]) => path.startsWith("/keys/records"));
  assert.ok(sealed.filter(([, text]) => text.length > 1000).length >= 2);
  for (const [path, text] of answers) {
    assert.doesNotMatch(text, READABLE, path);
    assert.ok(!text.includes(family), `${path} has the family name`);
  }
});

/** Whoever has the session's cookie, but not the passkey, reads nothing and grants nothing. */
test("a stolen session opens nothing and shares nothing", DEADLINE, async () => {
  const thief = await visitor();
  await thief.context.addCookies(await patient.context.cookies());
  const { page, base } = thief;
  await page.goto(`${base}/record`);
  await page.getByText("Your record is locked").waitFor();
  await sound(thief, "keys-locked");
  assert.equal(await entries(thief).count(), 0);
  const handed = await (await page.request.get(`${base}/keys/records`)).text();
  assert.doesNotMatch(handed, READABLE);
  // A passkey of the thief's does not open it.
  await page.getByRole("button", { name: "Unlock with passkey" }).click();
  await page.getByRole("alert").getByText("did not confirm").waitFor();
  assert.equal(await entries(thief).count(), 0);
  // The wrapped key opens with its own passkey's PRF alone.
  const tried = await page.evaluate(async () => {
    const modules = document.querySelector('script[src*="/own/app.js"]').src.replace("app.js", "");
    const { unwrap } = await import(`${modules}wrap.js`);
    const { unbase64 } = await import(`${modules}bytes.js`);
    const { keys } = await (await fetch("/keys/wrapped")).json();
    const { account } = document.querySelector("#own").dataset;
    const guesses = [new Uint8Array(32), crypto.getRandomValues(new Uint8Array(32))];
    const opened = guesses.map((prf) => unwrap(prf, account, unbase64(keys[0].credential), keys[0].wrapped).then(() => true, () => false));
    return Promise.all(opened);
  });
  assert.deepEqual(tried, [false, false]);
  // Taking an account over twice, or with an answer made up, is refused; so is a call without the session's token.
  const { csrf } = await page.locator("#own").evaluate((one) => ({ ...one.dataset }));
  const passkey = { credential: "AAAA", client_data: "AAAA", authenticator_data: "AAAA", signature: "AAAA" };
  const offer = { data: { passkey, key: "AAAA" }, headers: { "x-csrf": csrf, origin: base } };
  assert.equal((await page.request.post(`${base}/keys/offer`, offer)).status(), 403);
  const bare = { data: { envelopes: [] }, headers: { origin: base } };
  assert.equal((await page.request.post(`${base}/keys/share`, bare)).status(), 400);
  await thief.context.close();
});

/** What the browser keeps: each row of the store of entries, its bytes in base64. */
const rows = ({ page }) =>
  page.evaluate(async () => {
    const asked = (request) => new Promise((done, failed) => Object.assign(request, { onsuccess: () => done(request.result), onerror: () => failed(request.error) }));
    const database = await asked(indexedDB.open("stele-keys"));
    const all = database.transaction("entries").objectStore("entries");
    const [keys, values] = await Promise.all([asked(all.getAllKeys()), asked(all.getAll())]);
    database.close();
    return keys.map((key, at) => ({ key, value: btoa(String.fromCharCode(...values[at])) }));
  });

/** The lines of the access history that are looks at the list of the record. */
async function looks({ page, base }) {
  const table = await (await page.request.get(`${base}/history/accesses.csv`)).text();
  return table.split("\n").filter((line) => line.includes("listed"));
}

/** FR-P06: the next look opens only what is new, and what is kept for it is unreadable without the keys. */
test("what was opened is kept encrypted, and each look leaves its trace all the same", DEADLINE, async () => {
  const { page, base } = patient;
  await page.goto(`${base}/record`);
  await opened(patient);
  const kept = await rows(patient);
  const shown = await page.locator("#count").textContent();
  assert.ok(kept.length > 100, `${kept.length} rows`);
  for (const { key, value } of kept) {
    const bytes = Buffer.from(value, "base64").toString("latin1");
    assert.doesNotMatch(bytes, READABLE, String(key));
    assert.ok(!bytes.includes(resource.name[0].family) && !bytes.includes("resourceType"));
  }
  // Equal entries have unequal rows, since each has a nonce of its own.
  assert.equal(new Set(kept.map(({ value }) => value)).size, kept.length);
  const before = await looks(patient);
  const asked = [];
  const note = (request) => request.url().includes("/keys/records") && asked.push(new URL(request.url()).search);
  page.on("request", note);
  await page.reload();
  await opened(patient);
  page.off("request", note);
  assert.deepEqual(asked, [`?above=${Math.max(...kept.map(({ key }) => key[1]))}&count=50`], "nothing is fetched again");
  assert.equal(await page.locator("#count").textContent(), shown);
  assert.equal(await page.locator("#timeline details.verify.ok").count(), await entries(patient).count());
  assert.equal((await looks(patient)).length, before.length + 1, "a look is a look, wherever the content lies");
  // A row that was altered, or moved to another place, does not open: the entry is fetched again.
  await page.evaluate(async () => {
    const asked = (request) => new Promise((done, failed) => Object.assign(request, { onsuccess: () => done(request.result), onerror: () => failed(request.error) }));
    const database = await asked(indexedDB.open("stele-keys"));
    const all = database.transaction("entries", "readwrite").objectStore("entries");
    const [[one, other]] = [await asked(all.getAllKeys())];
    const [first, second] = [await asked(all.get(one)), await asked(all.get(other))];
    first[20] ^= 1;
    await asked(all.put(second, one));
    await asked(all.put(first, other));
    database.close();
  });
  asked.length = 0;
  page.on("request", note);
  await page.reload();
  await opened(patient);
  page.off("request", note);
  const moved = kept.map(({ key }) => key[1]).toSorted((a, b) => a - b).slice(0, 2);
  assert.equal(asked.length, 2);
  assert.deepEqual(new URLSearchParams(asked[1]).get("at").split(",").map(Number).toSorted((a, b) => a - b), moved);
  assert.equal(await page.locator("#count").textContent(), shown);
});

/** Answers the questions of sharing up to the check page. */
async function share({ page, base }, { who, parts, verbs }) {
  await page.goto(`${base}/access/share`);
  await page.getByLabel("Name", { exact: true }).fill(who);
  await page.getByRole("button", { name: "Find" }).click();
  await page.getByRole("radio", { name: new RegExp(who) }).check();
  await page.getByRole("button", { name: "Continue" }).click();
  await page.getByText("Choose single parts").click();
  for (const part of parts) await page.getByLabel(part, { exact: true }).check();
  await page.getByRole("button", { name: "Continue" }).click();
  await page.getByRole("radio", { name: verbs }).check();
  await page.getByRole("button", { name: "Continue" }).click();
  await page.getByRole("radio", { name: /^30 days/ }).check();
  await page.getByRole("button", { name: "Continue" }).click();
  await page.getByRole("radio", { name: /Treatment/ }).check();
  await page.getByRole("button", { name: "Continue" }).click();
  await page.getByRole("heading", { name: "Check your answers" }).waitFor();
}

let doctor;
let number;

/** FR-P07, FR-D03: keys sealed in the browser, a grant signed with the passkey; the doctor reads at once. */
test("sharing seals the keys in the browser, and the doctor reads at once", DEADLINE, async () => {
  const { account } = await world();
  doctor = await signedUp(account("Dr Tomas Lind"));
  const { page } = patient;
  await share(patient, { who: "Tomas Lind", parts: ["Name, address and contacts", "Medicines", "Laboratory results"], verbs: /^See They can read/ });
  assert.match(await page.locator(".sentence").textContent(), /allow Dr Tomas Lind of Kos Heart Centre to see my name, address and contacts, medicines and laboratory results/);
  await sound(patient, "keys-share-check");
  await page.getByRole("button", { name: "Allow with passkey" }).click();
  await page.getByRole("heading", { name: "Dr Tomas Lind now has access" }).waitFor();
  const row = doctor.page.locator("#shares tr", { hasText: /PAT\d+/ });
  await row.first().waitFor();
  number = (await row.first().locator(".mono").textContent()).trim();
  await doctor.page.getByRole("link", { name: /,/ }).first().click();
  await doctor.page.getByRole("heading", { name: "Medicines" }).waitFor();
  assert.ok((await doctor.page.locator("#results tbody tr").count()) > 0, "results were shared");
  assert.equal(await doctor.page.locator("#problems table").count(), 0, "problems were not");
});

/** A page that shows one thing and would have another signed is found out by the browser. */
test("a sentence that is not what would be signed can't be signed", DEADLINE, async () => {
  const { page } = patient;
  await share(patient, { who: "Tomas Lind", parts: ["Allergies"], verbs: /^See They can read/ });
  const path = new URL(page.url()).pathname;
  await page.route(`**${path}`, async (route) => {
    const answer = await route.fetch();
    const text = await answer.text();
    // As if the server had put another part of the record into the transaction than onto the page.
    await route.fulfill({ response: answer, body: text.replace(/data-categories="\d+"/, 'data-categories="3"') });
  });
  await page.reload();
  await page.getByRole("alert").getByText("is not what would be signed").waitFor();
  assert.equal(await page.getByRole("button", { name: "Allow with passkey" }).count(), 0);
  await page.unroute(`**${path}`);
});

/** FR-D10: a request is allowed and another declined. */
test("requests are allowed and declined", DEADLINE, async () => {
  const { page, base } = patient;
  const ask = async (part, why) => {
    await doctor.page.goto(`${base}/ask`);
    await doctor.page.getByLabel("Patient number").fill(number);
    await doctor.page.getByLabel(part).check();
    await doctor.page.getByLabel("Why, in words for the patient").fill(why);
    await doctor.page.getByRole("button", { name: "Ask", exact: true }).click();
    await doctor.page.getByText("Requested").first().waitFor();
  };
  await ask("Health problems", "To know what was found");
  await page.goto(`${base}/access`);
  await page.getByRole("button", { name: "Allow Dr Tomas Lind" }).click();
  await page.getByText(/to see my health problems/).waitFor();
  await page.getByRole("button", { name: "Allow with passkey" }).click();
  await page.getByRole("heading", { name: "Dr Tomas Lind now has access" }).waitFor();
  await doctor.page.goto(`${base}/patients/${number}`);
  await doctor.page.locator("#problems table").waitFor();
  await ask("Allergies", "To be safe");
  await page.goto(`${base}/access`);
  await page.getByRole("button", { name: "Decline Dr Tomas Lind" }).click();
  await page.getByRole("button", { name: "Decline with passkey" }).click();
  await page.getByRole("heading", { name: "Your answer is recorded" }).waitFor();
});

/** FR-P15, FR-P17, S33: stopping makes the next keys in the browser; from then on the doctor is refused. */
test("stopping an access makes new keys, and the doctor is refused", DEADLINE, async () => {
  const { page, base } = patient;
  for (let left = 2; left > 0; left -= 1) {
    await page.goto(`${base}/access`);
    await page.getByRole("button", { name: "Stop access of Dr Tomas Lind" }).first().click();
    await page.getByText(/stop the access of Dr Tomas Lind/).waitFor();
    if (left === 1) await sound(patient, "keys-stop-check");
    await page.getByRole("button", { name: "Stop access with passkey" }).click();
    await page.getByRole("heading", { name: "has ended" }).waitFor();
  }
  assert.equal((await doctor.page.goto(`${base}/patients/${number}`)).status(), 403);
  await page.goto(`${base}/history`);
  const text = await page.locator("#visits").textContent();
  for (const line of [/Dr Tomas Lind, cardiologist, Kos Heart Centre, opened/, /stopped the access/]) assert.match(text, line);
  await sound(patient, "keys-history");
});

/** What the hospital records after all that is sealed to keys it never had, and the patient's browser opens it. */
test("what the hospital records later is opened by the browser", DEADLINE, async () => {
  const { fhir, token } = await world();
  const { page, base } = patient;
  await page.goto(`${base}/record`);
  await opened(patient);
  const body = JSON.stringify({
    resourceType: "Observation", status: "final", code: { text: "Recorded after the keys changed" },
    subject: { reference: `Patient/${resource.id}` }, effectiveDateTime: "2026-11-20", valueQuantity: { value: 6.3, unit: "%" },
  }).replace("6.3", "6.30");
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/fhir+json" };
  const answer = await fetch(`${fhir}/Observation`, { method: "POST", headers, body });
  assert.equal(answer.status, 201, await answer.text());
  const article = entries(patient).filter({ hasText: "Recorded after the keys changed" });
  await article.waitFor();
  assert.match(await article.textContent(), /6\.30 %/, "with the digits it was written with");
  // Signing out takes the keys and what was opened along.
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.waitForURL(/sign-in/);
  assert.deepEqual(await page.evaluate(() => indexedDB.databases()), []);
  // A browser that never had them asks for the passkey once more.
  await page.evaluate(() => localStorage.clear());
  await page.getByRole("button", { name: "Sign in with a passkey" }).click();
  await page.waitForURL(`${base}/record`);
  await page.getByRole("button", { name: "Unlock with passkey" }).click();
  await entries(patient).first().waitFor();
});

/** FR-P01: another passkey opens the same record; a lost one is removed and opens nothing any more. */
test("a second passkey opens the same record, and a lost one is removed", DEADLINE, async () => {
  const { page, base, devtools, authenticatorId } = patient;
  const second = await authenticator(devtools, { hasPrf: true, transport: "usb" });
  // The person touches the new one to make and try it, and the old one to sign.
  const touch = (id, enabled) => devtools.send("WebAuthn.setAutomaticPresenceSimulation", { authenticatorId: id, enabled });
  await touch(authenticatorId, false);
  await page.route("**/keys/devices/draft", async (route) => {
    await touch(second, false);
    await touch(authenticatorId, true);
    await route.continue();
  });
  await page.goto(`${base}/account`);
  await page.getByRole("link", { name: "Add a passkey" }).click();
  await page.getByLabel("Name of the new passkey").fill("Key ring");
  await sound(patient, "keys-device");
  await page.getByRole("button", { name: "Add a passkey" }).click();
  await page.waitForURL(`${base}/account`);
  await page.locator("strong", { hasText: "Key ring" }).waitFor();
  // The first device is lost.
  await touch(second, true);
  await devtools.send("WebAuthn.removeVirtualAuthenticator", { authenticatorId });
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("button", { name: "Sign in with a passkey" }).click();
  await page.waitForURL(`${base}/record`);
  // Where keys were unlocked before, the sign-in's own use of the passkey opens the record.
  await entries(patient).first().waitFor();
  await opened(patient);
  assert.equal(await page.locator("#timeline details.verify.ok").count(), await entries(patient).count());
  await page.goto(`${base}/account`);
  await page.locator("li", { hasNotText: "Key ring" }).getByRole("button", { name: "Remove" }).click();
  await page.getByText(/remove the passkey/).waitFor();
  await sound(patient, "keys-device-remove");
  await page.getByRole("button", { name: "Remove with another passkey" }).click();
  await page.waitForURL(`${base}/account`);
  await page.getByText("You have one passkey").waitFor();
  assert.equal((await (await page.request.get(`${base}/keys/wrapped`)).json()).keys.length, 1);
  // The removed passkey may have been this browser's: nothing of the record is left in it.
  assert.deepEqual(await page.evaluate(() => indexedDB.databases()), []);
});

/** FR-P01: everything in one file, put together in the browser, byte for byte, and checked without the node. */
test("everything is taken along in one file that an offline check accepts", DEADLINE, async () => {
  const { stele, data } = await world();
  const { page, base } = patient;
  await page.goto(`${base}/record`);
  await page.getByRole("button", { name: "Unlock with passkey" }).click();
  await opened(patient);
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Download everything" }).click()]);
  const file = join(data, "..", "everything.json");
  await download.saveAs(file);
  const verify = (which) => stele("verify", "proof", which, "--genesis", join(data, "genesis.json"), "--json").catch(({ stdout }) => stdout);
  const verdict = JSON.parse(await verify(file));
  assert.equal(verdict.ok, true, JSON.stringify(verdict));
  const text = readFileSync(file, "utf8");
  const bundle = JSON.parse(text);
  assert.equal(bundle.resourceType, "Bundle");
  assert.equal(verdict.records, bundle.entry.length - 1);
  assert.ok(verdict.records > 100, `${verdict.records} entries`);
  assert.ok(text.includes("6.30"), "digits stay as they were written");
  const changed = join(data, "..", "changed.json");
  writeFileSync(changed, text.replace("6.30", "6.31"));
  const refused = JSON.parse(await verify(changed));
  assert.equal(refused.ok, false);
  assert.match(refused.where, /^entry\[\d+\] Observation\//);
});

/** FR-P01: a managed patient takes the signed export along from the portal. */
test("a managed patient downloads the signed export", DEADLINE, async () => {
  const { stele, data } = await world();
  const [, { id }] = await patients();
  const person = await signedUp(id);
  const { page, base } = person;
  await page.goto(`${base}/account`);
  for (const [name, file] of [["To read and print", "taken.html"], ["FHIR", "taken.json"]]) {
    const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name, exact: true }).click()]);
    const path = join(data, "..", file);
    await download.saveAs(path);
    const verdict = JSON.parse(await stele("verify", "export", path, "--genesis", join(data, "genesis.json"), "--json"));
    assert.equal(verdict.ok, true, file);
  }
});
