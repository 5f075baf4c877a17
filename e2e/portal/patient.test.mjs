// A patient at the portal, in a real Chromium with passkeys: first passkey, sign-in, the record, one entry and its proof.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { invitation, patients, signedUp, sound, visitor, world } from "./browser.mjs";

const DEADLINE = { timeout: 180_000 };

/** NFR-UX1: no seed phrase, gas or hash on the way in; a passkey is all there is. */
test("an invited patient makes a passkey, signs out and signs in with it", DEADLINE, async () => {
  const [{ id }] = await patients();
  const person = await visitor();
  const { page, base } = person;
  await page.goto(base);
  await page.waitForURL(`${base}/sign-in`);
  await sound(person, "sign-in");
  await page.getByRole("link", { name: "I have an invitation code" }).click();
  await page.getByLabel("Invitation code").fill("not a code");
  await page.getByRole("button", { name: "Continue" }).click();
  await page.getByRole("alert").getByText("not valid").waitFor();
  await sound(person, "invitation-wrong");
  const code = await invitation(id);
  await page.getByLabel("Invitation code").fill(code.toLowerCase());
  await page.getByRole("button", { name: "Continue" }).click();
  await sound(person, "make-passkey");
  const before = (await person.context.cookies()).find(({ name }) => name === "stele_session");
  await page.getByRole("button", { name: "Make a passkey" }).click();
  await page.waitForURL(`${base}/record`);
  const session = (await person.context.cookies()).find(({ name }) => name === "stele_session");
  assert.equal(session.httpOnly, true);
  assert.equal(session.sameSite, "Lax");
  assert.notEqual(session.value, before.value, "a session from before the sign-in is not kept");
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("button", { name: "Sign in with a passkey" }).click();
  await page.waitForURL(`${base}/record`);
  // The old secrets open nothing.
  for (const { value } of [before, session]) {
    const answer = await fetch(`${base}/record`, { headers: { cookie: `stele_session=${value}` }, redirect: "manual" });
    assert.equal(answer.headers.get("location"), "/sign-in");
  }
  // Neither does the code, a second time.
  const second = await visitor();
  await second.page.goto(`${base}/invitation`);
  await second.page.getByLabel("Invitation code").fill(code);
  await second.page.getByRole("button", { name: "Continue" }).click();
  await second.page.getByRole("alert").getByText("not valid").waitFor();
});

/** FR-P04, FR-P06: the record by clinical date with its verification, and a proof that an offline check accepts. */
test("a patient reads the record and checks an entry", DEADLINE, async () => {
  const { stele, data } = await world();
  const [, { id }] = await patients();
  const person = await signedUp(id);
  const { page, base } = person;
  await page.getByRole("heading", { name: "Your record" }).waitFor();
  const months = await page.locator("section.month > h2").allTextContents();
  const moments = months.map((month) => Date.parse(`1 ${month} UTC`));
  assert.deepEqual(moments, moments.toSorted((a, b) => b - a), "newest month first");
  assert.match(await page.locator("article .mono").first().textContent(), /^PAT\d{3}REC\d+$/);
  assert.equal(await page.locator("details.verify.ok").count(), await page.locator("article.entry").count());
  await sound(person, "record");
  await page.getByLabel("Show").selectOption("vitals");
  await page.getByRole("button", { name: "Apply" }).click();
  await page.waitForURL(/show=vitals/);
  await page.getByRole("link", { name: /Body Weight/ }).first().click();
  await page.getByText("This is exactly what").waitFor();
  assert.match(await page.locator(".stat").textContent(), /kg/);
  await page.getByRole("heading", { name: "Over time" }).waitFor();
  await sound(person, "entry");
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("link", { name: "Download the proof file" }).click(),
  ]);
  const file = join(data, "..", "entry.proof.json");
  writeFileSync(file, await (await download.createReadStream()).toArray().then((parts) => Buffer.concat(parts)));
  const verdict = JSON.parse(await stele("verify", "proof", file, "--genesis", join(data, "genesis.json"), "--json"));
  assert.equal(verdict.ok, true);
  await page.goto(`${base}/account`);
  await page.getByText("PAT0").waitFor();
  await sound(person, "account");
});

/** A person sees where the account is signed in and ends it everywhere else. */
test("a patient signs out everywhere else", DEADLINE, async () => {
  const [, , { id }] = await patients();
  const first = await signedUp(id);
  const second = await signedUp(id);
  await first.page.goto(`${first.base}/account`);
  await first.page.getByText("Another browser").waitFor();
  await sound(first, "account-sessions");
  await first.page.getByRole("button", { name: "Sign out everywhere else" }).click();
  await first.page.getByText("You are signed in nowhere else").waitFor();
  assert.equal((await second.page.goto(`${first.base}/record`)).url(), `${first.base}/sign-in`);
  assert.equal((await first.page.goto(`${first.base}/record`)).url(), `${first.base}/record`);
});
