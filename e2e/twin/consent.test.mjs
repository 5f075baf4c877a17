// A Solidity twin as oracle: random sequences of calls go to the native Consent and to the twin, both in one block of a
// development chain, and results, reverts, logs and views must be the same. Rows: FR-X3.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { HDNodeWallet, Mnemonic, Wallet, ZeroAddress, ZeroHash, concat, dataSlice, id, toBeHex, zeroPadValue } from "ethers";
import { addresses, domain, types } from "stele-contracts";

import { CALLS, SEED, random, upper, world } from "./twins.mjs";

const DEADLINE = { timeout: 240_000 };

const PHRASE = "test test test test test test test test test test test junk";
/** A key that speaks for the second patient beside its own. */
const ADDED = new Wallet(id("a key added to the second patient"));

let chain, people, stranger, wallets, signed;

before(async () => {
  chain = await world("IConsent", "ConsentTwin");
  const { accounts, system } = chain;
  const identity = system("IIdentity");
  // Three patients, two of staff of whom one is suspended, the organisation, and somebody unknown.
  for (const patient of accounts.slice(1, 4)) await (await identity.registerPatient(patient, ZeroHash)).wait();
  for (const member of accounts.slice(4, 6)) await (await identity.registerMember(member, 1, ZeroHash)).wait();
  await (await identity.updateMember(accounts[5], 2, 1, ZeroHash)).wait();
  const add = identity.interface.encodeFunctionData("addKey", [zeroPadValue(ADDED.address, 32), 0, ZeroHash]);
  await chain.rpc("eth_sendTransaction", { from: accounts[2], to: addresses.IIdentity, data: add });
  const mnemonic = Mnemonic.fromPhrase(PHRASE);
  wallets = accounts.slice(1, 4).map((_, at) => HDNodeWallet.fromMnemonic(mnemonic, `m/44'/60'/0'/0/${at + 1}`));
  assert.deepEqual(wallets.map(({ address }) => address.toLowerCase()), accounts.slice(1, 4).map((one) => one.toLowerCase()));
  signed = domain((await chain.provider.getNetwork()).chainId);
  people = accounts.slice(0, 7);
  stranger = accounts[6];
}, DEADLINE);

after(() => chain?.provider.destroy());

test(`native Consent and its Solidity twin do the same (STELE_SEED=${SEED})`, DEADLINE, async () => {
  const { provider, rpc } = chain;
  const choose = random(SEED);
  const one = (of) => of[choose(of.length)];
  const known = { grants: [], requests: [] };
  const seen = { ok: {}, reverted: new Set() };
  await rpc("evm_setAutomine", false);
  for (let call = 0; call < CALLS; call++) {
    const { timestamp } = await provider.getBlock("latest");
    const [from, method, args] = await next(choose, one, known, timestamp);
    // The clock jumps now and then, so that grants and requests begin and end.
    if (choose(12) === 0) await rpc("evm_increaseTime", choose(400));
    const done = await chain.send(from, method, args, `call ${call}`, 2_000_000);
    if (done.status === "0x1") {
      seen.ok[method] = (seen.ok[method] ?? 0) + 1;
      if (method === "grant") known.grants.push({ patient: from, grantee: args[0], id: Number(done.output) });
      if (method === "grantBySig") known.grants.push({ patient: args[0], grantee: args[1], id: Number(done.output) });
      if (method === "request") known.requests.push({ patient: args[0], id: Number(done.output) });
    } else {
      seen.reverted.add(dataSlice(done.output, 0, 4));
    }
    await sameViews(choose, one);
  }
  await rpc("evm_setAutomine", true);
  await sameEverywhere();
  console.log(`# ${CALLS} calls: ${JSON.stringify(seen.ok)} went well, ${seen.reverted.size} kinds of refusal`);
  // A run in which nothing happens would prove nothing.
  if (CALLS >= 200) {
    assert.ok(seen.ok.grantBySig > 0, JSON.stringify(seen.ok));
    assert.ok(Object.keys(seen.ok).length >= 6);
    assert.ok(seen.reverted.size >= 8);
  }
});

/** As `next`; half of the grants and revocations are signed by their patient, or spoiled, and sent by somebody else. */
async function next(choose, one, known, now) {
  const [from, method, args] = unsigned(choose, one, known, now);
  if (!["grant", "revoke"].includes(method) || choose(2) > 0) return [from, method, args];
  const wallet = wallets[people.indexOf(from) - 1] ?? one(wallets);
  const nonce = (await chain.nonce(from)) + (choose(12) === 0 ? choose(3) - 1 : 0);
  const deadline = choose(15) === 0 ? now - 1 : now + 1_000;
  const last = [Math.max(nonce, 0), deadline];
  const signature = await signature65(choose, one, wallet, method, [from, ...args, ...last]);
  return [one(people), `${method}BySig`, [from, ...args, ...last, signature]];
}

/** The patient's signature of such a call, now and then by another key, of something else, or in another form. */
async function signature65(choose, one, wallet, method, args) {
  const what = method === "grant" ? "Grant" : "Revoke";
  const message = Object.fromEntries(types[what].map(({ name }, at) => [name, args.flat()[at]]));
  if (choose(15) === 0) message.nonce += 1;
  const key = choose(6) === 0 ? one([ADDED, ...wallets]) : wallet;
  const made = await key.signTypedData(signed, { [what]: types[what] }, message);
  if (choose(6) > 0) return made;
  const [body, v] = [dataSlice(made, 0, 64), Number(dataSlice(made, 64))];
  return one([concat([body, toBeHex(v - 27, 1)]), concat([body, "0x1d"]), body, upper(made), "0x"]);
}

/** Sender, method and arguments of a call that may or may not be allowed. */
function unsigned(choose, one, known, now) {
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
async function sameViews(choose, one) {
  const [patient, who] = [one(people.slice(0, 4)), one(people)];
  const [permission, purpose] = [choose(8), choose(4) === 0 ? 0 : 1 << choose(7)];
  const asked = [
    ["openCategories", [patient, who, permission, purpose]],
    ["can", [patient, who, one([0, 1, 4, 63, 64, 255]), permission, purpose]],
    ["canAt", [patient, who, choose(5), permission, purpose, choose(60)]],
    ["grantAt", [patient, who, choose(18)]],
    ["requestOf", [patient, choose(8)]],
    ["directoryRoot", [patient]],
    ["signatureNonce", [patient]],
    ["DOMAIN_SEPARATOR", []],
  ];
  for (const question of asked) await chain.same(...question);
}

/** All that is stored, asked of both. */
async function sameEverywhere() {
  for (const patient of people.slice(0, 4)) {
    await chain.same("directoryRoot", [patient]);
    for (let request = 0; request < 20; request++) await chain.same("requestOf", [patient, request]);
    for (const who of people) {
      for (let index = 0; index < 17; index++) await chain.same("grantAt", [patient, who, index]);
      await chain.same("openCategories", [patient, who, 1, 0]);
    }
  }
}
