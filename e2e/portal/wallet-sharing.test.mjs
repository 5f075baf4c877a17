// Sharing signed by an Ethereum wallet instead of a passkey: typed data (EIP-712) of the very decision on the page, on a ledger
// that the wallet is offered (EIP-3085) where it does not know it. Rows: FR-P07, FR-X2.

import assert from "node:assert/strict";
import { before, test } from "node:test";

import { Contract, Interface, JsonRpcProvider, Wallet, getAddress } from "ethers";
import { abis, addresses, domain, types } from "stele-contracts";

import { config } from "../wallet/config.mjs";
import { BrowserWallet, EXTENSION } from "../wallet/wallet.mjs";
import { patients, signedUp, sound, world } from "./browser.mjs";

const DEADLINE = { timeout: 240_000 };

let base, node, patient, doctor, grantee, account;
const wallet = new BrowserWallet();
const provider = () => new JsonRpcProvider(node.ready.rpc, undefined, { staticNetwork: true });

before(async () => {
  node = await world("--config", config({ rpc_origins: [EXTENSION] }));
  base = node.base;
  grantee = node.account("Dr Tomas Lind");
  const [first] = await patients();
  patient = await signedUp(first.id);
  doctor = await signedUp(grantee);
  await wallet.install(patient.context);
  const { page } = patient;
  await page.goto(`${base}/account`);
  await page.getByRole("button", { name: "Add MetaMask" }).click();
  await page.getByText(wallet.address).first().waitFor();
}, DEADLINE);

/** Answers the questions of sharing up to the check page. */
async function toCheck() {
  const { page } = patient;
  await page.goto(`${base}/access/share`);
  await page.getByLabel("Name", { exact: true }).fill("Tomas Lind");
  await page.getByRole("button", { name: "Find" }).click();
  await page.getByRole("radio", { name: /Tomas Lind/ }).check();
  await page.getByRole("button", { name: "Continue" }).click();
  await page.getByText("Choose single parts").click();
  for (const part of ["Name, address and contacts", "Medicines"]) await page.getByLabel(part, { exact: true }).check();
  await page.getByRole("button", { name: "Continue" }).click();
  for (const choice of [/^See They can read/, /^30 days/, /Treatment/]) {
    await page.getByRole("radio", { name: choice }).check();
    await page.getByRole("button", { name: "Continue" }).click();
  }
  await page.getByRole("heading", { name: "Check your answers" }).waitFor();
}

/** The last transaction to Consent, read with the ABI of the npm package. */
async function lastDecision(name) {
  const its = provider();
  const consent = new Contract(addresses.IConsent, abis.IConsent, its);
  const [event] = (await consent.queryFilter(name, 0, "latest")).slice(-1);
  const { data, from } = await its.getTransaction(event.transactionHash);
  its.destroy();
  return { call: new Interface(abis.IConsent).parseTransaction({ data }), event: event.args, from };
}

/** FR-P07: what the page says, the wallet shows field by field and the ledger records; the doctor sees it at once. */
test("a patient shares by wallet", DEADLINE, async () => {
  const { page } = patient;
  await toCheck();
  assert.match(await page.locator(".sentence").textContent(), /allow Dr Tomas Lind of Kos Heart Centre to see my name, address and contacts and medicines/);
  await sound(patient, "share-check-wallet");
  // Declined in the wallet, nothing changes.
  wallet.confirm = (kind) => kind !== "sign typed data";
  await page.getByRole("button", { name: "Sign with MetaMask" }).click();
  await page.getByText("Your wallet did not confirm").waitFor();
  // The wallet did not know the ledger and was given it.
  assert.deepEqual(wallet.last("add").chainId, `0x${BigInt(node.ready.chainId ?? 57_831).toString(16)}`);
  wallet.confirm = () => true;
  await page.getByRole("button", { name: "Sign with MetaMask" }).click();
  await page.getByRole("heading", { name: "Dr Tomas Lind now has access" }).waitFor();
  await page.getByText("Recorded, and final.").waitFor();
  const shown = wallet.last("sign typed data");
  assert.deepEqual([shown.name, shown.primaryType, shown.contract, shown.fields.grantee], ["Stele Consent", "Grant", getAddress(addresses.IConsent), grantee]);
  account = shown.fields.patient;
  const { call, event, from } = await lastDecision("Granted");
  assert.equal(call.name, "grantBySig");
  assert.deepEqual([event.patient, event.grantee], [account, grantee]);
  assert.deepEqual([from === account, from === wallet.address], [false, false], "the organisation sends it, and pays nothing");
  for (const [at, name] of [[0, "patient"], [1, "grantee"], [5, "nonce"], [6, "deadline"]]) assert.equal(String(call.args[at]), String(shown.fields[name]), name);
  for (const name of ["categories", "permissions", "purposes", "notBefore", "expires", "recordsFrom", "recordsTo"]) {
    assert.equal(String(call.args.terms[name]), String(shown.fields[name]), name);
  }
  // The keys came with it: the doctor opens what was shared.
  const row = doctor.page.locator("#shares tr", { hasText: /PAT\d+/ }).first();
  await row.waitFor();
  await row.getByRole("link").first().click();
  await doctor.page.getByRole("heading", { name: "Medicines" }).waitFor();
  assert.ok((await doctor.page.locator("#medicines tbody tr").count()) > 0, "medicines were shared");
  assert.deepEqual([...patient.wrong, ...doctor.wrong], []);
});

/** A signature of another wallet, of something else, or none is refused; the draft waits on for the right one. */
test("only the account's own wallet, and only what the page says, counts", DEADLINE, async () => {
  const { page } = patient;
  await toCheck();
  const action = new URL(page.url()).pathname;
  const csrf = await page.locator("input[name=csrf]").first().inputValue();
  const post = (path, form) => page.request.post(`${base}${action}/wallet${path}`, { form: { csrf, ...form }, headers: { origin: base }, maxRedirects: 0 });
  const asked = JSON.parse(await (await post("/message", { wallet: wallet.address })).text());
  assert.deepEqual(asked.types.Grant, types.Grant, "the types are those of the contract's package");
  const expected = domain(asked.domain.chainId);
  assert.deepEqual(asked.domain, { ...expected, verifyingContract: getAddress(expected.verifyingContract) });
  const stranger = Wallet.createRandom();
  assert.equal((await post("/message", { wallet: stranger.address })).status(), 403);
  assert.equal((await post("/message", { wallet: "nobody" })).status(), 400);
  const sign = (key, message = asked.message) => key.signTypedData(asked.domain, { Grant: asked.types.Grant }, message);
  for (const [what, signature] of [
    ["another wallet", await sign(stranger)],
    ["more categories", await sign(wallet.wallet, { ...asked.message, categories: String(2n ** 64n - 1n) })],
    ["another grantee", await sign(wallet.wallet, { ...asked.message, grantee: stranger.address })],
    ["a later deadline", await sign(wallet.wallet, { ...asked.message, deadline: String(BigInt(asked.message.deadline) + 1n) })],
    ["no signature", "0x"],
    ["not hexadecimal", "what?"],
  ]) {
    assert.equal((await post("", { signature })).status(), 403, what);
  }
  const good = await sign(wallet.wallet);
  assert.equal((await post("", { signature: good })).status(), 303);
  // It was used up with its draft.
  assert.equal((await post("", { signature: good })).status(), 404);
  // Nobody else carries this draft, signed or not.
  const other = await doctor.page.request.post(`${base}${action}/wallet`, { form: { csrf: await doctor.page.locator("input[name=csrf]").first().inputValue(), signature: good }, headers: { origin: base } });
  assert.equal(other.status(), 403);
});

/** A request is allowed, and an access stopped, by wallet; what the ledger takes no typed data for asks for the passkey. */
test("a patient allows a request and stops access by wallet", DEADLINE, async () => {
  const { page } = patient;
  await page.goto(`${base}/account`);
  const number = (await page.locator("dd.mono").first().textContent()).trim();
  await doctor.page.goto(`${base}/ask`);
  await doctor.page.getByLabel("Patient number").fill(number);
  await doctor.page.getByLabel("Health problems").check();
  await doctor.page.getByLabel("See, and add entries").check();
  await doctor.page.getByLabel("Why, in words for the patient").fill("To note what we found");
  await doctor.page.getByRole("button", { name: "Ask", exact: true }).click();
  await doctor.page.getByText("Requested").first().waitFor();
  await page.goto(`${base}/access`);
  await page.getByRole("button", { name: "Allow Dr Tomas Lind" }).click();
  await page.getByRole("button", { name: "Sign with MetaMask" }).click();
  await page.getByRole("heading", { name: "Dr Tomas Lind now has access" }).waitFor();
  const allowed = await lastDecision("Granted");
  assert.ok(BigInt(allowed.call.args.request) > 0n, "it answers the request");
  await page.goto(`${base}/access`);
  await page.getByRole("button", { name: /^Stop access/ }).first().click();
  await page.getByRole("heading", { name: "Stop this access?" }).waitFor();
  await sound(patient, "stop-wallet");
  await page.getByRole("button", { name: "Sign with MetaMask" }).click();
  await page.getByRole("heading", { name: /has ended/ }).waitFor();
  assert.equal(wallet.last("sign typed data").primaryType, "Revoke");
  assert.equal((await lastDecision("Revoked")).call.name, "revokeBySig");
  await page.goto(`${base}/access`);
  await page.getByRole("button", { name: "Stop all access" }).click();
  await page.getByRole("heading", { name: "Stop all access?" }).waitFor();
  assert.equal(await page.getByRole("button", { name: /MetaMask/ }).count(), 0);
});

/** A wallet that is not the account's is told so before it signs anything. */
test("another wallet is asked for nothing", DEADLINE, async () => {
  const { page } = patient;
  const own = wallet.wallet;
  wallet.wallet = new Wallet(Wallet.createRandom().privateKey);
  const before = wallet.shown.filter(({ kind }) => kind === "sign typed data").length;
  await toCheck();
  await page.getByRole("button", { name: "Sign with MetaMask" }).click();
  await page.getByText("This wallet is not one of your account").waitFor();
  assert.equal(wallet.shown.filter(({ kind }) => kind === "sign typed data").length, before);
  wallet.wallet = own;
});
