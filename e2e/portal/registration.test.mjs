// Doctors register themselves; until the administrator has verified the licence nothing is open to them.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { signedUp, sound, visitor, world } from "./browser.mjs";

const DEADLINE = { timeout: 480_000 };
const VIEWS = new URL("../../crates/portal/src/views/", import.meta.url).pathname;

/** Pages that somebody without an account may ask for. */
const PUBLIC = new Set([
  "/language",
  "/sign-in",
  "/sign-out",
  "/sign-in/wallet",
  "/sign-in/wallet/message",
  "/invitation",
  "/invitation/passkey",
  "/register",
  "/register/passkey",
  "/registration",
]);

/** Every address that a view is at, as the sources have it: a page that is added later is tried too. */
function addresses() {
  const files = readdirSync(VIEWS, { recursive: true }).filter((name) => name.endsWith(".rs"));
  const found = files.flatMap((name) => [...readFileSync(join(VIEWS, name), "utf8").matchAll(/\.route\(\s*"([^"]+)"/g)]);
  return found.map(([, address]) => address).filter((address) => !address.includes("//"));
}

const filled = (address) =>
  address.replaceAll("{patient}", "PAT001").replaceAll("{type}", "Patient").replaceAll(/\{[^}]+\}/g, "1");

async function register(person, claim) {
  const { page, base } = person;
  await page.goto(`${base}/sign-in`);
  await page.getByRole("link", { name: "Register as a doctor" }).click();
  await page.getByLabel("Organisation you work for").selectOption({ label: "Epidaurus General Hospital" });
  for (const [label, value] of Object.entries(claim)) await page.getByLabel(label).fill(value);
  await page.getByRole("button", { name: "Continue" }).click();
}

const CLAIM = {
  "Your name": "Dr Ines <i>Okafor</i>",
  "Number in the national register": "7001234",
  "Branch of medicine": "cardiology",
  "Address of your clinic": "1 Harbour Street, Epidaurus",
  "Number of your licence": "MD 1234-A",
};

/** FR-D01, S01: an unverified doctor can sign in and do nothing; verified, the doctor works. FR-A1: the check is kept. */
test("a doctor registers, can do nothing, is verified and asks a patient", DEADLINE, async () => {
  const { account } = await world();
  const doctor = await visitor();
  const { page, base } = doctor;
  await page.goto(`${base}/register`);
  await sound(doctor, "register");
  await page.getByRole("button", { name: "Continue" }).click();
  await page.getByRole("link", { name: "Enter your name" }).waitFor();
  await sound(doctor, "register-wrong");
  await register(doctor, CLAIM);
  await page.getByRole("heading", { name: "Check, then make your passkey" }).waitFor();
  await sound(doctor, "register-check");
  await page.getByRole("button", { name: "Send with a passkey" }).click();
  await page.getByText("Waits to be checked").waitFor();
  assert.equal(page.url(), `${base}/registration`);
  await sound(doctor, "registration-waits");

  // The passkey signs in to the request again, and to nothing else.
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("button", { name: "Sign in with a passkey" }).click();
  await page.getByText("Waits to be checked").waitFor();
  const csrf = await page.locator("input[name=csrf]").first().inputValue();
  const tried = addresses().filter((address) => !PUBLIC.has(address));
  assert.ok(tried.length > 50, `${tried.length} addresses`);
  for (const address of [...tried, "/events"]) {
    const path = base + filled(address);
    for (const ask of [
      () => page.request.get(path, { maxRedirects: 0 }),
      () => page.request.post(path, { form: { csrf }, headers: { origin: base }, maxRedirects: 0 }),
    ]) {
      const answer = await ask();
      const refused = answer.headers().location === "/sign-in" || [404, 405].includes(answer.status());
      assert.ok(refused, `${address}: ${answer.status()} ${answer.headers().location}`);
    }
  }

  const admin = await signedUp(account("Eva Stone"));
  await admin.page.getByText("A doctor waits for your check").waitFor();
  await sound(admin, "members-waiting");
  await admin.page.getByRole("link", { name: "Look at the licence and decide" }).click();
  await sound(admin, "requests");
  await admin.page.getByRole("link", { name: "Dr Ines <i>Okafor</i>" }).click();
  assert.match(await admin.page.locator("main").textContent(), /7001234.*1 Harbour Street.*MD 1234-A/s);
  await admin.page.getByRole("button", { name: "Licence verified" }).click();
  await admin.page.getByRole("link", { name: /Write how you checked the licence/ }).waitFor();
  await sound(admin, "request-wrong");
  await admin.page.getByLabel("How you checked it").fill("Register of the medical council, entry 7001234");
  await admin.page.getByRole("button", { name: "Licence verified" }).click();
  await admin.page.getByText("By Eva Stone").waitFor();
  await sound(admin, "request-verified");
  await admin.page.goto(`${base}/members/acts`);
  const line = admin.page.getByRole("row", { name: /Eva Stone verified a licence/ });
  assert.match(await line.textContent(), /entry 7001234/);
  await sound(admin, "acts");
  await admin.page.goto(`${base}/members`);
  await admin.page.getByRole("row", { name: /Okafor/ }).getByText("Active").waitFor();

  await page.reload();
  await page.getByText("Licence verified").waitFor();
  await sound(doctor, "registration-verified");
  await page.getByRole("button", { name: "Sign in to work" }).click();
  await page.getByRole("button", { name: "Sign in with a passkey" }).click();
  await page.waitForURL(`${base}/worklist`);
  await page.goto(`${base}/ask`);
  await page.getByLabel("Patient number").fill("PAT004");
  await page.getByLabel("Medicines").check();
  await page.getByLabel("Why, in words for the patient").fill("You were referred to me.");
  await page.getByRole("button", { name: "Ask", exact: true }).click();
  await page.getByText("Requested").waitFor();

  // Suspended, the doctor is out with the next request: the block of the suspension is final when the page answers.
  const row = admin.page.getByRole("row", { name: /Okafor/ });
  await row.getByRole("button", { name: /Suspend/ }).click();
  await row.getByText("Suspended").waitFor();
  assert.equal((await page.request.get(`${base}/ask`, { maxRedirects: 0 })).headers().location, "/sign-in");
});

/** A second request with the same licence, written differently: the administrator is told, the applicant never is. */
test("a licence that is here already is the administrator's to see, and a request is declined with a reason", DEADLINE, async () => {
  const { account } = await world();
  const doctor = await visitor();
  const { page, base } = doctor;
  await register(doctor, { ...CLAIM, "Your name": "Dr <i>Other</i>", "Number of your licence": "md1234a" });
  await page.getByRole("button", { name: "Send with a passkey" }).click();
  await page.getByText("Waits to be checked").waitFor();
  assert.doesNotMatch(await page.locator("body").textContent(), /already/);
  const admin = await signedUp(account("Eva Stone"));
  await admin.page.goto(`${base}/members/requests`);
  await admin.page.getByRole("link", { name: "Dr <i>Other</i>" }).click();
  await admin.page.getByText("This licence is here already").waitFor();
  assert.match(await admin.page.locator(".notice.bad").textContent(), /Recorded for the member Dr Ines <i>Okafor<\/i>/);
  await sound(admin, "request-same-licence");
  await admin.page.getByLabel("Reason").fill("This licence is not yours.");
  await admin.page.getByRole("button", { name: "Decline" }).click();
  await admin.page.getByText("By Eva Stone").waitFor();
  await page.reload();
  await page.getByText("This licence is not yours.").waitFor();
  await sound(doctor, "registration-declined");
  // Decided is decided, also for a form that was still open; and only administrators decide.
  const id = admin.page.url().split("/").at(-1);
  const again = async (who, act) => {
    await who.page.goto(`${base}/account`);
    const csrf = await who.page.locator("input[name=csrf]").first().inputValue();
    const path = `${base}/members/requests/${id}/${act}`;
    return who.page.request.post(path, { form: { csrf, how: "x", reason: "x" }, headers: { origin: base } });
  };
  assert.equal((await again(admin, "verify")).status(), 409);
  const colleague = await signedUp(account("Dr Ana Reyes"));
  for (const act of ["verify", "decline"]) assert.equal((await again(colleague, act)).status(), 403, act);
});

/** Who floods the form is stopped. */
test("registrations of one address are limited", DEADLINE, async () => {
  const { page, base } = await visitor();
  await page.goto(`${base}/register`);
  const csrf = await page.locator("input[name=csrf]").first().inputValue();
  const statuses = [];
  for (let at = 0; at < 25; at += 1) {
    const headers = { origin: base, "x-forwarded-for": "203.0.113.9" };
    statuses.push((await page.request.post(`${base}/register/passkey`, { form: { csrf }, headers })).status());
  }
  assert.equal(statuses[0], 400);
  assert.equal(statuses.at(-1), 429, statuses.join(" "));
  const elsewhere = { origin: base, "x-forwarded-for": "203.0.113.10" };
  assert.equal((await page.request.post(`${base}/register/passkey`, { form: { csrf }, headers: elsewhere })).status(), 400);
});
