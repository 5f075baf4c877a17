// Sealing a record in the browser: the other side of vault.js. Content goes through in pieces, so that a file of any length
// is never held whole.
//
//   key of the record  k, 32 random bytes; content key = HKDF(k ‖ pepper, "stele/content-key/v1", record, version)
//   ciphertext         `stele_core::crypto::stream`, not compressed
//   address            UnixFS as `stele_vault::cid` imports it: leaves of 256 KiB, at most 174 links a node
//   leaf               content digest, element root (`stele_core::element`), envelope digest, author, the leaf before

import { base64, concat, derive, hex, hkdfKey, importAes, random, sealAt, sha256, u16, u32, unbase64, unhex, utf8 } from "./bytes.js";
import { sha256 as hasher } from "../vendor/hpke-common/esm/src/hash/sha2.js";
import { publicOf, send } from "./hpke.js";
import { account as accountBytes } from "./keys.js";

const CHUNK_LEN = 65_536;
const TRAILER_LEN = 8;
const PADDED_MIN = 256;
const LEAF_LEN = 262_144;
const WIDTH = 174;
const RAW = 0x55;
const DAG_PB = 0x70;

/** Padmé: the length that content of this length is padded to (Nikitin and others, PETS 2019). */
export const padme = (length) => {
  if (length < 2) return length;
  const exponent = Math.floor(Math.log2(length));
  const step = 2 ** Math.max(0, exponent - (Math.floor(Math.log2(exponent)) + 1));
  return Math.ceil(length / step) * step;
};

/** Gathers pieces into pieces of one length; the last may be shorter. */
class Cutter {
  #held = [];
  #length = 0;

  constructor(length) {
    this.length = length;
  }

  /** The full pieces that there are now. The last one stays until more comes. */
  push(bytes) {
    this.#held.push(bytes);
    this.#length += bytes.length;
    if (this.#length <= this.length) return [];
    const all = concat(...this.#held);
    const full = [];
    let at = 0;
    for (; all.length - at > this.length; at += this.length) full.push(all.slice(at, at + this.length));
    this.#held = [all.slice(at)];
    this.#length = all.length - at;
    return full;
  }

  rest() {
    return concat(...this.#held);
  }
}

/** Seals content as it comes. */
class Sealer {
  #cutter = new Cutter(CHUNK_LEN);
  #next = 0;
  #length = 0;

  static async begin(contentKey) {
    const sealer = new Sealer();
    const bound = concat(utf8("STELE"), Uint8Array.of(1, 1, 0), random(39), Uint8Array.of(0));
    const pair = await derive(await hkdfKey(contentKey), "stele/stream/v1", [bound], bound.subarray(8, 40), 64);
    sealer.prefix = bound.subarray(40, 47);
    sealer.key = await importAes(pair.subarray(0, 32));
    sealer.header = concat(bound, pair.subarray(32));
    return sealer;
  }

  async push(content) {
    this.#length += content.length;
    return this.#absorb(content);
  }

  async finish() {
    const padded = Math.max(padme(this.#length + TRAILER_LEN), PADDED_MIN);
    const trailer = new Uint8Array(TRAILER_LEN);
    new DataView(trailer.buffer).setBigUint64(0, BigInt(this.#length), true);
    const sealed = [];
    for (let zeros = padded - TRAILER_LEN - this.#length; zeros > 0; zeros -= CHUNK_LEN) {
      sealed.push(...(await this.#absorb(new Uint8Array(Math.min(zeros, CHUNK_LEN)))));
    }
    sealed.push(...(await this.#absorb(trailer)), await this.#chunk(this.#cutter.rest(), 1));
    return sealed;
  }

  async #absorb(bytes) {
    const sealed = [];
    for (const chunk of this.#cutter.push(bytes)) sealed.push(await this.#chunk(chunk, 0));
    return sealed;
  }

  #chunk(plain, last) {
    const iv = concat(this.prefix, u32(this.#next), Uint8Array.of(last));
    this.#next += 1;
    return sealAt(this.key, iv, plain);
  }
}

const varint = (number) => {
  const out = [];
  for (let left = number; ; left = Math.floor(left / 128)) {
    if (left < 128) return Uint8Array.from([...out, left]);
    out.push((left % 128) | 128);
  }
};

const field = (tag, bytes) => concat(Uint8Array.of(tag), varint(bytes.length), bytes);
const cidOf = (codec, digest) => concat(Uint8Array.of(1, codec, 0x12, 32), digest);

/** The address of bytes as they come. */
export class Importer {
  #cutter = new Cutter(LEAF_LEN);
  #leaves = [];

  async push(bytes) {
    for (const leaf of this.#cutter.push(bytes)) await this.#leaf(leaf);
  }

  async finish() {
    await this.#leaf(this.#cutter.rest());
    let level = this.#leaves;
    while (level.length > 1) {
      const above = [];
      for (let at = 0; at < level.length; at += WIDTH) above.push(await node(level.slice(at, at + WIDTH)));
      level = above;
    }
    return cidOf(level[0].codec, level[0].digest);
  }

  async #leaf(bytes) {
    this.#leaves.push({ codec: RAW, digest: await sha256(bytes), total: bytes.length, file: bytes.length });
  }
}

/** A dag-pb node over links: the links, then the UnixFS message. */
const node = async (links) => {
  const file = links.reduce((sum, link) => sum + link.file, 0);
  const named = links.map(({ codec, digest, total }) =>
    field(0x12, concat(field(0x0a, cidOf(codec, digest)), field(0x12, new Uint8Array(0)), Uint8Array.of(0x18), varint(total))),
  );
  const sizes = links.map((link) => concat(Uint8Array.of(0x20), varint(link.file)));
  const bytes = concat(...named, field(0x0a, concat(Uint8Array.of(0x08, 2, 0x18), varint(file), ...sizes)));
  const total = links.reduce((sum, link) => sum + link.total, bytes.length);
  return { codec: DAG_PB, digest: await sha256(bytes), total, file };
};

/** A number in a resource, with the digits it was typed with. */
export class Digits {
  constructor(digits) {
    if (!/^(0|[1-9]\d*)(\.\d+)?$/.test(digits)) throw new Error("not a number");
    this.digits = digits;
  }
}

/** A resource as text, and each of its values with the way to it (RFC 6901). */
export const written = (resource) => {
  const leaves = [];
  const write = (value, way) => {
    const leaf = (literal) => {
      leaves.push([way, literal]);
      return literal;
    };
    if (value instanceof Digits) return leaf(value.digits);
    if (value === null || typeof value !== "object") return leaf(JSON.stringify(value));
    if (Array.isArray(value)) {
      return value.length === 0 ? leaf("[]") : `[${value.map((one, at) => write(one, `${way}/${at}`)).join(",")}]`;
    }
    const members = Object.entries(value);
    const escaped = (name) => name.replaceAll("~", "~0").replaceAll("/", "~1");
    return members.length === 0 ? leaf("{}") : `{${members.map(([name, one]) => `${JSON.stringify(name)}:${write(one, `${way}/${escaped(name)}`)}`).join(",")}}`;
  };
  return { text: write(resource, ""), leaves };
};

const bytewise = ([one], [other]) => {
  const [a, b] = [utf8(one), utf8(other)];
  const at = a.findIndex((byte, index) => byte !== b[index]);
  return at === -1 ? a.length - b.length : a[at] - (b[at] ?? -1);
};

/** Root of the element tree over the values of a resource. */
export const elementRoot = async (leaves, elementSalt) => {
  const key = await crypto.subtle.importKey("raw", elementSalt, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  let level = await Promise.all(
    leaves.toSorted(bytewise).map(async ([way, literal]) => {
      const pointer = utf8(way);
      const salt = new Uint8Array(await crypto.subtle.sign("HMAC", key, pointer)).subarray(0, 16);
      return sha256(Uint8Array.of(0), salt, u32(pointer.length), pointer, utf8(literal));
    }),
  );
  while (level.length > 1) {
    const pairs = Array.from({ length: Math.ceil(level.length / 2) }, (_, at) => level.slice(2 * at, 2 * at + 2));
    level = await Promise.all(pairs.map(([left, right]) => (right ? sha256(Uint8Array.of(1), left, right) : left)));
  }
  return sha256(Uint8Array.of(2), u32(leaves.length), level[0] ?? new Uint8Array(32));
};

/** Encapsulations to the keys of a root, one for each place. */
export class Places {
  #made = new Map();

  constructor(root, account) {
    this.root = root;
    this.log = accountBytes(account);
  }

  /** To the key of a category in a generation and month, which is derived here and not taken from anybody. */
  async to(category, generation, month) {
    const name = `${category}:${generation}:${month}`;
    if (!this.#made.has(name)) this.#made.set(name, this.#make(category, generation, month));
    return this.#made.get(name);
  }

  async #make(category, generation, month) {
    const slot = await this.root.slotOf(category);
    const place = concat(this.log, Uint8Array.of(slot), u32(generation), u16(month));
    const seed = await (await this.root.tree(category, generation)).seed(month);
    const { encapsulation, key } = await send(await publicOf(seed), concat(utf8("stele/record-keys/v1"), place));
    return { slot, key, encapsulation: concat(place, encapsulation) };
  }
}

const hex0x = (bytes) => `0x${hex(bytes)}`;

/** Seals content for the room that the node made: what to hand over, the leaf's salt, and the ciphertext as a Blob. */
export const sealRecord = async (places, author, room, content, leaves) => {
  const place = await places.to(room.category, room.generation, room.month);
  const [record, version] = [unhex(room.record), u32(room.version)];
  const [secret, elementSalt, leafSalt] = [random(32), random(32), random(32)];
  const wrapping = await importAes(await place.key(concat(utf8("stele/wrap/v1"), record, version)));
  const wrapped = await sealAt(wrapping, new Uint8Array(12), secret);
  const both = await hkdfKey(concat(secret, unbase64(room.pepper)));
  const sealer = await Sealer.begin(await derive(both, "stele/content-key/v1", [record, version]));
  const digest = hasher.create().update(utf8("stele/content/1")).update(elementSalt);
  const importer = new Importer();
  let sealed = new Blob([]);
  let sizeBytes = 0;
  const add = async (chunks) => {
    for (const chunk of chunks) await importer.push(chunk);
    // A Blob lies with the browser, not in this page's memory.
    if (chunks.length > 0) sealed = new Blob([sealed, ...chunks]);
  };
  await add([sealer.header]);
  for await (const piece of content) {
    sizeBytes += piece.length;
    digest.update(piece);
    await add(await sealer.push(piece));
  }
  await add(await sealer.finish());
  const encapsulated = await sha256(utf8("stele/encapsulation/v1"), place.encapsulation);
  const leaf = {
    record: room.record,
    version: room.version,
    kind: room.kind,
    categorySlot: place.slot,
    cid: hex0x(await importer.finish()),
    content: hex0x(digest.digest()),
    elementRoot: hex0x(leaves ? await elementRoot(leaves, elementSalt) : new Uint8Array(32)),
    envelopeDigest: hex0x(await sha256(utf8("stele/envelope/v1"), encapsulated, record, version, wrapped)),
    author,
    previous: room.previous,
  };
  const entry = {
    leaf,
    leafSalt: hex0x(leafSalt),
    elementSalt: base64(elementSalt),
    encapsulation: base64(place.encapsulation),
    wrapped: base64(wrapped),
    sizeBytes,
    sealedBytes: sealed.size,
  };
  return { entry, sealed };
};

/** As `sealRecord`, of a resource. The node's id and time go into it. */
export const sealResource = async (places, author, room, resource) => {
  const { resourceType, ...members } = resource;
  const meta = { versionId: String(room.version), lastUpdated: room.lastUpdated };
  const { text, leaves } = written({ resourceType, id: room.id, meta, ...members });
  return { ...(await sealRecord(places, author, room, [utf8(text)], leaves)), text };
};

/** As `sealRecord`, of a file's own bytes after the head that says what they are (`stele_service::records::stream`). */
export const sealFile = async (places, author, room, file, subject, progress) => {
  const meta = { versionId: String(room.version), lastUpdated: room.lastUpdated };
  const head = utf8(
    JSON.stringify({ resourceType: "Binary", id: room.id, meta, contentType: file.type || "application/octet-stream", securityContext: { reference: subject } }),
  );
  const pieces = async function* () {
    yield concat(Uint8Array.of(0), u16(head.length), head);
    let done = 0;
    for (let at = 0; at < file.size; at += PIECE) {
      const piece = new Uint8Array(await file.slice(at, at + PIECE).arrayBuffer());
      yield piece;
      done += piece.length;
      progress(done, file.size);
    }
  };
  return sealRecord(places, author, room, pieces());
};

/** Bytes of a file that are read at once. */
const PIECE = 4 * 1024 * 1024;
