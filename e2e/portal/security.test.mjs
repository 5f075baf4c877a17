// What the portal refuses: the wrong role, forms of other sites, fixed sessions, redirects elsewhere, script in fields.

import assert from "node:assert/strict";
import { before, test } from "node:test";

import { patients, signedUp, sound, visitor, world } from "./browser.mjs";

const DEADLINE = { timeout: 180_000 };

let base;
let people;

before(async () => {
  const { account, ready } = await world();
  base = ready.http;
  const [, , third] = await patients();
  people = {
    patient: await signedUp(third.id),
    doctor: await signedUp(account("Dr Ana Reyes")),
    pharmacist: await signedUp(account("Jonas Weber")),
    laboratory: await signedUp(account("Mira Osei")),
  };
}, DEADLINE);

/** NFR-PRI3: role decides what is seen, on every page; signed out, nothing is. */
test("every page is for its role only", DEADLINE, async () => {
  const mine = ["/record", "/prescriptions", "/access", "/access/ended", "/access/share/who", "/history", "/history/accesses.csv", "/history/accesses.json", "/record/add", "/record/add/file"];
  const everybody = ["/account", "/notices", "/notices/settings"];
  const care = ["/worklist", "/ask"];
  const desks = ["/members", "/members/requests", "/members/acts", "/emergencies", "/ledger", "/ledger/find?find=1", "/ledger/complete", "/ledger/check", "/health", "/health/keys"];
  const expected = {
    patient: { 200: [...mine, ...everybody], 403: [...care, ...desks, "/dispense", "/laboratory", "/patients/PAT001/order", "/patients/PAT001", "/patients/PAT001/section/results", "/patients/PAT001/prescribe", "/patients/PAT001/emergency"] },
    doctor: { 200: [...care, ...everybody], 403: [...mine, ...desks, "/dispense", "/laboratory"] },
    pharmacist: { 200: [...care, "/dispense", ...everybody], 403: [...mine, ...desks, "/laboratory", "/patients/PAT001", "/patients/PAT001/section/results", "/patients/PAT001/order", "/patients/PAT001/prescribe", "/patients/PAT001/emergency"] },
    laboratory: { 200: [...care, "/laboratory", ...everybody], 403: [...mine, ...desks, "/dispense", "/patients/PAT001", "/patients/PAT001/section/results", "/patients/PAT001/order"] },
  };
  for (const [who, byStatus] of Object.entries(expected)) {
    for (const [status, paths] of Object.entries(byStatus)) {
      for (const path of paths) {
        const answer = await people[who].page.request.get(base + path);
        assert.equal(answer.status(), Number(status), `${who} ${path}`);
      }
    }
  }
  for (const path of [...mine, ...care, ...everybody, "/laboratory", "/laboratory/x", "/record/DocumentReference/x/file", "/record/Observation/x/correct", "/patients/PAT001/order", "/dispense", "/emergencies", "/patients/PAT001", "/patients/PAT001/section/results", "/patients/PAT001/prescribe", "/patients/PAT001/emergency", "/record/Patient/x", "/record/Patient/x/proof", "/events"]) {
    const answer = await fetch(base + path, { redirect: "manual" });
    assert.equal(answer.headers.get("location"), "/sign-in", path);
  }
});

/** Forms need the session's own token and one of our own pages. */
test("forms of other sites are refused", DEADLINE, async () => {
  const { page } = people.patient;
  await page.goto(`${base}/account`);
  const csrf = await page.locator("input[name=csrf]").first().inputValue();
  const others = await people.doctor.page.goto(`${base}/account`).then(() => people.doctor.page.locator("input[name=csrf]").first().inputValue());
  const posts = ["/sign-out", "/account/sessions/end", "/access/stop-all", "/access/stop", "/access/share/who", "/account/passkeys", "/account/passkeys/remove", "/access/requests/1/allow", "/access/requests/1/decline", "/notices/settings", "/notices/address", "/notices/address/confirm", "/record/Observation/x/mistake", "/access/check/x/wallet", "/access/check/x/wallet/message", "/drafts", "/drafts/discard", "/register", "/register/passkey"];
  for (const path of posts) {
    for (const form of [{}, { csrf: "" }, { csrf: "00" }, { csrf: others }]) {
      assert.equal((await page.request.post(base + path, { form, headers: { origin: base } })).status(), 400, path);
    }
    const elsewhere = await page.request.post(base + path, { form: { csrf }, headers: { origin: "https://evil.example" } });
    assert.equal(elsewhere.status(), 403, path);
  }
  assert.equal((await page.goto(`${base}/account`)).status(), 200, "still signed in");
});

test("a session from outside is not taken over, and nobody is sent elsewhere", DEADLINE, async () => {
  const fixed = "ab".repeat(32);
  const answer = await fetch(`${base}/sign-in`, { headers: { cookie: `stele_session=${fixed}` } });
  assert.match(answer.headers.get("set-cookie"), /stele_session=(?!abab)[0-9a-f]{64}; Path=\/; HttpOnly; SameSite=Lax/);
  for (const next of ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)"]) {
    const page = await (await fetch(`${base}/sign-in?next=${encodeURIComponent(next)}`)).text();
    assert.match(page, /name="next" value=""/, next);
  }
  // People who typed an address of this machine are sent to the name that their passkeys belong to.
  const port = new URL(base).port;
  const moved = await fetch(`http://127.0.0.1:${port}/record`, { redirect: "manual" });
  assert.equal(moved.headers.get("location"), `${base}/record`);
});

/** Reflected script stays text; the policy has no exception. */
test("what people type is shown as text", DEADLINE, async () => {
  const nasty = `"><script>alert(1)</script><img src=x onerror=alert(2)>`;
  const { patient, doctor } = people;
  const pages = [
    [patient, `/record?find=${encodeURIComponent(nasty)}&show=${encodeURIComponent(nasty)}`],
    [patient, `/access/share/who?find=${encodeURIComponent(nasty)}`],
    [patient, `/history?who=${encodeURIComponent(nasty)}&what=${encodeURIComponent(nasty)}`],
    [doctor, `/worklist?find=${encodeURIComponent(nasty)}`],
    [doctor, `/ask?patient=${encodeURIComponent(nasty)}&reason=${encodeURIComponent(nasty)}`],
    [doctor, `/patients/${encodeURIComponent(nasty)}`],
  ];
  const stranger = await visitor();
  await stranger.page.goto(`${base}/register`);
  for (const field of await stranger.page.locator("input:not([type=hidden])").all()) await field.fill(nasty);
  await stranger.page.getByLabel("Organisation you work for").selectOption({ index: 1 });
  await stranger.page.getByRole("button", { name: "Continue" }).click();
  await stranger.page.getByRole("heading", { name: "Check, then make your passkey" }).waitFor();
  pages.push([stranger, "/register/passkey"], [stranger, "/register"]);
  for (const [person, path] of pages) {
    const answer = await person.page.goto(base + path);
    const policy = answer.headers()["content-security-policy"];
    assert.match(policy, /^default-src 'none'/);
    assert.doesNotMatch(policy, /unsafe|\*|data:/);
    assert.equal(answer.headers()["x-frame-options"], "DENY");
    assert.equal(await person.page.locator("main script, main img").count(), 0, path);
    assert.deepEqual(person.wrong, [], path);
  }
});

/** NFR-UX4: the whole way in with the keyboard alone. */
test("a person signs in with the keyboard alone", DEADLINE, async () => {
  const person = await visitor();
  const { page } = person;
  await page.goto(`${base}/invitation`);
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to content");
  await page.keyboard.press("Enter");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.id), "code");
  await page.keyboard.type("0000-0000-0000");
  await page.keyboard.press("Enter");
  await page.getByRole("alert").waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.id), "errors", "the summary has the focus");
  await sound(person, "invitation-keyboard");
});

/** A suspended member of staff is out with the next request. */
test("suspension ends a session", DEADLINE, async () => {
  const { account, stele } = await world();
  await stele("practitioner", "suspend", account("Jonas Weber"));
  const { page } = people.pharmacist;
  await page.goto(`${base}/worklist`);
  await page.getByRole("button", { name: "Sign in with a passkey" }).click();
  await page.getByRole("alert").first().getByText("suspended").waitFor();
});
