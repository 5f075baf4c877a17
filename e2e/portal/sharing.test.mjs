// Sharing, end to end in a real Chromium: the patient's passkey signs, the doctor's pages follow without reload.

import assert from "node:assert/strict";
import { test } from "node:test";

import { patients, signedUp, sound, world } from "./browser.mjs";

const DEADLINE = { timeout: 240_000 };

let patient;
let doctor;
let number;

/** Answers the questions of sharing up to the check page. */
async function share({ page, base }, { who, parts, verbs }) {
  await page.goto(`${base}/access`);
  await page.getByRole("link", { name: "Share with someone" }).click();
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

/** FR-P07, FR-D03, NFR-RT: a grant signed with a passkey, on the doctor's worklist without reload. */
test("a patient shares with a doctor of another hospital, who sees it at once", DEADLINE, async () => {
  const { account } = await world();
  const [first] = await patients();
  patient = await signedUp(first.id);
  doctor = await signedUp(account("Dr Tomas Lind"));
  await doctor.page.waitForURL(/\/worklist$/);
  await doctor.page.getByText("No patient shares with you").waitFor();
  await sound(doctor, "worklist-empty");
  const { page, base } = patient;
  await page.goto(`${base}/access/share`);
  await page.getByRole("button", { name: "Continue" }).click();
  await page.getByRole("alert").getByText("Choose a person").waitFor();
  await sound(patient, "share-who-wrong");
  await share(patient, { who: "Tomas Lind", parts: ["Name, address and contacts", "Medicines", "Laboratory results"], verbs: /^See They can read/ });
  const sentence = await page.locator(".sentence").textContent();
  assert.match(sentence, /allow Dr Tomas Lind of Kos Heart Centre to see my name, address and contacts, medicines and laboratory results, old and new, from now until the end of \d+ \w+ \d{4}, for treatment\./);
  await sound(patient, "share-check");
  await page.getByRole("button", { name: "Allow with passkey" }).click();
  await page.getByRole("heading", { name: "Dr Tomas Lind now has access" }).waitFor();
  await sound(patient, "share-done");
  // The doctor's page was not touched.
  const row = doctor.page.locator("#shares tr", { hasText: /PAT\d+/ });
  await row.first().waitFor();
  number = (await row.first().locator(".mono").textContent()).trim();
  assert.match(await row.first().textContent(), /Active until/);
  await sound(doctor, "worklist");
});

/** A doctor with "see" sees what was shared, nothing else, and can't add. */
test("the doctor sees what was shared and cannot add", DEADLINE, async () => {
  const { page, base } = doctor;
  await page.getByRole("link", { name: /,/ }).first().click();
  await page.getByRole("heading", { name: "Medicines" }).waitFor();
  assert.equal(await page.locator("#problems table").count(), 0, "problems were not shared");
  assert.ok((await page.locator("#results tbody tr").count()) > 0, "results were shared");
  await page.getByText("The patient lets you see, not add").waitFor();
  await sound(doctor, "chart");
  const csrf = await page.locator("input[name=csrf]").first().inputValue();
  const answer = await page.request.post(`${base}/patients/${number}/add`, {
    form: { csrf, kind: "problem", name: "Added without leave" },
    headers: { origin: base },
  });
  assert.equal(answer.status(), 422);
  // Records of the other hospital's patients are not open, whatever is asked for.
  for (const other of ["PAT001", "PAT002", "PAT003"].filter((one) => one !== number)) {
    for (const path of [other, `${other}/add`, `${other}/Patient/x`, `${other}/Patient/x/proof`]) {
      const status = (await page.request.get(`${base}/patients/${path}`)).status();
      assert.ok([403, 404, 405].includes(status), `${path}: ${status}`);
    }
  }
  assert.equal((await page.goto(`${base}/patients/PAT999`)).status(), 404);
});

/** FR-D10, FR-P09: asking, allowing, adding; the new entry is on the patient's page without reload. */
test("the doctor asks to add, the patient allows, the entry appears on the patient's page", DEADLINE, async () => {
  await patient.page.goto(`${patient.base}/access`);
  const { page, base } = doctor;
  await page.goto(`${base}/ask`);
  await page.getByLabel("Patient number").fill(number.toLowerCase());
  await page.getByLabel("Health problems").check();
  await page.getByLabel("Name, address and contacts").check();
  await page.getByLabel("See, and add entries").check();
  await page.getByLabel("Why, in words for the patient").fill("To note what we found <b>today</b>");
  await sound(doctor, "ask");
  await page.getByRole("button", { name: "Ask", exact: true }).click();
  await page.getByText("Requested").waitFor();
  // Without reload.
  await patient.page.getByRole("button", { name: "Allow Dr Tomas Lind" }).waitFor();
  await patient.page.getByText("To note what we found <b>today</b>").waitFor();
  await sound(patient, "access-request");
  await patient.page.getByRole("button", { name: "Allow Dr Tomas Lind" }).click();
  await patient.page.getByText(/to see and add to my name, address and contacts and health problems/).waitFor();
  await patient.page.getByRole("button", { name: "Allow with passkey" }).click();
  await patient.page.getByRole("heading", { name: "Dr Tomas Lind now has access" }).waitFor();
  await patient.page.goto(`${base}/record`);
  await page.goto(`${base}/patients/${number}`);
  await page.getByLabel("What").selectOption("problem");
  await page.getByLabel("Name", { exact: true }).fill("Palpitations <script>alert(1)</script>");
  await page.getByRole("button", { name: "Add", exact: true }).click();
  await page.locator("#problems").getByText("Palpitations").waitFor();
  await sound(doctor, "chart-add");
  await patient.page.locator("#timeline").getByRole("link", { name: /Palpitations <script>/ }).waitFor();
  await sound(patient, "record-after");
});

/** FR-P15, FR-P17, S33: stopping is one act; from then on the doctor is refused; every step is in the history. */
test("the patient stops the access and finds everything in the history", DEADLINE, async () => {
  const { page, base } = patient;
  for (let left = 2; left > 0; left -= 1) {
    await page.goto(`${base}/access`);
    await sound(patient, "access");
    await page.getByRole("button", { name: "Stop access of Dr Tomas Lind" }).first().click();
    await page.getByText(/stop the access of Dr Tomas Lind/).waitFor();
    await page.getByRole("button", { name: "Stop access with passkey" }).click();
    await page.getByRole("heading", { name: "has ended" }).waitFor();
  }
  const refused = await doctor.page.goto(`${base}/patients/${number}`);
  assert.equal(refused.status(), 403);
  await doctor.page.getByRole("link", { name: "Ask the patient" }).waitFor();
  await sound(doctor, "no-access");
  await page.goto(`${base}/history`);
  const text = await page.locator("#visits").textContent();
  for (const line of [/Dr Tomas Lind, cardiologist, Kos Heart Centre, opened/, /added to/, /stopped the access/, /asked for access/, /for treatment/]) {
    assert.match(text, line);
  }
  await sound(patient, "history");
  const csv = await (await page.request.get(`${base}/history/accesses.csv`)).text();
  assert.match(csv, /"Dr Tomas Lind","cardiologist","Kos Heart Centre"/);
  const bundle = await (await page.request.get(`${base}/history/accesses.json`)).json();
  assert.equal(bundle.resourceType, "Bundle");
  assert.ok(bundle.entry.every(({ resource }) => resource.resourceType === "AuditEvent"));
  await page.goto(`${base}/access/ended`);
  await sound(patient, "access-ended");
});
