// The administrator's desk and a patient's own entries, in a real Chromium.

import assert from "node:assert/strict";
import { test } from "node:test";

import { patients, signedUp, sound, visitor, world } from "./browser.mjs";

const DEADLINE = { timeout: 180_000 };

/** FR-A1: an administrator registers, invites, suspends and reinstates; a suspended member is out at once. */
test("an administrator registers a doctor, who signs up, is suspended and reinstated", DEADLINE, async () => {
  const { account } = await world();
  const admin = await signedUp(account("Eva Stone"));
  const { page, base } = admin;
  await page.waitForURL(`${base}/members`);
  await page.getByRole("button", { name: "Register" }).click();
  await page.getByRole("alert").getByText("Enter a name").waitFor();
  await sound(admin, "members-wrong");
  await page.getByLabel("Name", { exact: true }).fill("Dr Ines <i>Okafor</i>");
  await page.getByLabel("Calling").fill("surgeon");
  await page.getByLabel("Number of the licence").fill("MD-1234");
  await page.getByRole("button", { name: "Register" }).click();
  const row = page.getByRole("row", { name: /Dr Ines <i>Okafor<\/i>/ });
  await row.getByText("Active").waitFor();
  await sound(admin, "members");
  await row.getByRole("button", { name: /Invite/ }).click();
  const code = await page.locator(".stat").textContent();
  assert.match(code, /^[0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{4}$/);
  await sound(admin, "invitation-code");
  const doctor = await visitor();
  await doctor.page.goto(`${base}/invitation`);
  await doctor.page.getByLabel("Invitation code").fill(code);
  await doctor.page.getByRole("button", { name: "Continue" }).click();
  await doctor.page.getByRole("button", { name: "Make a passkey" }).click();
  await doctor.page.waitForURL(`${base}/worklist`);
  await page.goto(`${base}/members`);
  await row.getByRole("button", { name: /Suspend/ }).click();
  await row.getByText("Suspended").waitFor();
  assert.equal((await doctor.page.goto(`${base}/worklist`)).url(), `${base}/sign-in`);
  await doctor.page.getByRole("button", { name: "Sign in with a passkey" }).click();
  await doctor.page.getByRole("alert").first().getByText("suspended").waitFor();
  await row.getByRole("button", { name: /Reinstate/ }).click();
  await row.getByText("Active").waitFor();
  await doctor.page.goto(`${base}/sign-in`);
  await doctor.page.getByRole("button", { name: "Sign in with a passkey" }).click();
  await doctor.page.waitForURL(`${base}/worklist`);
  // Another organisation's people are not there for this desk.
  const csrf = await page.locator("input[name=csrf]").first().inputValue();
  const other = await page.request.post(`${base}/members/status`, {
    form: { csrf, account: account("Dr Tomas Lind"), act: "suspend" },
    headers: { origin: base },
  });
  assert.equal(other.status(), 404);
  const stranger = await doctor.page.request.get(`${base}/members`);
  assert.equal(stranger.status(), 403);
});

/** FR-P31: own entries are marked as the patient's, corrected on the page where they are wrong, and kept as typed. */
test("a patient adds a blood pressure, which is marked as the patient's own", DEADLINE, async () => {
  const [, { id }] = await patients();
  const person = await signedUp(id);
  const { page, base } = person;
  await page.getByRole("link", { name: "Add an entry" }).click();
  await sound(person, "add-choose");
  await page.getByRole("link", { name: "Blood pressure" }).click();
  await page.getByLabel("Upper number").fill("1280");
  await page.getByLabel("Lower number").fill("82");
  await page.getByLabel("Note, if you want").fill("After breakfast <b>sitting</b>");
  await page.getByRole("button", { name: "Add to your record" }).click();
  await page.getByRole("link", { name: "Enter the upper number, between 50 and 300" }).waitFor();
  assert.equal(await page.getByLabel("Lower number").inputValue(), "82", "a failed form comes back filled in");
  await sound(person, "add-wrong");
  await page.getByLabel("Upper number").fill("128");
  await page.getByRole("button", { name: "Add to your record" }).click();
  await page.waitForURL(`${base}/record`);
  const entry = page.locator("article.entry").filter({ hasText: "Added by you" }).first();
  assert.match(await entry.textContent(), /128\/82/);
  await entry.getByRole("link").first().click();
  await page.getByText("This is exactly what you recorded").waitFor();
  await sound(person, "entry-own");
});

/** FR-A2: the ledger in words, one block, and the check of the chain run from the page. */
test("an auditor reads the ledger and checks the chain", DEADLINE, async () => {
  const { account } = await world();
  const auditor = await signedUp(account("Paul Marsh"));
  const { page, base } = auditor;
  await page.waitForURL(`${base}/ledger`);
  const text = await page.locator("tbody").textContent();
  for (const words of [/recorded entries/, /added a key to the account/, /Patient PAT\d{3}/]) assert.match(text, words);
  await sound(auditor, "ledger");
  await page.locator("tbody a").first().click();
  await page.getByRole("heading", { name: /^Block \d+$/ }).waitFor();
  await sound(auditor, "block");
  await page.goto(`${base}/ledger/check`);
  await sound(auditor, "check-begin");
  await page.getByRole("button", { name: "Begin" }).click();
  await page.getByText("The chain holds").waitFor();
  assert.match(await page.locator(".verdict").textContent(), /down to the first; [1-9]\d* certificates verified/);
  await sound(auditor, "check-done");
  // An auditor reads no record and changes no member.
  for (const path of ["/worklist", "/members", "/record", "/patients/PAT001"]) {
    assert.equal((await page.request.get(base + path)).status(), 403, path);
  }
});

/** FR-A1: whether the node is backed up, checked and well, and which keys there are; nothing secret is shown. */
test("an administrator looks at backups, health and keys", DEADLINE, async () => {
  const { account } = await world();
  const admin = await signedUp(account("Eva Stone"));
  const { page, base } = admin;
  await page.getByRole("link", { name: "Health" }).click();
  await page.getByRole("row", { name: /Backup of the data folder Never/ }).waitFor();
  const text = await page.locator("main").textContent();
  assert.match(text, /block \d+, \d+ seconds old/);
  assert.match(text, /writing stops at 64 MB/);
  assert.match(text, /3 patients’ keys are kept here/);
  await sound(admin, "health");
  await page.getByRole("link", { name: "Keys" }).click();
  await page.getByRole("row", { name: /Eva Stone [1-9] added/ }).waitFor();
  await page.getByText("X-Wing, SHA-256 of the public key").waitFor();
  await sound(admin, "keys");
});
