// What a doctor writes survives signing out; an entry is amended by who may add, and the patient sees it at once.

import assert from "node:assert/strict";
import { test } from "node:test";

import { patients, signedUp, sound, world } from "./browser.mjs";

const DEADLINE = { timeout: 480_000 };

let doctor;

const signOutAndIn = async ({ page }) => {
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("button", { name: "Sign in with a passkey" }).click();
  await page.waitForURL(/\/worklist$/);
};

/** LIM-21, NFR-UX1: nothing that was written is lost by signing out; it is the writer's alone, and gone when it is sent. */
test("a draft survives signing out and is gone when it is sent", DEADLINE, async () => {
  const { account } = await world();
  doctor = await signedUp(account("Dr Ana Reyes"));
  const { page, base } = doctor;
  await page.goto(`${base}/patients/PAT001`);
  await page.getByLabel("What", { exact: true }).selectOption("note");
  await page.getByLabel("Name", { exact: true }).fill("Visit <b>today</b>");
  await page.getByText("Draft saved.").waitFor();
  // Signing out in the middle of a sentence loses nothing.
  await page.getByLabel("Dose or text").fill("Sleeps better.");
  await signOutAndIn(doctor);
  const row = page.getByRole("row", { name: /PAT001/ }).filter({ hasText: "An entry for the chart" });
  await row.waitFor();
  await sound(doctor, "worklist-drafts");
  await row.getByRole("link").click();
  await page.getByText("is below. It was not sent.").waitFor();
  assert.equal(await page.getByLabel("Name", { exact: true }).inputValue(), "Visit <b>today</b>");
  assert.equal(await page.getByLabel("Dose or text").inputValue(), "Sleeps better.");
  assert.equal(await page.getByLabel("What", { exact: true }).inputValue(), "note");
  await sound(doctor, "chart-draft");
  // Nobody else has it.
  const other = await signedUp(account("Dr Tomas Lind"));
  assert.equal(await other.page.getByText("Not sent yet").count(), 0);
  await page.getByRole("button", { name: "Add", exact: true }).click();
  await page.getByRole("link", { name: "Visit <b>today</b>" }).waitFor();
  await page.goto(`${base}/worklist`);
  assert.equal(await page.getByText("Not sent yet").count(), 0);
  // A draft is of a form of a chart that the writer may add to, never of anything else.
  const keep = async (person, draft) => {
    const csrf = await person.page.locator("input[name=csrf]").first().inputValue();
    const form = { csrf, draft, text: "x" };
    return (await person.page.request.post(`${base}/drafts`, { form, headers: { origin: base }, maxRedirects: 0 })).status();
  };
  assert.equal(await keep(doctor, "//evil.example"), 400);
  assert.equal(await keep(doctor, "/account"), 400);
  assert.equal(await keep(other, "/patients/PAT001"), 403);
});

/** Without script there is a button for it. */
test("without script a draft is kept by its button, and discarded", DEADLINE, async () => {
  const { browser, base } = await world();
  const storageState = await doctor.context.storageState();
  const context = await browser.newContext({ storageState, javaScriptEnabled: false });
  const page = await context.newPage();
  await page.goto(`${base}/patients/PAT001/prescribe`);
  await page.getByLabel("Medicine, strength and form").fill("Bisoprolol 2.5 mg tablets");
  await page.getByLabel("How to take it").fill("One each morning");
  await page.getByRole("button", { name: "Save draft" }).click();
  await page.getByText("is below. It was not sent.").waitFor();
  assert.equal(await page.getByLabel("How to take it").inputValue(), "One each morning");
  await page.goto(`${base}/worklist`);
  await page.getByRole("row", { name: /PAT001.*A prescription/ }).getByRole("link").click();
  assert.equal(await page.getByLabel("Medicine, strength and form").inputValue(), "Bisoprolol 2.5 mg tablets");
  await page.getByRole("button", { name: "Discard it" }).click();
  assert.equal(await page.getByLabel("Medicine, strength and form").inputValue(), "");
  await page.goto(`${base}/worklist`);
  assert.equal(await page.getByText("Not sent yet").count(), 0);
  await context.close();
});

/** FR-D07, NFR-RT: a new version by somebody who may add, on the patient's open page without reload, with its difference. */
test("a doctor amends an entry and the patient's open page follows", DEADLINE, async () => {
  const { account, stele } = await world();
  const { page, base } = doctor;
  await page.goto(`${base}/patients/PAT001`);
  await page.getByLabel("What", { exact: true }).selectOption("measurement");
  await page.getByLabel("Name", { exact: true }).fill("Potassium");
  await page.getByLabel("Value, of a measurement").fill("63.0");
  await page.getByLabel("Unit").fill("mmol/L");
  await page.getByRole("button", { name: "Add", exact: true }).click();
  await page.getByRole("link", { name: "Potassium", exact: true }).first().click();
  await page.getByRole("link", { name: "Amend this entry" }).waitFor();
  const entry = new URL(page.url()).pathname.split("/").slice(3).join("/");
  const number = new URL(page.url()).pathname.split("/")[2];

  let patient;
  for (const { id } of await patients()) {
    patient = await signedUp(id);
    if ((await patient.page.goto(`${base}/record/${entry}`)).status() === 200) break;
  }
  await patient.page.getByText("63").first().waitFor();

  await page.getByRole("link", { name: "Amend this entry" }).click();
  await sound(doctor, "amend");
  await page.getByRole("button", { name: "Record the new version" }).click();
  await page.getByRole("link", { name: "Change something first" }).waitFor();
  await sound(doctor, "amend-wrong");
  await page.getByLabel("Value").fill("6.30");
  await page.getByLabel("Why").fill("The decimal point was <i>missing</i>.");
  await page.getByText("Draft saved.").waitFor();
  await page.getByRole("button", { name: "Record the new version" }).click();
  await page.getByRole("heading", { name: "2 versions" }).waitFor();
  await sound(doctor, "amended");
  // The patient's page was not touched.
  await patient.page.getByRole("heading", { name: "2 versions" }).waitFor();
  const changes = await patient.page.locator("#entry").textContent();
  assert.match(changes, /63\.0.*6\.30/s);
  assert.match(changes, /The decimal point was <i>missing<\/i>\./);
  await sound(patient, "entry-amended");

  // Whoever may only see can't, by link or by form.
  const reader = await signedUp(account("Dr Tomas Lind"));
  const whose = await owner(patient);
  await stele("grant", whose, "--to", account("Dr Tomas Lind"), "--category", "all", "--permission", "read", "--days", "1");
  const shown = await reader.page.goto(`${base}/patients/${number}/${entry}`);
  assert.equal(shown.status(), 200);
  assert.equal(await reader.page.getByRole("link", { name: "Amend this entry" }).count(), 0);
  assert.equal((await reader.page.request.get(`${base}/patients/${number}/${entry}/amend`)).status(), 403);
  const csrf = await reader.page.locator("input[name=csrf]").first().inputValue();
  const form = { csrf, version: "2", value: "1", why: "x" };
  const direct = await reader.page.request.post(`${base}/patients/${number}/${entry}/amend`, { form, headers: { origin: base } });
  assert.equal(direct.status(), 403);
  // A form that was open while somebody else amended records nothing.
  const mine = await page.locator("input[name=csrf]").first().inputValue();
  const late = await page.request.post(`${base}/patients/${number}/${entry}/amend`, {
    form: { csrf: mine, version: "1", value: "7", why: "x" },
    headers: { origin: base },
  });
  assert.equal(late.status(), 422);
  assert.match(await late.text(), /Somebody recorded a new version/);
});

/** FHIR id of the patient who is signed in. */
async function owner({ page, base }) {
  const bundle = await (await page.request.get(`${base}/history/accesses.json`)).json();
  return bundle.entry[0].resource.entity[0].what.reference.replace("Patient/", "");
}
