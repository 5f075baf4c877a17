// The page of `stele dev` in a real browser: what a chain holds, in words; and that nothing on it is more than text.
// Rows: FR-A7, FR-X2, NFR-UX2.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Contract, ContractFactory, JsonRpcProvider, ZeroHash, parseEther } from "ethers";
import { abis, addresses } from "stele-contracts";

import { healthRecords } from "../ethereum/contracts.mjs";
import { sound } from "../portal/browser.mjs";
import { startDevelopment } from "../start.mjs";
import { browser } from "../wallet/pages.mjs";

const DEADLINE = { timeout: 120_000 };
const NASTY = "<script>alert(1)</script><img src=x onerror=alert(2)>";

let ready, chromium, provider, person, hashes, records;

before(async () => {
  ready = await startDevelopment();
  provider = new JsonRpcProvider(ready.rpc, undefined, { pollingInterval: 50, cacheTimeout: -1 });
  const signer = await provider.getSigner(0);
  const system = (name) => new Contract(addresses[name], abis[name], signer);
  const hash = async (sent) => (await (await sent).wait()).hash;
  const [, patient, doctor] = ready.accounts;
  const terms = { categories: 5n, permissions: 1, purposes: 1, notBefore: 0, expires: 4_000_000_000, recordsFrom: 0, recordsTo: 65_535 };
  hashes = {
    registered: await hash(system("IIdentity").registerPatient(patient, ZeroHash)),
    granted: await hash(system("IConsent").connect(await provider.getSigner(1)).grant(doctor, terms, ZeroHash, 0)),
    paid: await hash(signer.sendTransaction({ to: doctor, value: parseEther("1.5") })),
    refused: await signer.sendUncheckedTransaction({ to: addresses.IConsent, data: system("IConsent").interface.encodeFunctionData("publishDirectory", [ZeroHash]), gasLimit: 200_000 }),
  };
  const { abi, bytecode } = healthRecords();
  records = await (await new ContractFactory(abi, bytecode, signer).deploy()).waitForDeployment();
  hashes.nasty = await hash(records.createRecord(1, NASTY, patient, NASTY, NASTY));
  chromium = await browser();
  person = await visitor();
}, DEADLINE);

after(async () => {
  provider?.destroy();
  await chromium?.close();
});

/** A page of a browser, and whatever it must not do. */
async function visitor() {
  const page = await (await chromium.newContext({ viewport: { width: 1280, height: 900 } })).newPage();
  const wrong = [];
  page.on("request", (request) => request.url().startsWith(ready.page) || wrong.push(`asked elsewhere: ${request.url()}`));
  page.on("console", (message) => /Content Security Policy|Refused to/.test(message.text()) && wrong.push(message.text()));
  page.on("pageerror", (error) => wrong.push(String(error)));
  page.on("dialog", (dialog) => wrong.push(dialog.message()) && dialog.dismiss());
  return { page, wrong };
}

const text = () => person.page.locator("main").innerText();

test("the first page shows accounts, transactions, blocks and system contracts", DEADLINE, async () => {
  const { page } = person;
  const answer = await page.goto(ready.page);
  const policy = answer.headers()["content-security-policy"];
  assert.match(policy, /^default-src 'none'/);
  assert.doesNotMatch(policy, /unsafe|script|\*|data:/);
  assert.equal(await page.getByRole("heading", { level: 1 }).innerText(), "Development chain 31337");
  for (const address of [...ready.accounts, ...Object.values(addresses)]) {
    assert.equal(await page.getByText(address, { exact: true }).or(page.getByText(new RegExp(address, "i"))).first().isVisible(), true, address);
  }
  const account = page.getByRole("row", { name: /Account 2/ }).first();
  assert.match(await account.innerText(), /10001\.5/);
  const rows = page.getByRole("table", { name: "Transactions, newest first" }).getByRole("row");
  assert.equal(await rows.count(), 7);
  const said = await rows.allInnerTexts();
  for (const words of [/Account 0.*Identity.*registerPatient.*Done/s, /Account 1.*Consent.*grant.*Done/s, /publishDirectory.*Reverted/s, /sends coins/, /makes a contract/]) {
    assert.ok(said.some((row) => words.test(row)), String(words));
  }
  await sound(person, "dev-start");
});

test("a transaction is told by the ABI, with its logs, and why it was reverted", DEADLINE, async () => {
  const { page } = person;
  await page.goto(ready.page);
  await page.getByLabel("Height, address or hash").fill(hashes.granted);
  await page.getByRole("button", { name: "Show" }).click();
  await page.waitForURL(`**/transactions/${hashes.granted}`);
  const granted = await text();
  assert.match(granted, /grantee\s+0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC/);
  assert.match(granted, /categories: 5, permissions: 1|\(5, 1, 1, 0, 4000000000, 0, 65535\)/);
  assert.match(granted, /Granted\s/);
  await sound(person, "dev-transaction");
  await page.goto(`${ready.page}/transactions/${hashes.refused}`);
  const refused = await text();
  assert.match(refused, /Reverted/);
  assert.match(refused, /NotAPatient\s+account\s+0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266/);
  await page.goto(`${ready.page}/transactions/${hashes.paid}`);
  assert.match(await text(), /Value\s+1\.5/);
  await page.getByRole("link", { name: /^\d+$/ }).first().click();
  await page.getByRole("heading", { name: /^Block \d+$/ }).waitFor();
  assert.match(await text(), /sends coins/);
  await sound(person, "dev-block");
});

test("a contract's code and storage are shown, and its strings stay text", DEADLINE, async () => {
  const { page } = person;
  const address = await records.getAddress();
  await page.goto(`${ready.page}/accounts/${address}`);
  const shown = await text();
  const code = await provider.getCode(address);
  assert.match(shown, new RegExp(`Code, ${(code.length - 2) / 2} bytes`));
  await page.getByText(/^Code, /).click();
  assert.match(await text(), new RegExp(code.slice(0, 200)));
  const { storage } = await provider.send("debug_storageRangeAt", ["latest", 0, address, "0x", 1_000]);
  const rows = page.getByRole("table", { name: "Slots" }).getByRole("row");
  assert.ok((await rows.count()) > Object.keys(storage).length, "slots of the last transaction are there");
  await sound(person, "dev-contract");
  // Native contracts have storage as others have.
  await page.goto(`${ready.page}/accounts/${addresses.IConsent}`);
  assert.match(await text(), /Consent, a system contract/);
  assert.match(await text(), /Granted/);
  await page.goto(`${ready.page}/transactions/${hashes.nasty}`);
  assert.equal(await page.locator("main script, main img").count(), 0);
  await page.goto(`${ready.page}/find?what=${encodeURIComponent(NASTY)}`);
  await page.getByText("It is no height").waitFor();
  assert.deepEqual(person.wrong, []);
});

test("what is not there is said, other names and methods are refused", DEADLINE, async () => {
  for (const [path, status] of [
    ["/blocks/999", 404], ["/blocks/x", 404], [`/transactions/${ZeroHash}`, 404], ["/transactions/x", 404], ["/accounts/x", 404],
    [`/find?what=${ZeroHash}`, 404], ["/find?what=", 404], ["/nothing", 404], [`/accounts/${ready.accounts[9]}`, 200],
  ]) {
    assert.equal((await fetch(ready.page + path)).status, status, path);
  }
  assert.equal((await fetch(ready.page, { method: "POST" })).status, 405);
  const { request } = await import("node:http");
  const foreign = await new Promise((done) => request(ready.page, { headers: { host: "evil.example" } }, (answer) => done(answer.resume().statusCode)).end());
  assert.equal(foreign, 403);
});

test("it is there unless it is switched off", DEADLINE, async () => {
  const without = await startDevelopment("--no-page");
  assert.equal(without.page, undefined);
  const elsewhere = await startDevelopment("--page", "127.0.0.1:0");
  assert.equal((await fetch(elsewhere.page)).status, 200);
});
