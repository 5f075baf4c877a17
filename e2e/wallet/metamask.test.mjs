// MetaMask's documented behaviour in a real browser: a page finds the wallet, has it add the network, and sends; the wallet's
// own calls go to the node from an extension's origin, those of pages with CORS. Rows: FR-X1, FR-X2, S03, NFR-UX2.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Contract, Interface, JsonRpcProvider, Wallet, ZeroHash, formatUnits } from "ethers";
import { abis, addresses, domain, network, types } from "stele-contracts";

import { organizationKey } from "../ethereum/node.mjs";
import { start } from "../start.mjs";
import { browser, serveModules, servePage } from "./pages.mjs";
import { config } from "./config.mjs";
import { BrowserWallet, EXTENSION } from "./wallet.mjs";

const DEADLINE = { timeout: 180_000 };
const CONSENT = new Interface(abis.IConsent);
const [READ, TREATMENT] = [1, 1];

let node, url, chromium, provider, organization, identity, modules;

before(async () => {
  node = await start("--open");
  [chromium, modules] = [await browser(), await serveModules()];
  url = node.ready.rpc;
  provider = new JsonRpcProvider(url, undefined, { pollingInterval: 100, cacheTimeout: -1 });
  organization = new Wallet(organizationKey(), provider);
  identity = new Contract(addresses.IIdentity, abis.IIdentity, organization);
}, DEADLINE);

after(async () => {
  provider?.destroy();
  await chromium?.close();
});

/** A browser with a wallet, at a page of another server; the wallet's person is a registered patient. */
async function visitor(options) {
  const wallet = new BrowserWallet(options);
  const context = await chromium.newContext();
  await wallet.install(context);
  const page = await context.newPage();
  await page.goto(`${modules}/stele-contracts/package.json`);
  return { wallet, page, context };
}

async function patient(options) {
  const person = await visitor(options);
  await (await identity.registerPatient(person.wallet.address, ZeroHash)).wait();
  return person;
}

/** Runs in the page: one request to the wallet that announced itself; an error as its code and message. */
const ask = (page, method, ...params) =>
  page.evaluate(
    async ([method, params]) => {
      const found = new Promise((done) => addEventListener("eip6963:announceProvider", ({ detail }) => done(detail.provider)));
      dispatchEvent(new Event("eip6963:requestProvider"));
      return (await found).request({ method, params }).catch(({ code, message }) => ({ code, message }));
    },
    [method, params],
  );

const connect = async (page) => {
  await ask(page, "eth_requestAccounts");
  const { chainId } = await provider.getNetwork();
  assert.equal(await ask(page, "wallet_addEthereumChain", network({ chainId, rpcUrl: url })), null);
};

test("the node says what wallets take its network in with, to pages of any site", DEADLINE, async () => {
  const { page, wallet } = await visitor();
  const { wallet: told } = await page.evaluate(async (http) => (await fetch(`${http}/.well-known/stele.json`)).json(), node.ready.http);
  const { chainId } = await provider.getNetwork();
  assert.deepEqual(told, network({ chainId, rpcUrl: told.rpcUrls[0] }));
  assert.equal(new URL(told.rpcUrls[0]).port, new URL(url).port);
  await ask(page, "eth_requestAccounts");
  assert.equal(await ask(page, "wallet_addEthereumChain", told), null);
  assert.equal(await ask(page, "eth_chainId"), `0x${chainId.toString(16)}`);
  // First of all the wallet held the chain id against the node's.
  assert.deepEqual(wallet.asked, ["eth_chainId", "net_version", "eth_blockNumber", "eth_getBlockByNumber", "eth_getBalance"]);
  assert.deepEqual(wallet.last("add").chainName, `Stele ${chainId}`);
});

test("a network is added only as what it is, and only if the person says so", DEADLINE, async () => {
  const { page, wallet } = await visitor();
  const { chainId } = await provider.getNetwork();
  const good = network({ chainId, rpcUrl: url });
  const switched = await ask(page, "wallet_switchEthereumChain", { chainId: good.chainId });
  assert.equal(switched.code, 4902);
  for (const bad of [
    { ...good, chainId: "0x1234" },
    { ...good, rpcUrls: ["http://records.example:8545"] },
    { ...good, nativeCurrency: { ...good.nativeCurrency, decimals: 0 } },
    { ...good, chainId: String(chainId) },
  ]) {
    assert.equal((await ask(page, "wallet_addEthereumChain", bad)).code, -32602, JSON.stringify(bad));
  }
  wallet.confirm = () => false;
  assert.equal((await ask(page, "wallet_addEthereumChain", good)).code, 4001);
  assert.equal(await ask(page, "eth_chainId"), "0x1");
  wallet.confirm = () => true;
  assert.equal(await ask(page, "wallet_addEthereumChain", good), null);
  assert.equal(await ask(page, "wallet_switchEthereumChain", { chainId: good.chainId }), null);
});

test("the wallet sends a transaction as it always does", DEADLINE, async () => {
  const { page, wallet } = await patient();
  await connect(page);
  wallet.asked.length = 0;
  const data = CONSENT.encodeFunctionData("publishDirectory", [`0x${"07".repeat(32)}`]);
  const hash = await ask(page, "eth_sendTransaction", { from: wallet.address, to: addresses.IConsent, data });
  const receipt = await provider.waitForTransaction(hash);
  assert.equal(receipt.status, 1);
  assert.deepEqual(wallet.asked.slice(0, 7), [
    "eth_getTransactionCount", "eth_estimateGas", "eth_getBlockByNumber", "eth_feeHistory", "eth_getBalance", "eth_getCode", "eth_sendRawTransaction",
  ]);
  const sent = await provider.getTransaction(hash);
  assert.deepEqual([sent.type, sent.from, formatUnits(receipt.fee)], [2, wallet.address, "0.0"]);
  // The person is shown a contract, and in the end that it is confirmed.
  assert.equal(wallet.last("send").isContract, true);
  await page.waitForFunction(() => true);
  while (!wallet.last("confirmed")) await page.waitForTimeout(20);
  assert.deepEqual(wallet.last("confirmed"), { kind: "confirmed", hash, status: "0x1" });
  // What would fail says so before it is signed, with the contract's own error.
  const bad = CONSENT.encodeFunctionData("decline", [9]);
  const refused = await ask(page, "eth_sendTransaction", { from: wallet.address, to: addresses.IConsent, data: bad });
  assert.equal(refused.code, 3);
  assert.match(refused.message, /revert/);
});

/** FR-X2: what a wallet shows of a consent are its fields by name. */
test("a consent is signed as typed data with readable fields, and sent by another", DEADLINE, async () => {
  const { page, wallet } = await patient();
  await connect(page);
  const { chainId } = await provider.getNetwork();
  const consent = new Contract(addresses.IConsent, abis.IConsent, organization);
  const now = Math.floor(Date.now() / 1000);
  const message = {
    patient: wallet.address, grantee: organization.address, categories: "128", permissions: READ, purposes: TREATMENT, notBefore: 0,
    expires: now + 86_400, recordsFrom: 0, recordsTo: 65_535, envelopeDigest: ZeroHash, request: 0, nonce: 0, deadline: now + 3_600,
  };
  const EIP712Domain = ["name string", "version string", "chainId uint256", "verifyingContract address"].map((field) => {
    const [name, type] = field.split(" ");
    return { name, type };
  });
  const typed = { domain: { ...domain(Number(chainId)) }, types: { EIP712Domain, Grant: types.Grant }, primaryType: "Grant", message };
  const signature = await ask(page, "eth_signTypedData_v4", wallet.address, JSON.stringify(typed));
  const shown = wallet.last("sign typed data");
  assert.deepEqual([shown.name, shown.contract, shown.primaryType], ["Stele Consent", addresses.IConsent, "Grant"]);
  assert.deepEqual(Object.keys(shown.fields), types.Grant.map(({ name }) => name));
  const { patient: who, grantee, envelopeDigest, request, nonce, deadline, ...terms } = message;
  await (await consent.grantBySig(who, grantee, terms, envelopeDigest, request, nonce, deadline, signature)).wait();
  assert.equal(await consent.can(wallet.address, organization.address, 7, READ, TREATMENT), true);
  // For another chain the wallet signs nothing.
  const elsewhere = { ...typed, domain: domain(1) };
  assert.equal((await ask(page, "eth_signTypedData_v4", wallet.address, JSON.stringify(elsewhere))).code, -32603);
});

test("a patient who keeps the keys of the record is told why the portal cannot show it", DEADLINE, async () => {
  const { page } = await patient();
  await page.goto(`${node.ready.http}/sign-in`);
  await page.getByRole("button", { name: "Use MetaMask" }).click();
  await page.getByRole("alert").first().getByText("You keep the keys of your record yourself").waitFor();
  assert.equal((await page.request.get(`${node.ready.http}/record`, { maxRedirects: 0 })).status(), 303);
});

/** FR-X1, S03: the example of the contracts' package, with ethers, in fifty lines. */
test("a page of fifty lines grants access through a wallet", DEADLINE, async () => {
  const { page, wallet, context } = await patient();
  const elsewhere = [];
  page.on("request", (request) => request.url().startsWith(modules) || elsewhere.push(request.url()));
  const errors = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  const { chainId } = await provider.getNetwork();
  await page.goto(`${modules}/stele-contracts/examples/grant.html?chain=${chainId}&rpc=${encodeURIComponent(url)}`);
  const doctor = Wallet.createRandom().address;
  await page.getByLabel("Your wallet").selectOption("MetaMask");
  await page.getByLabel("Whom").fill(doctor);
  await page.getByLabel("days").fill("7");
  const status = page.getByRole("status");

  wallet.confirm = (kind) => kind !== "send";
  await page.getByRole("button", { name: "Allow" }).click();
  await status.getByText("Nothing was allowed").waitFor();
  const consent = new Contract(addresses.IConsent, abis.IConsent, provider);
  assert.equal(await consent.can(wallet.address, doctor, 0, READ, TREATMENT), false);

  wallet.confirm = () => true;
  await page.getByRole("button", { name: "Allow" }).click();
  await status.getByText("may see your record until").waitFor();
  assert.equal(await consent.can(wallet.address, doctor, 0, READ, TREATMENT), true);
  const [, , terms] = await consent.grantAt(wallet.address, doctor, 0);
  assert.ok(Math.abs(Number(terms.expires) - Date.now() / 1000 - 7 * 86_400) < 3_600);
  // The page itself asked nobody but its own server.
  assert.deepEqual([elsewhere, errors], [[], []]);

  // Somebody who is no patient reads the contract's own error.
  const stranger = await visitor();
  await stranger.page.goto(`${modules}/stele-contracts/examples/grant.html?chain=${chainId}&rpc=${encodeURIComponent(url)}`);
  await stranger.page.getByLabel("Your wallet").selectOption("MetaMask");
  await stranger.page.getByLabel("Whom").fill(doctor);
  await stranger.page.getByRole("button", { name: "Allow" }).click();
  await stranger.page.getByRole("status").getByText("NotAPatient").waitFor();
  await context.close();
});

test("a page may call where its origin is listed, and nowhere else", DEADLINE, async () => {
  const [listed, other] = await Promise.all([servePage(), servePage()]);

  const closed = await start("--config", config({ rpc_origins: [listed, EXTENSION] }));
  const call = async (origin, how) => {
    const page = await (await chromium.newContext()).newPage();
    await page.goto(origin);
    const answer = await page.evaluate(how, closed.ready.rpc);
    await page.context().close();
    return answer;
  };
  // JSON and a token are what a browser asks about first, by a preflight.
  const byHttp = async (rpc) => {
    const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "eth_chainId", params: [] });
    const asked = fetch(rpc, { method: "POST", headers: { "content-type": "application/json", authorization: "Bearer x" }, body });
    return asked.then((response) => response.json()).then(({ result }) => result, (error) => error.name);
  };
  const byWebSocket = (rpc) =>
    new Promise((done) => {
      const socket = new WebSocket(rpc.replace("http", "ws"));
      socket.onopen = () => socket.send(JSON.stringify({ jsonrpc: "2.0", id: 1, method: "eth_chainId", params: [] }));
      socket.onmessage = ({ data }) => done(JSON.parse(data).result);
      socket.onerror = () => done("refused");
    });
  assert.deepEqual([await call(listed, byHttp), await call(listed, byWebSocket)], ["0xe1e7", "0xe1e7"]);
  assert.deepEqual([await call(other, byHttp), await call(other, byWebSocket)], ["TypeError", "refused"]);
  const preflight = async (origin) => {
    const headers = { origin, "access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type" };
    const { status, headers: told } = await fetch(closed.ready.rpc, { method: "OPTIONS", headers });
    return [status, told.get("access-control-allow-origin"), told.get("access-control-allow-headers")];
  };
  assert.deepEqual(await preflight(listed), [204, listed, "content-type, authorization"]);
  assert.deepEqual(await preflight(other), [403, null, null]);

  // An extension is an origin like others: listed it adds the network, unlisted it says that it cannot.
  const data = network({ chainId: 57_831, rpcUrl: closed.ready.rpc });
  const { page } = await visitor();
  assert.equal(await ask(page, "wallet_addEthereumChain", data), null);
  const stranger = await visitor({ origin: "chrome-extension://aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" });
  const refused = await ask(stranger.page, "wallet_addEthereumChain", data);
  assert.equal(refused.code, -32602);
  assert.match(refused.message, /allowed origins/);
});
