// A Solidity twin of Records as oracle: random sequences of batches, tombstones, disputes and moves of custody, by
// people with and without permission, do the same in both. Rows: FR-X3, NFR-INT1.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { AbiCoder, Wallet, ZeroAddress, ZeroHash, concat, dataSlice, getAddress, id, keccak256, toBeHex, zeroPadValue } from "ethers";
import { addresses } from "stele-contracts";

import { CALLS, SEED, random, upper, world } from "./twins.mjs";

const DEADLINE = { timeout: 240_000 };
const coder = AbiCoder.defaultAbiCoder();
const ENTRIES = "tuple(address log, bytes categories, bytes32[] leaves)[]";
const [DOCTOR, ADMIT, SUSPEND] = [1, 1, 2];
/** Custodians sign storage: their keys are known here. */
const SECOND = new Wallet(id("the second organisation"));
const ADDED = new Wallet(id("a key added to the second organisation"));

let chain, people, patients;

before(async () => {
  chain = await world("IRecords", "RecordsTwin");
  const { accounts, rpc, system } = chain;
  const [identity, governance, consent] = [system("IIdentity"), system("IGovernance"), system("IConsent")];
  const mined = async (sent) => (await sent).wait();
  const admit = async (organization) => {
    const active = (await identity.organizationCount()).active;
    const payload = coder.encode(["address", "uint8", "bytes32", "bytes32"], [organization, 0, ZeroHash, ZeroHash]);
    await mined(governance.propose(ADMIT, payload));
    // With two members and more, the others have to agree.
    for (let voter = 1n; voter < active; voter++) {
      const from = await identity.organizationAt(voter);
      const data = governance.interface.encodeFunctionData("vote", [await governance.proposalCount(), true]);
      await rpc("eth_sendTransaction", { from, to: addresses.IGovernance, data });
    }
  };
  const third = getAddress(accounts[8]);
  await admit(SECOND.address);
  await admit(third);
  // Patients of the first, staff and a device of the first, staff of the second.
  patients = accounts.slice(1, 4);
  for (const patient of patients) await mined(identity.registerPatient(patient, ZeroHash));
  await mined(identity.registerMember(accounts[4], DOCTOR, ZeroHash));
  await mined(identity.registerMember(accounts[5], DOCTOR, ZeroHash));
  await mined(identity.registerDevice(accounts[6], ZeroHash));
  const act = (from, contract, method, args) =>
    rpc("eth_sendTransaction", { from, to: contract.target, data: contract.interface.encodeFunctionData(method, args) });
  await act(SECOND.address, identity, "registerMember", [accounts[7], DOCTOR, ZeroHash]);
  await act(SECOND.address, identity, "addKey", [zeroPadValue(ADDED.address, 32), 0, ZeroHash]);
  await act(accounts[0], identity, "updateMember", [accounts[5], 2, DOCTOR, ZeroHash]);
  // The third organisation is suspended again.
  await act(accounts[0], governance, "propose", [SUSPEND, coder.encode(["address"], [third])]);
  for (const from of [SECOND.address, third]) await act(from, governance, "vote", [await governance.proposalCount(), true]);
  assert.equal(await identity.isActive(third), false);
  const terms = (categories, permissions) => {
    const now = Math.floor(Date.now() / 1000);
    return { categories, permissions, purposes: 1, notBefore: 0, expires: now + 90_000, recordsFrom: 0, recordsTo: 65_535 };
  };
  // Some may write some of it, some may only read.
  const grant = (patient, grantee, ...given) => act(patient, consent, "grant", [grantee, terms(...given), ZeroHash, 0]);
  await grant(patients[0], accounts[0], (1n << 64n) - 1n, 3);
  await grant(patients[0], SECOND.address, 0b111n, 2);
  await grant(patients[1], accounts[4], 0b1010n, 3);
  await grant(patients[1], accounts[6], 0b1n, 2);
  await grant(patients[2], accounts[9], 0b1n, 1);
  people = [...accounts, SECOND.address];
  await rpc("evm_setAutomine", false);
}, DEADLINE);

after(() => chain?.provider.destroy());

const LOGS = () => [patients[0], patients[0], patients[0], patients[1], patients[1], patients[2], people[0], SECOND.address, people[9]];

/** Who may write where, and which categories; three times in four a call is one of these. */
const allowed = () => [
  { from: people[0], author: people[0], log: patients[0], categories: [0, 1, 2, 63] },
  { from: people[0], author: people[4], log: patients[1], categories: [1, 3] },
  { from: people[0], author: people[6], log: patients[1], categories: [0] },
  { from: people[0], author: people[4], log: people[0], categories: [0, 40] },
  { from: people[4], author: people[4], log: patients[1], categories: [1] },
  { from: SECOND.address, author: people[7], log: patients[0], categories: [0, 2] },
  { from: SECOND.address, author: SECOND.address, log: SECOND.address, categories: [5] },
  ...patients.map((patient) => ({ from: patient, author: patient, log: patient, categories: [0, 7] })),
];

function writer(choose, one) {
  if (choose(4) > 0) return one(allowed());
  const from = one([people[0], ...people]);
  return { from, author: choose(2) ? from : one(people), log: one(LOGS()), categories: [choose(4), choose(64)] };
}

/** A batch that is often good; and the signature of a custodian who is not the sender, often good too. */
async function batch(choose, one) {
  const { from, author, log, categories } = writer(choose, one);
  const entries = Array.from({ length: choose(30) === 0 ? 0 : 1 + choose(3) }, () => {
    const count = choose(40) === 0 ? 0 : 1 + choose(choose(6) === 0 ? 70 : 6);
    const slots = Array.from({ length: choose(40) === 0 ? count + 1 : count }, () => (choose(300) === 0 ? 64 : one(categories)));
    return {
      log: choose(15) === 0 ? one(LOGS()) : log,
      categories: concat(slots.map((slot) => toBeHex(slot, 1))),
      leaves: Array.from({ length: count }, () => id(String(choose(2 ** 30)))),
    };
  });
  const isOrganization = [people[0], SECOND.address].includes(from);
  const custodian = choose(8) === 0 ? one(people) : isOrganization && choose(3) > 0 ? from : SECOND.address;
  const signature = custodian === from ? "0x" : await stored(choose, one, entries, author);
  return [from, "anchor", [entries, author, custodian, signature]];
}

/** What the second organisation signs to say that it stores a batch; now and then it is spoiled. */
async function stored(choose, one, entries, author) {
  const { chainId } = await chain.provider.getNetwork();
  const message = coder.encode(
    ["string", "uint256", "address", "address", "bytes32"],
    ["stele/custody/1", chainId, addresses.IRecords, choose(10) === 0 ? ZeroAddress : author, keccak256(coder.encode([ENTRIES], [entries]))],
  );
  const key = one([SECOND, SECOND, ADDED, ADDED, Wallet.createRandom()]);
  const signed = key.signingKey.sign(keccak256(message));
  if (choose(3) > 0) return signed.serialized;
  return one([
    concat([signed.r, signed.s, toBeHex(signed.yParity, 1)]),
    concat([signed.r, signed.s, "0x1d"]),
    dataSlice(signed.serialized, 0, 64),
    upper(signed.serialized),
  ]);
}

function next(choose, one) {
  const kind = choose(10);
  const index = choose(12);
  if (kind < 5) return batch(choose, one);
  const { from, author, log, categories } = writer(choose, one);
  if (kind < 7) {
    const category = choose(20) === 0 ? 64 : one(categories);
    return [from, "tombstone", [log, index, category, id(String(choose(2 ** 30))), choose(4), author]];
  }
  if (kind < 9) return [choose(2) ? from : one(people), "dispute", [log, index, choose(5)]];
  // The patient or either organisation, who may be the custodian of the moment.
  return [one([log, log, people[0], SECOND.address, one(people)]), "transferCustody", [log, one([people[0], SECOND.address, one(people)])]];
}

test(`native Records and its Solidity twin do the same (STELE_SEED=${SEED})`, DEADLINE, async () => {
  const choose = random(SEED);
  const one = (of) => of[choose(of.length)];
  const seen = { ok: {}, reverted: new Set() };
  const leaves = new Map();
  for (let call = 0; call < CALLS; call++) {
    const [from, method, args] = await next(choose, one);
    const done = await chain.send(from, method, args, `call ${call}`, 12_000_000);
    if (done.status === "0x1") {
      seen.ok[method] = (seen.ok[method] ?? 0) + 1;
      if (method === "anchor") for (const { log, leaves: added } of args[0]) leaves.set(log, [...(leaves.get(log) ?? []), ...added]);
      if (method === "tombstone") leaves.set(args[0], [...(leaves.get(args[0]) ?? []), args[3]]);
    } else {
      seen.reverted.add(dataSlice(done.output, 0, 4));
    }
    const log = one(LOGS());
    for (const view of ["logRoot", "logPeaks", "custodianOf"]) await chain.same(view, [log]);
    await inclusion(choose, log, leaves.get(log) ?? []);
  }
  // What went in, in order, is what the size counts.
  for (const log of new Set(LOGS())) {
    const [size] = await chain.same("logRoot", [log]);
    assert.equal(size, BigInt((leaves.get(log) ?? []).length));
  }
  console.log(`# ${CALLS} calls: ${JSON.stringify(seen.ok)} went well, ${seen.reverted.size} kinds of refusal`);
  // A run in which nothing happens would prove nothing.
  if (CALLS >= 200) {
    assert.equal(Object.keys(seen.ok).length, 4);
    assert.ok(seen.reverted.size >= 8, [...seen.reverted].join());
  }
});

/** A batch over the limit is refused by both with the limit. */
test("a batch too large is refused by both", DEADLINE, async () => {
  const leaves = Array.from({ length: 1_025 }, (_, i) => id(String(i)));
  const entry = { log: people[0], categories: `0x${"00".repeat(leaves.length)}`, leaves };
  const done = await chain.send(people[0], "anchor", [[entry], people[0], people[0], "0x"], "too large", 30_000_000);
  assert.equal(done.status, "0x0");
  assert.equal(done.output, concat([id("BatchTooLarge(uint256,uint256)").slice(0, 10), coder.encode(["uint256", "uint256"], [1_025, 1_024])]));
});

/** A proof of a leaf that is there, and the same spoiled: both say the same, and only the first is true. */
async function inclusion(choose, log, leaves) {
  if (leaves.length === 0) {
    assert.deepEqual([...(await chain.same("verifyInclusion", [log, 0, ZeroHash, []]))], [false]);
    return;
  }
  const index = choose(leaves.length);
  const path = siblings(leaves, index);
  const right = [log, index, leaves[index], path];
  assert.deepEqual([...(await chain.same("verifyInclusion", right))], [true], `leaf ${index} of ${leaves.length}`);
  for (const wrong of [
    [log, index, id("another"), path],
    [log, index, leaves[index], [...path, ZeroHash]],
    [log, leaves.length + choose(3), leaves[index], path],
  ]) {
    assert.deepEqual([...(await chain.same("verifyInclusion", wrong))], [false]);
  }
}

/** Siblings from a leaf to its peak. */
function siblings(leaves, index) {
  let [first, mountain] = [0, 0];
  for (let rest = leaves.length; rest > 0; rest -= mountain, first += mountain) {
    mountain = 2 ** Math.floor(Math.log2(rest));
    if (index < first + mountain) break;
  }
  let level = leaves.slice(first, first + mountain).map((leaf) => keccak256(concat(["0x00", leaf])));
  const path = [];
  for (let at = index - first; level.length > 1; at >>= 1) {
    path.push(level[at ^ 1]);
    level = Array.from({ length: level.length / 2 }, (_, i) => keccak256(concat(["0x01", level[2 * i], level[2 * i + 1]])));
  }
  return path;
}
