// A Solidity twin as oracle: random sequences of calls go to the native Consent and to the twin, both in one block of a
// development chain, and results, reverts, logs and views must be the same. STELE_SEED repeats a run, STELE_TWIN_CALLS
// makes it longer. Rows: FR-X3.

import assert from "node:assert/strict";
import { randomInt } from "node:crypto";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";

import { Contract, ContractFactory, Interface, JsonRpcProvider, ZeroAddress, ZeroHash, dataSlice, id, toBeHex } from "ethers";
import { abis, addresses } from "stele-contracts";

import { compile, interfaceSources } from "../ethereum/contracts.mjs";
import { startDevelopment } from "../start.mjs";

const DEADLINE = { timeout: 240_000 };
const CALLS = Number(process.env.STELE_TWIN_CALLS ?? 400);
const SEED = Number(process.env.STELE_SEED ?? randomInt(2 ** 31));
const CONSENT = new Interface(abis.IConsent);

let url, provider, twin, people, stranger;

/** mulberry32: small, seeded, good enough to choose calls. */
function random(seed) {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

const rpc = (method, ...params) => provider.send(method, params);

before(async () => {
  ({ rpc: url } = await startDevelopment());
  provider = new JsonRpcProvider(url, undefined, { cacheTimeout: -1, batchMaxCount: 1 });
  const accounts = await rpc("eth_accounts");
  const organization = await provider.getSigner(0);
  const source = readFileSync(new URL("ConsentTwin.sol", import.meta.url), "utf8");
  const { abi, bytecode } = compile({ ...interfaceSources(), "e2e/twin/ConsentTwin.sol": source }).ConsentTwin;
  twin = await (await new ContractFactory(abi, bytecode, organization).deploy()).waitForDeployment();
  const identity = new Contract(addresses.IIdentity, abis.IIdentity, organization);
  // A grantee may be without a key here: everybody is spoken for.
  await rpc("anvil_autoImpersonateAccount", true);
  // Three patients, two of staff of whom one is suspended, the organisation, and somebody unknown.
  for (const patient of accounts.slice(1, 4)) await (await identity.registerPatient(patient, ZeroHash)).wait();
  for (const member of accounts.slice(4, 6)) await (await identity.registerMember(member, 1, ZeroHash)).wait();
  await (await identity.updateMember(accounts[5], 2, 1, ZeroHash)).wait();
  people = accounts.slice(0, 7);
  stranger = accounts[6];
}, DEADLINE);

after(() => provider?.destroy());

/** What a transaction answered, whether it went well, and its logs without their address. */
async function outcome(hash) {
  const receipt = await rpc("eth_getTransactionReceipt", hash);
  const traced = await rpc("debug_traceTransaction", hash, { tracer: "callTracer", tracerConfig: { onlyTopCall: true } });
  return {
    status: receipt.status,
    output: traced.output ?? "0x",
    logs: receipt.logs.map(({ topics, data }) => ({ topics, data })),
  };
}

test(`native Consent and its Solidity twin do the same (STELE_SEED=${SEED})`, DEADLINE, async () => {
  const choose = random(SEED);
  const one = (of) => of[choose(of.length)];
  const known = { grants: [], requests: [] };
  const seen = { ok: {}, reverted: new Set() };
  const twinAddress = await twin.getAddress();
  await rpc("evm_setAutomine", false);
  for (let call = 0; call < CALLS; call++) {
    const { timestamp } = await provider.getBlock("latest");
    const [from, method, args] = next(choose, one, known, timestamp);
    const data = CONSENT.encodeFunctionData(method, args);
    const send = (to) => rpc("eth_sendTransaction", { from, to, data, gas: toBeHex(2_000_000) });
    const hashes = [await send(addresses.IConsent), await send(twinAddress)];
    // The clock jumps now and then, so that grants and requests begin and end.
    if (choose(12) === 0) await rpc("evm_increaseTime", choose(400));
    await rpc("evm_mine");
    const [native, solidity] = await Promise.all(hashes.map(outcome));
    assert.deepEqual(native, solidity, `call ${call}: ${from} ${method}(${args})`);
    if (native.status === "0x1") {
      seen.ok[method] = (seen.ok[method] ?? 0) + 1;
      if (method === "grant") known.grants.push({ patient: from, grantee: args[0], id: Number(native.output) });
      if (method === "request") known.requests.push({ patient: args[0], id: Number(native.output) });
    } else {
      seen.reverted.add(dataSlice(native.output, 0, 4));
    }
    await sameViews(choose, one, twinAddress);
  }
  await rpc("evm_setAutomine", true);
  await sameEverywhere(twinAddress);
  console.log(`# ${CALLS} calls: ${JSON.stringify(seen.ok)} went well, ${seen.reverted.size} kinds of refusal`);
  // A run in which nothing happens would prove nothing.
  if (CALLS >= 200) {
    assert.ok(Object.keys(seen.ok).length >= 5);
    assert.ok(seen.reverted.size >= 5);
  }
});

/** Sender, method and arguments of a call that may or may not be allowed. */
function next(choose, one, known, now) {
  const anyone = () => (choose(4) > 0 ? one(people.slice(1, 4)) : one(people));
  const grantee = () => (choose(20) === 0 ? one([ZeroAddress, addresses.IRecords]) : one([people[0], people[4], people[5], stranger, people[2]]));
  const bit = (of) => BigInt(choose(15) === 0 ? 0 : 1 + choose(of));
  // Two times in three something that is there, by whom it belongs to.
  const there = (of) => (of.length > 0 && choose(3) > 0 ? one(of.slice(-12)) : undefined);
  const kind = choose(10);
  if (kind < 4) {
    const from = choose(3) === 0 ? now + choose(300) : 0;
    const expires = choose(10) === 0 ? now : now + 1 + choose(600);
    const terms = [bit(0x1f), bit(choose(12) === 0 ? 15 : 7), bit(choose(12) === 0 ? 255 : 127), from, expires, choose(30), 5 + choose(40)];
    const answered = choose(3) === 0 ? there(known.requests) : undefined;
    return [answered?.patient ?? anyone(), "grant", [grantee(), terms, id(String(choose(9))), answered?.id ?? choose(8) * choose(2)]];
  }
  if (kind < 6) {
    const grant = there(known.grants);
    const [from, ...args] = grant ? [grant.patient, grant.grantee, grant.id] : [anyone(), grantee(), 0x01000001];
    return [from, "revoke", [...args, choose(2) === 0 ? ZeroHash : id("root")]];
  }
  if (kind < 7) {
    const grant = there(known.grants);
    return grant ? [grant.grantee, "renounce", [grant.patient, grant.id]] : [anyone(), "renounce", [one(people), choose(3)]];
  }
  if (kind < 8) return [anyone(), "request", [one(people.slice(0, 4)), id("details"), choose(8) === 0 ? 1 : now + 1 + choose(900)]];
  if (kind < 9) {
    const request = there(known.requests);
    return [request?.patient ?? anyone(), "decline", [request?.id ?? choose(6)]];
  }
  return [anyone(), "publishDirectory", [id(String(choose(100)))]];
}

/** Some views, asked of both. */
async function sameViews(choose, one, twinAddress) {
  const [patient, who] = [one(people.slice(0, 4)), one(people)];
  const [permission, purpose] = [choose(8), choose(4) === 0 ? 0 : 1 << choose(7)];
  const asked = [
    ["openCategories", [patient, who, permission, purpose]],
    ["can", [patient, who, one([0, 1, 4, 63, 64, 255]), permission, purpose]],
    ["canAt", [patient, who, choose(5), permission, purpose, choose(60)]],
    ["grantAt", [patient, who, choose(18)]],
    ["requestOf", [patient, choose(8)]],
    ["directoryRoot", [patient]],
  ];
  for (const question of asked) await same(twinAddress, ...question);
}

/** All that is stored, asked of both. */
async function sameEverywhere(twinAddress) {
  for (const patient of people.slice(0, 4)) {
    await same(twinAddress, "directoryRoot", [patient]);
    for (let request = 0; request < 20; request++) await same(twinAddress, "requestOf", [patient, request]);
    for (const who of people) {
      for (let index = 0; index < 17; index++) await same(twinAddress, "grantAt", [patient, who, index]);
      await same(twinAddress, "openCategories", [patient, who, 1, 0]);
    }
  }
}

async function same(twinAddress, method, args) {
  const data = CONSENT.encodeFunctionData(method, args);
  const [native, solidity] = await Promise.all([addresses.IConsent, twinAddress].map((to) => rpc("eth_call", { to, data }, "latest")));
  assert.equal(native, solidity, `${method}(${args})`);
}
