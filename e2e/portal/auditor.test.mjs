// The auditor's desk: everything is found, accesses and completeness are shown, and a report verifies without a node.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";

import { patients, signedUp, sound, world } from "./browser.mjs";

const DEADLINE = { timeout: 480_000 };

let auditor;
let doctor;

before(async () => {
  const { account } = await world();
  auditor = await signedUp(account("Paul Marsh"));
  doctor = await signedUp(account("Dr Ana Reyes"));
  await doctor.page.goto(`${doctor.base}/patients/PAT001`);
}, DEADLINE);

const find = async (text) => {
  const { page, base } = auditor;
  await page.goto(`${base}/ledger`);
  await page.getByLabel("Block, transaction, account, patient number or name").fill(text);
  await page.getByRole("button", { name: "Find" }).click();
};

/** FR-A2: account, transaction, block, event and organisation are found, each from one field. */
test("an auditor finds blocks, transactions, accounts and names", DEADLINE, async () => {
  const { page, base } = auditor;
  const { account } = await world();
  await find("Kos Heart");
  await page.getByRole("link", { name: "Kos Heart Centre" }).click();
  await page.getByText("Organisation Active").waitFor();
  await page.getByRole("link", { name: "by this transaction" }).click();
  await page.getByText("OrganizationRegistered").first().waitFor();
  await sound(auditor, "transaction");
  const hash = new URL(page.url()).pathname.split("/").at(-1);
  await find(hash);
  await page.waitForURL(`${base}/ledger/transactions/${hash}`);
  await page.getByRole("link", { name: /^Back to block/ }).click();
  const digest = await page.locator("dd.mono").first().textContent();
  const block = page.url();
  await find(digest);
  await page.waitForURL(block);
  await find(new URL(block).pathname.split("/").at(-1));
  await page.waitForURL(block);
  await find(account("Dr Ana Reyes"));
  await page.getByRole("heading", { name: "Dr Ana Reyes" }).waitFor();
  await page.getByText("passkey").first().waitFor();
  await sound(auditor, "account-staff");
  await find("pat001");
  await page.getByRole("heading", { name: "Patient PAT001" }).waitFor();
  await sound(auditor, "account-patient");
  await find("Nobody of this name");
  await page.getByText("Nothing of that number or name").waitFor();
  await sound(auditor, "find-nothing");
});

/** FR-A2: a patient's and a member's accesses; that somebody looked is noted. */
test("an auditor sees who looked, and the look is noted", DEADLINE, async () => {
  const { page, base } = auditor;
  const { account } = await world();
  await find("PAT001");
  await page.getByRole("link", { name: "Who looked" }).click();
  await page.getByRole("row", { name: /Dr Ana Reyes.*Allowed/ }).first().waitFor();
  await sound(auditor, "accesses-patient");
  await find(account("Dr Ana Reyes"));
  await page.getByRole("link", { name: "What they looked at" }).click();
  await page.getByRole("row", { name: /Patient PAT001.*Allowed/ }).first().waitFor();
  await sound(auditor, "accesses-staff");
  await page.goto(`${base}/members/acts`);
  await page.getByRole("row", { name: /Paul Marsh looked at accesses · Patient PAT001/ }).first().waitFor();
  await page.getByRole("row", { name: /Paul Marsh looked at accesses · Dr Ana Reyes/ }).first().waitFor();
  // The record itself stays closed.
  assert.equal((await page.request.get(`${base}/patients/PAT001`)).status(), 403);
});

/** NFR-INT1: completeness of one record and of all, run from the page. */
test("an auditor checks that no record is missing", DEADLINE, async () => {
  const { page, base } = auditor;
  await find("PAT001");
  await page.getByRole("button", { name: "Check that nothing is missing" }).click();
  await page.getByText("Nothing is missing", { exact: true }).waitFor();
  assert.match(await page.locator("#complete").textContent(), /All [1-9]\d* versions that the ledger has of PAT001 are here/);
  await sound(auditor, "complete-one");
  await page.goto(`${base}/ledger/complete`);
  await sound(auditor, "complete-begin");
  await page.getByRole("button", { name: "Begin" }).click();
  await page.getByText("Nothing is missing", { exact: true }).waitFor();
  assert.match(await page.locator("main").textContent(), /All [1-9]\d* versions of 3 patients are here/);
  await sound(auditor, "complete-done");
});

const verify = (file) =>
  new Promise((resolve) => {
    const genesis = join(auditor.data, "genesis.json");
    execFile(process.env.STELE, ["verify", "audit", file, "--genesis", genesis, "--json"], (error, stdout) => {
      resolve({ code: error?.code ?? 0, said: JSON.parse(stdout) });
    });
  });

async function download(button) {
  const { page } = auditor;
  const [file] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: button }).click()]);
  const path = join(auditor.data, "..", file.suggestedFilename());
  await file.saveAs(path);
  return path;
}

/** FR-A2: the signed report as a page and as JSON, checked without a node; a changed byte is refused by name. */
test("a signed report verifies offline, and a changed byte is named", DEADLINE, async () => {
  const { data } = await world();
  auditor.data = data;
  const [{ id }] = await patients();
  assert.ok(id);
  await find("PAT001");
  await auditor.page.getByRole("link", { name: "Who looked" }).click();
  const json = await download("Signed report, JSON");
  const html = await download("Signed report, to print");
  for (const path of [json, html]) {
    const { code, said } = await verify(path);
    assert.equal(code, 0, JSON.stringify(said));
    assert.ok(said.proven.accesses > 0);
  }
  const page = readFileSync(html, "utf8");
  assert.match(page, /Dr Ana Reyes/);
  const refuse = async (path, text, where) => {
    const changed = `${path}.changed`;
    writeFileSync(changed, text);
    const { code, said } = await verify(changed);
    assert.equal(code, 1);
    assert.match(said.where, where, JSON.stringify(said));
  };
  await refuse(html, page.replace("Dr Ana Reyes", "Dr Ana Reyas"), /^page$/);
  const report = readFileSync(json, "utf8");
  await refuse(json, report.replace('"records":1', '"records":2'), /^receipts\[\d+\]$/);
  await refuse(json, report.replace(/"made":"2/, '"made":"3'), /^signature$/);
  // The page is whole where nothing of ours is, and prints.
  const elsewhere = await auditor.context.newPage();
  await elsewhere.goto(`file://${html}`);
  await elsewhere.getByRole("heading", { name: "Report of accesses" }).waitFor();
  await elsewhere.close();
});

/** FR-A2: whose records a member looked at, signed: verified without a node, and a changed byte is named. */
test("a signed report of a member's accesses verifies offline", DEADLINE, async () => {
  const { data, account } = await world();
  auditor.data = data;
  await find(account("Dr Ana Reyes"));
  await auditor.page.getByRole("link", { name: "What they looked at" }).click();
  await auditor.page.getByRole("heading", { name: /What Dr Ana Reyes/ }).waitFor();
  await sound(auditor, "accesses-member");
  const json = await download("Signed report, JSON");
  const html = await download("Signed report, to print");
  const report = readFileSync(json, "utf8");
  const { receipts, sequence, member } = JSON.parse(report);
  assert.equal(member, account("Dr Ana Reyes").toLowerCase());
  assert.ok(receipts.length > 0 && receipts.every(({ actor }) => actor === member), "hers only");
  assert.ok(sequence.digests.length >= receipts.length);
  for (const path of [json, html]) {
    const { code, said } = await verify(path);
    assert.equal(code, 0, JSON.stringify(said));
    assert.deepEqual([said.proven.member.toLowerCase(), said.proven.accesses > 0, said.proven.patients > 0], [member, true, true]);
  }
  const page = readFileSync(html, "utf8");
  assert.match(page, /PAT001/);
  const refuse = async (path, text, where) => {
    assert.ok(text !== readFileSync(path, "utf8"), `nothing was changed for ${where}`);
    const changed = `${path}.changed`;
    writeFileSync(changed, text);
    const { code, said } = await verify(changed);
    assert.equal(code, 1);
    assert.match(said.where, where, JSON.stringify(said));
  };
  await refuse(html, page.replace("PAT001", "PAT002"), /^page$/);
  await refuse(json, report.replace('"allowed":true', '"allowed":false'), /^receipts\[\d+\]$/);
  await refuse(json, report.replaceAll(member, account("Paul Marsh").toLowerCase()), /^receipts\[\d+\]$/);
  // An access left out is not noticed by its place alone, so the signature has to be.
  await refuse(json, report.replace(/("receipts":\[)\{[^}]*\},?/, "$1"), /^signature$/);
  const elsewhere = await auditor.context.newPage();
  await elsewhere.goto(`file://${html}`);
  await elsewhere.getByRole("heading", { name: "Report of accesses" }).waitFor();
  await elsewhere.close();
});
