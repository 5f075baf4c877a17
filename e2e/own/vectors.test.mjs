// The portal's modules derive, seal and open as the vault does, on vectors that the vault's own test holds too
// (crates/vault/src/keys/interop.rs).

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { test } from "node:test";

import { encodeRlp, getBytes, Interface } from "ethers";
import { importByteStream } from "ipfs-unixfs-importer";
import { fixedSize } from "ipfs-unixfs-importer/chunker";
import { balanced } from "ipfs-unixfs-importer/layout";

import { hex, unhex, unbase64 } from "../../crates/portal/assets/own/bytes.js";
import { publicOf } from "../../crates/portal/assets/own/hpke.js";
import { Directory, coverNodes } from "../../crates/portal/assets/own/keys.js";
import { Opener, commitment, verified } from "../../crates/portal/assets/own/vault.js";
import { keccak256 } from "../../crates/portal/assets/own/keccak.js";
import { isOurs, signingHash } from "../../crates/portal/assets/own/calls.js";
import { Importer, Places, padme, sealRecord } from "../../crates/portal/assets/own/seal.js";
import { entries, rootOf, sealed, vectors } from "./vectors.mjs";

const digest = (bytes) => createHash("sha256").update(bytes).digest("hex");

test("slots, trees, covers and key pairs are the vault's", async () => {
  const { derived } = vectors();
  const root = await rootOf(derived);
  assert.deepEqual([...(await root.slots())], derived.slots);
  for (let category = 0; category < 64; category += 1) {
    assert.equal(await root.categoryOf(derived.slots[category]), category);
  }
  for (const { from, to, nodes, seeds } of derived.covers) {
    assert.deepEqual(coverNodes(from, to), nodes);
    assert.equal(digest(Buffer.concat(await (await root.tree(9, 4)).cover(from, to))), seeds);
  }
  for (const { category, generation, month, seed, public: key } of derived.keys) {
    const found = await (await root.tree(category, generation)).seed(month);
    assert.equal(hex(found), seed);
    assert.equal(digest(await publicOf(found)), key);
  }
});

test("a directory of public keys is the vault's, byte for byte", async () => {
  const { derived } = vectors();
  const root = await rootOf(derived);
  const { categories, firstMonth, encoded, root: published } = derived.directory;
  const directory = await Directory.derive(root, unhex(derived.account), categories, firstMonth);
  assert.equal(digest(directory.encode()), encoded);
  assert.equal(hex(await directory.root()), published);
  const again = Directory.decode(directory.encode());
  assert.equal(hex(await again.root()), published);
  assert.ok(await again.fits(root));
  assert.deepEqual(again.writingKey(5, 9_000).month, firstMonth + 23);
});

test("records open, and are held against their leaves", async () => {
  const { derived, records, content } = vectors();
  const opener = new Opener(await rootOf(derived));
  for (const record of records) {
    const opened = await opener.open(record.sealed);
    assert.equal(new TextDecoder().decode(opened), content);
    const leaf = commitment(record.leaf, unhex(record.leafSalt));
    assert.equal(`0x${hex(leaf)}`, record.commitment);
    // A log of one leaf: its node is the only peak.
    const peak = `0x${hex(keccak256(Uint8Array.of(0), leaf))}`;
    const log = { size: 1, peaks: [{ height: 0, word: { value: peak } }] };
    const entry = { ...record, path: [], index: 0 };
    assert.equal(await verified(opened, entry, log), true);
    const other = opened.slice();
    other[3] ^= 1;
    assert.equal(await verified(other, entry, log), false, "other content");
    for (const change of [{ content: record.leafSalt }, { envelopeDigest: record.leafSalt }, { version: 2 }, { author: `0x${"00".repeat(20)}` }]) {
      assert.equal(await verified(opened, { ...entry, leaf: { ...record.leaf, ...change } }, log), false, JSON.stringify(change));
    }
    assert.equal(await verified(opened, entry, { ...log, size: 2 }), false, "another log");
  }
});

test("nothing altered opens, and nothing with another key", async () => {
  const { derived, records } = vectors();
  const [{ sealed: record }] = records;
  const opener = new Opener(await rootOf(derived));
  const flipped = (text) => {
    const bytes = unbase64(text);
    bytes[bytes.length - 1] ^= 1;
    return Buffer.from(bytes).toString("base64");
  };
  for (const part of ["sealed", "wrapped", "pepper", "encapsulation"]) {
    await assert.rejects(new Opener(opener.root).open({ ...record, [part]: flipped(record[part]) }), part);
  }
  await assert.rejects(opener.open({ ...record, version: 2 }));
  await assert.rejects(opener.open({ ...record, sizeBytes: 3 }));
  const stranger = new Opener(await rootOf({ ...derived, root: "07".repeat(32) }));
  await assert.rejects(stranger.open(record));
});

test("what the vault is shown is what the modules make", async () => {
  const all = vectors();
  const now = await sealed(all);
  assert.equal(all.browser.directory, now.directory);
  // Sealing is random; the public part of a grant is not.
  const header = (grant) => hex(unbase64(grant).subarray(0, 30));
  assert.equal(header(all.browser.grant), header(now.grant));
  const said = ({ kind, category, text }) => [kind, category, text];
  assert.deepEqual(all.browser.entries.map(said), now.entries.map(said));
});

test("what is sealed here opens here, whatever its length", async () => {
  const { derived } = vectors();
  const root = await rootOf(derived);
  const places = new Places(root, derived.account);
  for (const length of [0, 1, 240, 248, 249, 65_528, 65_529, 131_072, 262_144, 700_001]) {
    const content = randomBytes(length);
    const room = { record: `0x${"31".repeat(32)}`, version: 2, kind: "amend", previous: `0x${"05".repeat(32)}`, category: 11, generation: 1, month: 700, pepper: "BAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ=" };
    const parts = [content.subarray(0, length / 3), content.subarray(length / 3)];
    const { entry, sealed } = await sealRecord(places, derived.account, room, parts);
    const bytes = new Uint8Array(await sealed.arrayBuffer());
    assert.equal(bytes.length, entry.sealedBytes);
    const handed = { ...room, ...entry, sealed: Buffer.from(bytes).toString("base64") };
    const opened = await new Opener(root).open(handed);
    assert.ok(Buffer.from(opened).equals(content), `${length}`);
    const leaf = commitment(entry.leaf, unhex(entry.leafSalt));
    const log = { size: 1, peaks: [{ height: 0, word: { value: `0x${hex(keccak256(Uint8Array.of(0), leaf))}` } }] };
    assert.equal(await verified(opened, { ...entry, sealed: handed, path: [], index: 0 }, log), true);
  }
});

test("addresses are those that IPFS gives", async () => {
  const blocks = { async put(cid) { return cid; } };
  // Up to a second level of nodes: 174 leaves fill one.
  for (const length of [0, 1, 262_144, 262_145, 700_001, 175 * 262_144 + 5]) {
    const content = new Uint8Array(length).map((_, at) => at * 31);
    const ours = new Importer();
    for (let at = 0; at < length; at += 100_000) await ours.push(content.subarray(at, at + 100_000));
    const options = { cidVersion: 1, rawLeaves: true, reduceSingleLeafToSelf: true, chunker: fixedSize({ chunkSize: 262_144 }), layout: balanced({ maxChildrenPerNode: 174 }) };
    const { cid } = await importByteStream([content], blocks, options);
    assert.equal(hex(await ours.finish()), hex(cid.bytes), `${length}`);
  }
});

test("content is padded as the vault pads it", () => {
  // From the reference implementation of the paper, as in `stele_core::crypto::pad`.
  const known = [[0, 0], [1, 1], [9, 10], [100, 104], [1_000, 1_024], [65_537, 67_584]];
  for (const [length, padded] of known) assert.equal(padme(length), padded);
});

test("a transaction is read as the ledger reads it, and only this browser's leaves pass", async () => {
  const { derived } = vectors();
  const [entry] = await entries({ derived });
  const sealed = [{ entry: { leaf: entry.leaf, leafSalt: entry.leafSalt } }];
  const leaf = `0x${hex(commitment(entry.leaf, unhex(entry.leafSalt)))}`;
  const contract = new Interface(["function anchor((address log, bytes categories, bytes32[] leaves)[] entries, address author, address custodian, bytes storageSignature)"]);
  const call = (change = {}) => {
    const { log = derived.account, author = derived.account, account = derived.account, leaves = [leaf], slots = [entry.leaf.categorySlot], to = "0x5e1e000000000000000000000000000000000002" } = change;
    const input = contract.encodeFunctionData("anchor", [[[log, Uint8Array.from(slots), leaves]], author, `0x${"22".repeat(20)}`, "0x1234"]);
    return getBytes(encodeRlp(["0x01", account, "0x05", "0x07a120", to, input]));
  };
  assert.equal(isOurs(call(), signingHash(call()), sealed, derived.account), true);
  assert.equal(isOurs(call(), signingHash(call({ log: `0x${"33".repeat(20)}` })), sealed, derived.account), false);
  const other = `0x${"33".repeat(20)}`;
  for (const change of [{ log: other }, { author: other }, { account: other }, { to: other }, { leaves: [leaf, leaf], slots: [1, 1] }, { leaves: [`0x${"44".repeat(32)}`] }, { slots: [entry.leaf.categorySlot ^ 1] }]) {
    assert.equal(isOurs(call(change), signingHash(call(change)), sealed, derived.account), false, JSON.stringify(change));
  }
});
