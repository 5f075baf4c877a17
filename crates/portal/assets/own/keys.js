// A patient's key tree, as `stele_vault::keys::tree` derives it, the directory of public keys, and grants of keys.
//
//   category root = HKDF(root key, "stele/tree/v1", category, generation)
//   node          = SHA-256(bit ‖ parent)          16 levels, the most significant bit of the month first
//   X-Wing seed   = HKDF(leaf, "stele/xwing/v1")

import { concat, derive, equal, hkdfKey, readU16, readU32, seal, sha256, u16, u32, unhex, utf8 } from "./bytes.js";
import { PUBLIC_LEN, publicOf, send } from "./hpke.js";

const DEPTH = 16;
const SLOTS = 64;
const GRANT_VERSION = 2;
const DIRECTORY_VERSION = 1;
const GRANT_INFO = utf8("stele/grant/v2");
/** Months of public keys published ahead. */
export const MONTHS_AHEAD = 24;
/** Key generations that a directory may name: one more for each access that ended. */
const GENERATIONS_MAX = 10_000;

/** Months since January 1970. */
export const monthOf = (date) => (date.getUTCFullYear() - 1970) * 12 + date.getUTCMonth();

/** One category's tree in one generation; nodes on the way are kept, since neighbouring months share them. */
class Tree {
  #nodes = new Map();

  constructor(root) {
    this.#nodes.set("0:0", root);
  }

  async node(depth, index) {
    const name = `${depth}:${index}`;
    if (!this.#nodes.has(name)) {
      const parent = await this.node(depth - 1, index >>> 1);
      this.#nodes.set(name, await sha256(Uint8Array.of(index & 1), parent));
    }
    return this.#nodes.get(name);
  }

  /** Seed of a month's X-Wing key pair. */
  async seed(month) {
    return derive(await hkdfKey(await this.node(DEPTH, month)), "stele/xwing/v1");
  }

  /** Seeds of the fewest nodes that cover the months and no other, in order. */
  async cover(from, to) {
    const seeds = [];
    for (const [depth, index] of coverNodes(from, to)) seeds.push(await this.node(depth, index));
    return seeds;
  }
}

/** Depth and index of the fewest nodes that cover a range of months. */
export const coverNodes = (from, to) => {
  const nodes = [];
  for (let next = from; next <= to; ) {
    let below = 0;
    // The largest aligned block that starts here and does not reach past the end.
    while (below < DEPTH && next % 2 ** (below + 1) === 0 && next + 2 ** (below + 1) - 1 <= to) below += 1;
    nodes.push([DEPTH - below, next / 2 ** below]);
    next += 2 ** below;
  }
  return nodes;
};

/** The root of all record keys. Secrets are kept as keys that can be derived from, but not read. */
export class Root {
  #slots;
  #trees = new Map();

  /** `root` and `own` are of `hkdfKey`; `own` gives the generations from `fromGeneration` on. */
  constructor(root, own, fromGeneration) {
    this.root = root;
    this.own = own;
    this.fromGeneration = fromGeneration;
  }

  /** Of secret bytes. */
  static async of(root, own, fromGeneration) {
    return new Root(await hkdfKey(root), own && (await hkdfKey(own)), fromGeneration);
  }

  /** The slot of each category: Fisher and Yates' shuffle; a byte that would bias a choice is skipped. */
  async slots() {
    if (this.#slots) return this.#slots;
    const slots = Uint8Array.from({ length: SLOTS }, (_, at) => at);
    let bytes = [];
    let block = 0;
    for (let last = SLOTS - 1; last > 0; last -= 1) {
      const choices = last + 1;
      const fair = 256 - (256 % choices);
      let choice;
      do {
        if (bytes.length === 0) bytes = [...(await derive(this.root, "stele/slots/v1", [u32(block++)]))];
        choice = bytes.shift();
      } while (choice >= fair);
      const other = choice % choices;
      [slots[last], slots[other]] = [slots[other], slots[last]];
    }
    return (this.#slots = slots);
  }

  async slotOf(category) {
    return (await this.slots())[category];
  }

  async categoryOf(slot) {
    return (await this.slots()).indexOf(slot);
  }

  /** The categories as bits of their slots. */
  async maskOf(categories) {
    const slots = await this.slots();
    return categories.reduce((mask, category) => mask | (1n << BigInt(slots[category])), 0n);
  }

  async tree(category, generation) {
    const name = `${category}:${generation}`;
    if (!this.#trees.has(name)) {
      const secret = this.own && generation >= this.fromGeneration ? this.own : this.root;
      const parts = [Uint8Array.of(category), u32(generation)];
      this.#trees.set(name, new Tree(await derive(secret, "stele/tree/v1", parts)));
    }
    return this.#trees.get(name);
  }
}

/** A directory of public keys: log, first month, and for each category its slot, generation and keys. */
export class Directory {
  constructor(log, firstMonth, entries) {
    this.log = log;
    this.firstMonth = firstMonth;
    this.entries = entries;
  }

  /** Derives the keys of `[category, generation]` pairs; what `before` has already is taken from it. */
  static async derive(root, log, wanted, firstMonth, before) {
    const entries = [];
    for (const [category, generation] of wanted) {
      const known = before?.firstMonth === firstMonth && before.entries.find((one) => one.category === category);
      if (known && known.generation === generation) {
        entries.push(known);
        continue;
      }
      const tree = await root.tree(category, generation);
      const keys = [];
      for (let month = firstMonth; month < firstMonth + MONTHS_AHEAD; month += 1) {
        keys.push(await publicOf(await tree.seed(month)));
      }
      entries.push({ category, slot: await root.slotOf(category), generation, keys: concat(...keys) });
    }
    entries.sort((one, other) => one.slot - other.slot);
    return new Directory(log, firstMonth, entries);
  }

  static decode(bytes) {
    if (bytes[0] !== DIRECTORY_VERSION || bytes.length < 23) throw new Error("the key directory is of an unknown kind");
    const directory = new Directory(bytes.slice(1, 21), readU16(bytes, 21), []);
    for (let at = 23; at < bytes.length; ) {
      const length = readU32(bytes, at + 6);
      const [category, slot, generation] = [bytes[at], bytes[at + 1], readU32(bytes, at + 2)];
      const keys = bytes.slice(at + 10, at + 10 + length);
      if (keys.length !== length || length === 0 || length % PUBLIC_LEN) throw new Error("the key directory is cut off");
      if (generation > GENERATIONS_MAX) throw new Error("the key directory names a generation that can't be");
      directory.entries.push({ category, slot, generation, keys });
      at += 10 + length;
    }
    return directory;
  }

  encode() {
    const entries = this.entries.flatMap(({ category, slot, generation, keys }) => [
      Uint8Array.of(category, slot), u32(generation), u32(keys.length), keys,
    ]);
    return concat(Uint8Array.of(DIRECTORY_VERSION), this.log, u16(this.firstMonth), ...entries);
  }

  /** What the ledger names. */
  async root() {
    const parts = [utf8("stele/directory/v1"), this.log, u16(this.firstMonth)];
    for (const { slot, generation, keys } of this.entries) {
      parts.push(Uint8Array.of(slot), u32(generation), await sha256(keys));
    }
    return sha256(...parts);
  }

  generation(category) {
    return this.entries.find((one) => one.category === category)?.generation ?? 0;
  }

  /** The key to write a category with in a month: that month's, or the nearest published one. */
  writingKey(category, month) {
    const entry = this.entries.find((one) => one.category === category);
    if (!entry) throw new Error("the key directory lacks a category");
    const last = entry.keys.length / PUBLIC_LEN - 1;
    const at = Math.min(Math.max(month - this.firstMonth, 0), last);
    const key = entry.keys.subarray(at * PUBLIC_LEN, (at + 1) * PUBLIC_LEN);
    return { slot: entry.slot, generation: entry.generation, month: this.firstMonth + at, key };
  }

  /** Whether its slots are those of the root key: others would silently change who sees what. */
  async fits(root) {
    const slots = await root.slots();
    return this.entries.every(({ category, slot }) => slots[category] === slot);
  }
}

/** Seals keys of categories to one grantee, all under one encapsulation. */
export class GrantSealer {
  static async to(grantee, publicKey) {
    const sealer = new GrantSealer();
    Object.assign(sealer, await send(publicKey, GRANT_INFO), { grantee });
    return sealer;
  }

  /** The encoded grant of one category and generation, for the months of sealing from … to. */
  async seal(root, log, category, generation, from, to) {
    const header = concat(
      Uint8Array.of(GRANT_VERSION), log, Uint8Array.of(await root.slotOf(category)), u32(generation), u16(from), u16(to),
    );
    const context = concat(header, this.grantee);
    const seeds = await (await root.tree(category, generation)).cover(from, to);
    const sealed = await seal(await this.key(context), context, concat(Uint8Array.of(category), ...seeds));
    return concat(header, this.encapsulation, sealed);
  }
}

/** An account's address as bytes. */
export const account = (address) => {
  const bytes = unhex(address);
  if (bytes.length !== 20) throw new Error("not an account");
  return bytes;
};

export const sameAccount = (one, other) => equal(account(one), account(other));
