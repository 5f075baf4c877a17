// Opening a record that the node handed out sealed, and holding it against its leaf on the ledger: the browser's side of
// `stele_vault::sealed`, `stele_core::crypto::stream`, `leaf` and `mmr`.

import { concat, derive, equal, hex, hkdfKey, importAes, openAt, readU16, readU32, sha256, u32, unbase64, unhex, utf8 } from "./bytes.js";
import { receive } from "./hpke.js";
import { keccak256 } from "./keccak.js";

const HEADER_LEN = 80;
const BOUND_LEN = 48;
const CHUNK_LEN = 65_536;
const TAG_LEN = 16;
const PLACE_LEN = 27;
const KINDS = { create: 1, amend: 2, tombstone: 3 };

const asWord = (value) => unhex(BigInt(value).toString(16).padStart(64, "0"));

/** Opens records, and each encapsulation once. */
export class Opener {
  #exporters = new Map();

  constructor(root) {
    this.root = root;
  }

  async #exporter(encapsulation) {
    const name = hex(encapsulation.subarray(0, PLACE_LEN + 32));
    if (!this.#exporters.has(name)) this.#exporters.set(name, this.#receive(encapsulation));
    return this.#exporters.get(name);
  }

  async #receive(encapsulation) {
    const place = encapsulation.subarray(0, PLACE_LEN);
    const category = await this.root.categoryOf(place[20]);
    const tree = await this.root.tree(category, readU32(place, 21));
    const seed = await tree.seed(readU16(place, 25));
    return receive(seed, encapsulation.subarray(PLACE_LEN), concat(utf8("stele/record-keys/v1"), place));
  }

  /** The content of a record as the node handed it out. Fails where the key or any byte is another's. */
  async open(sealed) {
    return expanded(await openStream(await this.#contentKey(sealed), unbase64(sealed.sealed)), sealed.sizeBytes);
  }

  /** As `open`, of a ciphertext that comes in pieces and is not compressed; gives the content piece by piece. */
  async *openPieces(sealed, pieces) {
    yield* openPieces(await this.#contentKey(sealed), pieces, sealed.sizeBytes);
  }

  async #contentKey(sealed) {
    const record = unhex(sealed.record);
    const version = u32(sealed.version);
    const key = await this.#exporter(unbase64(sealed.encapsulation));
    const wrapping = await importAes(await key(concat(utf8("stele/wrap/v1"), record, version)));
    const wrapped = await openAt(wrapping, new Uint8Array(12), unbase64(sealed.wrapped));
    const both = await hkdfKey(concat(wrapped, unbase64(sealed.pepper)));
    return derive(both, "stele/content-key/v1", [record, version]);
  }
}

/** The key of a stream, from its header; and whether its content is compressed. */
const begun = async (contentKey, header) => {
  if (new TextDecoder().decode(header.subarray(0, 5)) !== "STELE" || header[5] !== 1 || header[6] !== 1) {
    throw new Error("the ciphertext is of an unknown kind");
  }
  const pair = await derive(
    await hkdfKey(contentKey), "stele/stream/v1", [header.subarray(0, BOUND_LEN)], header.subarray(8, 40), 64,
  );
  if (!equal(pair.subarray(32), header.subarray(BOUND_LEN))) throw new Error("the key or the ciphertext is another's");
  return { key: await importAes(pair.subarray(0, 32)), isDeflated: header[7] === 1 };
};

const chunkNonce = (header, number, last) => concat(header.subarray(40, 47), u32(number), Uint8Array.of(last));

/** A sealed stream of `size` bytes that comes in pieces; what is given out is authentic, and whole once this has ended. */
async function* openPieces(contentKey, pieces, size) {
  const chunks = cut(pieces, HEADER_LEN, CHUNK_LEN + TAG_LEN);
  const { value: header } = await chunks.next();
  const { key, isDeflated } = await begun(contentKey, header ?? new Uint8Array(0));
  if (isDeflated) throw new Error("the ciphertext is compressed");
  let done = 0;
  let number = 0;
  let tail = new Uint8Array(0);
  for await (const { bytes, isLast } of chunks) {
    const plain = await openAt(key, chunkNonce(header, number, isLast ? 1 : 0), bytes);
    number += 1;
    tail = concat(tail, plain).slice(-8);
    const part = plain.subarray(0, Math.max(0, size - done));
    done += part.length;
    yield part;
  }
  const length = tail.length === 8 && Number(new DataView(tail.buffer).getBigUint64(0, true));
  if (done !== size || length !== size) throw new Error("the content has another length");
}

/** A header of one length, then pieces of another, each with whether it is the last. */
async function* cut(pieces, first, step) {
  let held = new Uint8Array(0);
  let isBegun = false;
  for await (const piece of pieces) {
    held = concat(held, piece);
    if (!isBegun && held.length >= first) {
      isBegun = true;
      yield held.slice(0, first);
      held = held.slice(first);
    }
    // A full piece is given on only when more follows, since the last one is marked.
    let at = 0;
    for (; isBegun && held.length - at > step; at += step) yield { bytes: held.subarray(at, at + step), isLast: false };
    held = held.slice(at);
  }
  if (isBegun) yield { bytes: held, isLast: true };
}

/** A sealed stream: its encoding and content. */
export const openStream = async (contentKey, stream) => {
  const header = stream.subarray(0, HEADER_LEN);
  const { key, isDeflated } = await begun(contentKey, header);
  const parts = [];
  const step = CHUNK_LEN + TAG_LEN;
  for (let at = HEADER_LEN, number = 0; at < stream.length; at += step, number += 1) {
    const last = at + step >= stream.length ? 1 : 0;
    parts.push(await openAt(key, chunkNonce(header, number, last), stream.subarray(at, at + step)));
  }
  const padded = concat(...parts);
  const length = Number(new DataView(padded.buffer).getBigUint64(padded.length - 8, true));
  if (length > padded.length - 8) throw new Error("the ciphertext's length is wrong");
  return { isDeflated, content: padded.subarray(0, length) };
};

const expanded = async ({ isDeflated, content }, size) => {
  const stream = isDeflated && new Blob([content]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  const whole = stream ? new Uint8Array(await new Response(stream).arrayBuffer()) : content;
  if (whole.length !== size) throw new Error("the content has another length");
  return whole;
};

/** Whether the content is what the leaf commits to, and the leaf stands in the log with these peaks. */
export const verified = async (content, entry, log) =>
  verifiedDigest(await sha256(utf8("stele/content/1"), unbase64(entry.sealed.elementSalt), content), entry, log);

/** As `verified`, of content whose salted digest this is. */
export const verifiedDigest = async (digest, { sealed, leaf, leafSalt, path, index }, log) => {
  const version = u32(leaf.version);
  const record = unhex(leaf.record);
  const encapsulation = await sha256(utf8("stele/encapsulation/v1"), unbase64(sealed.encapsulation));
  const envelope = await sha256(utf8("stele/envelope/v1"), encapsulation, record, version, unbase64(sealed.wrapped));
  const isSame =
    leaf.record === sealed.record && leaf.version === sealed.version &&
    equal(digest, unhex(leaf.content)) && equal(envelope, unhex(leaf.envelopeDigest));
  return isSame && climbs(commitment(leaf, unhex(leafSalt)), index, path.map(unhex), log);
};

/** The leaf as the ledger has it. */
export const commitment = (leaf, salt) =>
  keccak256(
    utf8("stele/leaf/1"), salt, unhex(leaf.record), u32(leaf.version), Uint8Array.of(KINDS[leaf.kind], leaf.categorySlot),
    keccak256(unhex(leaf.cid)), unhex(leaf.content), unhex(leaf.elementRoot), unhex(leaf.envelopeDigest),
    unhex(leaf.author), unhex(leaf.previous),
  );

/** Whether a leaf and its siblings lead to a peak of the log. */
const climbs = (leaf, index, path, log) => {
  let start = 0;
  for (let height = 40; height >= 0; height -= 1) {
    if (Math.floor(log.size / 2 ** height) % 2 === 0) continue;
    if (index < start + 2 ** height) {
      const peak = log.peaks.find((one) => one.height === height);
      if (!peak || path.length !== height) return false;
      let node = keccak256(Uint8Array.of(0), leaf);
      let position = index - start;
      for (const sibling of path) {
        node = position % 2 === 0 ? keccak256(Uint8Array.of(1), node, sibling) : keccak256(Uint8Array.of(1), sibling, node);
        position = Math.floor(position / 2);
      }
      return equal(node, asWord(peak.word.value));
    }
    start += 2 ** height;
  }
  return false;
};

