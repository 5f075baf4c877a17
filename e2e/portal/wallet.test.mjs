// Signing in with an Ethereum wallet (EIP-4361), for people who added one to their account; and what is refused. The wallet
// is found as EIP-6963 has it; viem reads and verifies the message as a stock implementation of the EIP. Rows: FR-X2, S03.

import assert from "node:assert/strict";
import { before, test } from "node:test";

import { Contract, JsonRpcProvider, Wallet, zeroPadValue } from "ethers";
import { abis, addresses } from "stele-contracts";
import { verifyMessage } from "viem";
import { parseSiweMessage, validateSiweMessage } from "viem/siwe";

import { BrowserWallet } from "../wallet/wallet.mjs";
import { patients, signedUp, sound, visitor, world } from "./browser.mjs";

const DEADLINE = { timeout: 180_000 };
const KNOWN = new BrowserWallet();
const CONTENT = { "content-type": "application/x-www-form-urlencoded" };

let base, node, owner;

before(async () => {
  node = await world();
  base = node.base;
  const [, second] = await patients();
  owner = await signedUp(second.id);
  owner.id = second.id;
}, DEADLINE);

/** A browser with a wallet, at a page of the portal. */
async function withWallet(wallet, path = "/sign-in") {
  const person = await visitor();
  await wallet.install(person.context);
  await person.page.goto(base + path);
  return person;
}

const enter = ({ page }) => page.getByRole("button", { name: "Use MetaMask" }).click();
const refusal = ({ page }) => page.getByRole("alert").first().textContent();

test("where there is no wallet, nobody reads of one", DEADLINE, async () => {
  const person = await visitor();
  await person.page.goto(`${base}/sign-in`);
  assert.doesNotMatch(await person.page.locator("body").innerText(), /wallet/i);
  await owner.page.goto(`${base}/account`);
  assert.doesNotMatch(await owner.page.locator("body").innerText(), /wallet/i);
});

test("a wallet that nobody added is not let in", DEADLINE, async () => {
  const person = await withWallet(new BrowserWallet());
  await enter(person);
  assert.match(await refusal(person), /This wallet is not known here/);
  await sound(person, "sign-in-wallet-unknown");
  assert.equal((await person.page.request.get(`${base}/account`, { maxRedirects: 0 })).status(), 303);
});

test("a person adds a wallet, signs in with it, and removes it", DEADLINE, async () => {
  await KNOWN.install(owner.context);
  const { page } = owner;
  await page.goto(`${base}/account`);
  // Declining in the wallet changes nothing.
  KNOWN.confirm = () => false;
  await page.getByRole("button", { name: "Add MetaMask" }).click();
  await page.getByText("Your wallet did not confirm").waitFor();
  KNOWN.confirm = () => true;
  await page.getByRole("button", { name: "Add MetaMask" }).click();
  await page.getByText(KNOWN.address).first().waitFor();
  assert.match(KNOWN.last("sign in").signIn.statement, /^Let this wallet sign in to my health record and decide/);
  await sound(owner, "account-wallet");
  // The ledger has it: the key speaks for the person's account.
  const account = (await ask("/account")).text;
  assert.match(account, new RegExp(KNOWN.address));

  const person = await withWallet(KNOWN);
  await sound(person, "sign-in-wallet");
  await person.page.goto(`${base}/sign-in?next=/access`);
  await enter(person);
  await person.page.getByRole("heading", { name: "Who can see what" }).waitFor();
  const { text, signIn, isDeceptive } = KNOWN.last("sign in");
  assert.equal(isDeceptive, false);
  assert.deepEqual([signIn.domain, signIn.uri, signIn.version, signIn.chainId], [new URL(base).host, `${base}/sign-in`, "1", node.ready.chainId ?? 57_831]);
  assert.equal(signIn.address, KNOWN.address);
  assert.equal(signIn.expirationTime - signIn.issuedAt, 300_000);
  assert.ok(validateSiweMessage({ message: signIn, domain: new URL(base).host, nonce: signIn.nonce, time: signIn.issuedAt }));
  assert.ok(await verifyMessage({ address: KNOWN.address, message: text, signature: await KNOWN.wallet.signMessage(text) }));
  // The session is as any other: it shows the record, and ends.
  await person.page.goto(`${base}/record`);
  await person.page.getByRole("heading", { name: "Your record" }).waitFor();
  await person.page.getByRole("button", { name: "Sign out" }).click();
  await person.page.getByRole("heading", { name: "Sign in to your health record" }).waitFor();
  assert.deepEqual(person.wrong, []);

  await page.goto(`${base}/account`);
  await page.getByRole("button", { name: `Remove ${KNOWN.address}` }).click();
  await page.getByRole("button", { name: "Add MetaMask" }).waitFor();
  const again = await withWallet(KNOWN);
  await enter(again);
  assert.match(await refusal(again), /not known here/);
});

/** The owner's page as the server gives it. */
async function ask(path) {
  const answer = await owner.page.request.get(base + path);
  return { status: answer.status(), text: await answer.text() };
}

/** A browser's session without a browser: its cookie and token, and forms. */
async function session() {
  const first = await fetch(`${base}/sign-in`);
  const cookie = first.headers.get("set-cookie").split(";")[0];
  const csrf = (await first.text()).match(/name="csrf" value="([0-9a-f]{64})"/)[1];
  const post = async (path, fields, origin = base) => {
    const body = new URLSearchParams({ csrf, ...fields });
    const answer = await fetch(base + path, { method: "POST", redirect: "manual", headers: { ...CONTENT, cookie, origin }, body });
    return { status: answer.status, text: await answer.text(), cookie: answer.headers.get("set-cookie") };
  };
  return { post, message: async (wallet) => (await post("/sign-in/wallet/message", { wallet })).text };
}

/** Every forged, stale or foreign answer, by the wallet of somebody who may sign in. */
test("nothing but this session's own message counts", DEADLINE, async () => {
  const wallet = Wallet.createRandom();
  await addByPage(wallet);
  const sign = (message, key = wallet) => key.signMessage(message);
  const send = async (its, signature) => {
    const { status, text, cookie } = await its.post("/sign-in/wallet", { signature });
    return status === 303 ? `in, ${/stele_session=[0-9a-f]{64}/.test(cookie)}` : (text.match(/<li><a href="#passkey">([^<]+)<\/a><\/li>/)?.[1] ?? status);
  };
  const own = await session();
  const other = /signed with another account, or something else than this site asked for/;
  const used = /Nothing waits for a signature/;

  // As it should be, and once only.
  const signature = await sign(await own.message(wallet.address));
  assert.equal(await send(own, signature), "in, true");
  const again = await session();
  assert.match(await send(again, signature), used);

  for (const [name, spoil, words] of [
    ["another wallet's signature", async (text) => sign(text, Wallet.createRandom()), other],
    ["another site", async (text) => sign(text.replaceAll(new URL(base).host, "records.example")), other],
    ["another chain", async (text) => sign(text.replace(/Chain ID: \d+/, "Chain ID: 1")), other],
    ["another account", async (text) => sign(text.replace(wallet.address, KNOWN.address)), other],
    ["another nonce", async (text) => sign(text.replace(/Nonce: ..../, "Nonce: 0000")), other],
    ["a longer life", async (text) => sign(text.replace(/Expiration Time: \d{4}/, "Expiration Time: 2999")), other],
    ["no signature", async () => "", /not a signature/],
    ["too short a signature", async (text) => (await sign(text)).slice(0, -2), /not a signature/],
    ["not hexadecimal", async () => "0xzz", /not a signature/],
    ["zeros", async () => `0x${"00".repeat(65)}`, /not a signature/],
  ]) {
    const its = await session();
    assert.match(String(await send(its, await spoil(await its.message(wallet.address)))), words, name);
    // It was the one chance of that message.
    assert.match(await send(its, signature), used, name);
  }

  // The message of one browser's session, signed, is of no use in another's.
  const [victim, thief] = [await session(), await session()];
  await thief.message(wallet.address);
  assert.match(await send(thief, await sign(await victim.message(wallet.address))), other);
  // A newer message takes the older one's place.
  const its = await session();
  const older = await sign(await its.message(wallet.address));
  await its.message(Wallet.createRandom().address);
  assert.match(await send(its, older), other);
  // Asked for to sign in, it adds no wallet, and nobody who is not signed in adds one.
  const outside = await session();
  await outside.message(wallet.address);
  assert.equal((await outside.post("/account/wallets", { signature })).status, 303);
  assert.equal((await outside.post("/sign-in/wallet", { signature }, "https://evil.example")).status, 403);
  assert.equal((await outside.post("/sign-in/wallet/message", { wallet: "somebody" })).status, 400);
});

test("the wallet of a suspended member of staff is not let in", DEADLINE, async () => {
  const account = node.account("Jonas Weber");
  const person = await signedUp(account);
  const wallet = new BrowserWallet();
  await wallet.install(person.context);
  await person.page.goto(`${base}/account`);
  await person.page.getByRole("button", { name: "Add MetaMask" }).click();
  await person.page.getByText(wallet.address).first().waitFor();
  const provider = new JsonRpcProvider(node.ready.rpc);
  const identity = new Contract(addresses.IIdentity, abis.IIdentity, provider);
  assert.deepEqual([...(await identity.speaksFor(account, zeroPadValue(wallet.address, 32)))].slice(0, 2), [true, 0n]);
  provider.destroy();
  const before = await withWallet(wallet);
  await enter(before);
  await before.page.getByRole("button", { name: "Sign out" }).waitFor();
  await node.stele("practitioner", "suspend", account);
  const after = await withWallet(wallet);
  await enter(after);
  assert.match(await refusal(after), /its account is suspended/);
});

/** Adds a wallet to the owner's account, by hand. */
async function addByPage(wallet) {
  const { page } = owner;
  await page.goto(`${base}/account`);
  const csrf = await page.locator("input[name=csrf]").first().inputValue();
  const headers = { origin: base };
  const asked = await page.request.post(`${base}/account/wallets/message`, { form: { csrf, wallet: wallet.address }, headers });
  const message = await asked.text();
  assert.equal(parseSiweMessage(message).uri, `${base}/account`);
  const signature = await wallet.signMessage(message);
  const added = await page.request.post(`${base}/account/wallets`, { form: { csrf, signature }, headers, maxRedirects: 0 });
  assert.equal(added.status(), 303);
  // A wallet belongs to one account.
  const twice = await page.request.post(`${base}/account/wallets/message`, { form: { csrf, wallet: wallet.address }, headers });
  const second = await wallet.signMessage(await twice.text());
  const refused = await page.request.post(`${base}/account/wallets`, { form: { csrf, signature: second }, headers, maxRedirects: 0 });
  assert.deepEqual([refused.status(), /already belongs to an account/.test(await refused.text())], [403, true]);
}
