// The portal's modules derive, seal and open as the vault does, on vectors that the vault's own test holds too
// (crates/vault/src/keys/interop.rs).

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";

import { hex, unhex, unbase64 } from "../../crates/portal/assets/own/bytes.js";
import { publicOf } from "../../crates/portal/assets/own/hpke.js";
import { Directory, coverNodes } from "../../crates/portal/assets/own/keys.js";
import { Opener, commitment, verified } from "../../crates/portal/assets/own/vault.js";
import { keccak256 } from "../../crates/portal/assets/own/keccak.js";
import { rootOf, sealed, vectors } from "./vectors.mjs";

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
});
