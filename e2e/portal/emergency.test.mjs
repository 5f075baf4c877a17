// Break-glass, end to end in a real Chromium: offered only where access was refused, signed with a passkey, told to the
// patient at once, ended, and judged by somebody else. And the patient's brake: stopping all access in one act.

import assert from "node:assert/strict";
import { before, test } from "node:test";

import { patients, signedUp, sound, world } from "./browser.mjs";

const DEADLINE = { timeout: 240_000 };
const WORDS = `Unconscious after a fall <script>alert(1)</script>`;

let doctor, patient, reviewer, number;

before(async () => {
  const { account, stele } = await world();
  const [first] = await patients();
  patient = await signedUp(first.id);
  await patient.page.goto(`${patient.base}/account`);
  number = (await patient.page.locator("dd.mono").first().textContent()).trim();
  doctor = await signedUp(account("Dr Tomas Lind"));
  const added = await stele("practitioner", "add", "Nadia Berg", "--roles", "auditor", "--org", account("Kos Heart Centre"), "--json");
  reviewer = await signedUp(JSON.parse(added).practitioner);
}, DEADLINE);

/** FR-D10, LIM-11: refused first; then reason, words and passkey; allergies and medicines first; the patient is told
 * without reload. */
test("a doctor opens a closed record in an emergency, and the patient is told at once", DEADLINE, async () => {
  const { page, base } = doctor;
  await patient.page.goto(`${base}/record`);
  await reviewer.page.goto(`${base}/emergencies`);
  await sound(reviewer, "emergencies-empty");
  const refused = await page.goto(`${base}/patients/${number}`);
  assert.equal(refused.status(), 403);
  await sound(doctor, "no-access-emergency");
  await page.getByRole("link", { name: "Open this record in an emergency" }).click();
  await sound(doctor, "emergency");
  await page.getByRole("button", { name: "Continue" }).click();
  await page.getByRole("alert").getByText("Choose why").waitFor();
  await sound(doctor, "emergency-wrong");
  await page.getByLabel("Patient cannot answer").check();
  await page.getByLabel("In your words").fill(WORDS);
  await page.getByRole("button", { name: "Continue" }).click();
  assert.match(await page.locator(".sentence").textContent(), /I, Dr Tomas Lind of Kos Heart Centre, open the record PAT\d+ in an emergency until .* Reason: Patient cannot answer, “Unconscious after a fall <script>/);
  await sound(doctor, "emergency-sign");
  await page.getByRole("button", { name: "Open the record with passkey" }).click();
  await page.getByText(/Emergency access until/).waitFor();
  const sections = await page.locator("#chart > section").evaluateAll((list) => list.map(({ id }) => id));
  assert.deepEqual(sections.slice(0, 3), ["allergies", "medicines", "problems"]);
  assert.ok((await page.locator("#medicines tbody tr").count()) > 0, "medicines are open");
  assert.equal(await page.getByRole("heading", { name: "Add to this chart" }).locator("xpath=..").getByRole("button").count(), 0, "nothing can be added");
  await sound(doctor, "emergency-chart");
  // Nobody touched these pages.
  await patient.page.getByText("Your record was opened in an emergency").waitFor();
  await patient.page.getByText(WORDS).waitFor();
  await sound(patient, "record-emergency");
});

test("an emergency is not offered to whom the record is open, nor to others", DEADLINE, async () => {
  const { account } = await world();
  const { base } = doctor;
  const treating = await signedUp(account("Dr Ana Reyes"));
  assert.equal((await treating.page.request.get(`${base}/patients/${number}/emergency`)).status(), 403);
  const pharmacist = await signedUp(account("Jonas Weber"));
  assert.equal((await pharmacist.page.request.get(`${base}/patients/${number}/emergency`)).status(), 403);
  assert.equal((await patient.page.request.get(`${base}/patients/${number}/emergency`)).status(), 403);
  // Not a second time while the first lasts.
  assert.equal((await doctor.page.request.get(`${base}/patients/${number}/emergency`)).status(), 403);
  assert.equal((await doctor.page.request.get(`${base}/emergencies`)).status(), 403);
});

/** The clinician ends it; from then on the record is closed; every look stands in the history as emergency treatment. */
test("the doctor ends it and the record is closed again", DEADLINE, async () => {
  const { page, base } = doctor;
  await page.goto(`${base}/patients/${number}`);
  await page.getByRole("button", { name: "End now" }).click();
  await page.waitForURL(`${base}/worklist`);
  assert.equal((await page.goto(`${base}/patients/${number}`)).status(), 403);
  await patient.page.goto(`${base}/history`);
  assert.match(await patient.page.locator("#visits").textContent(), /Dr Tomas Lind.*for emergency treatment/s);
  await patient.page.getByText("It is closed again").waitFor();
  await sound(patient, "history-emergency");
});

/** LIM-11: every opening is judged by somebody else of the organisation, and the patient reads the judgement. */
test("an auditor reviews it and the patient reads the judgement", DEADLINE, async () => {
  const { page, base } = reviewer;
  await page.goto(`${base}/emergencies`);
  await page.locator("#waiting").getByText(WORDS).waitFor();
  await sound(reviewer, "emergencies");
  await page.getByRole("button", { name: "Justified", exact: true }).click();
  await page.getByRole("alert").getByText("Write why").waitFor();
  await page.getByLabel("What you found").fill("The notes of the ward confirm it");
  await page.getByRole("button", { name: "Justified", exact: true }).click();
  await page.getByRole("heading", { name: "Reviewed" }).waitFor();
  await page.getByText("The notes of the ward confirm it").waitFor();
  await sound(reviewer, "emergencies-reviewed");
  await patient.page.goto(`${base}/record`);
  await patient.page.locator("#waiting").getByText("The notes of the ward confirm it").waitFor();
});

/** Stopping everybody is one passkey. */
test("a patient stops all access in one act", DEADLINE, async () => {
  const { page, base } = patient;
  const { stele, account } = await world();
  const [first] = await patients();
  await stele("grant", first.id, "--to", account("Dr Tomas Lind"), "--categories", "medicines", "--permissions", "read");
  await page.goto(`${base}/access`);
  await page.getByRole("button", { name: "Stop all access" }).click();
  await page.getByText(/stop the access of everybody to my record, from now on: .*Dr Tomas Lind/).waitFor();
  await sound(patient, "stop-all");
  await page.getByRole("button", { name: "Stop all access with passkey" }).click();
  await page.getByRole("heading", { name: "All access has ended" }).waitFor();
  await page.goto(`${base}/access`);
  await page.getByText("Nobody but you can open your record").waitFor();
  assert.equal((await doctor.page.goto(`${base}/patients/${number}`)).status(), 403);
  await page.goto(`${base}/record`);
  assert.ok((await page.locator("article.entry").count()) > 0, "the patient still sees the own record");
});
