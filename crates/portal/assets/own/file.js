// A file of the record: its ciphertext comes in pieces, is opened and held against its leaf, and is saved by the browser. Not
// held in memory: what was opened lies in a Blob.

import { sha256 as hasher } from "../vendor/hpke-common/esm/src/hash/sha2.js";
import { readU16, unbase64, utf8 } from "./bytes.js";
import { Problem, ask, say } from "./page.js";
import { text } from "./text.js";
import { verifiedDigest } from "./vault.js";

const MB = 1024 * 1024;

/** The file of an attachment, opened. */
export const fileOf = async (opener, { data, url }) => (data ? unbase64(data.replace(/\s/g, "")) : openFile(opener, url.slice("Binary/".length)));

/** A Binary's own bytes, without the head that says what they are (`stele_service::records::stream`). */
export const openFile = async (opener, id) => {
  const { entries: [entry], log } = await ask(`/keys/records/Binary/${id}`);
  const digest = hasher.create().update(utf8("stele/content/1")).update(unbase64(entry.sealed.elementSalt));
  const total = entry.sealed.sizeBytes;
  let opened = new Blob([]);
  let parts = [];
  let done = 0;
  for await (const piece of opener.openPieces(entry.sealed, pieces(entry))) {
    digest.update(piece);
    parts.push(piece);
    done += piece.length;
    if (parts.length < 64) continue;
    opened = new Blob([opened, ...parts]);
    parts = [];
    say(text("Opening the file: {done} of {total} MB", { done: Math.round(done / MB), total: Math.round(total / MB) }));
  }
  say("");
  const whole = new Blob([opened, ...parts]);
  // Nothing is saved before all of it is what the ledger commits to.
  if (!(await verifiedDigest(digest.digest(), entry, log))) {
    throw new Problem(text("What is stored does not open, or is not what was recorded, so we do not show it. Your other entries are not affected. Tell the desk of your hospital or practice the number of this entry."));
  }
  return inner(whole);
};

/** The ciphertext: with the entry where it is small, else as a stream. */
async function* pieces({ sealed, resourceType, id }) {
  if (sealed.sealed) {
    yield unbase64(sealed.sealed);
    return;
  }
  const { ok, body } = await fetch(`/keys/records/${resourceType}/${id}/ciphertext`);
  if (!ok) throw new Problem(text("The server does not answer now. Try again in a minute."));
  const reader = body.getReader();
  for (let read = await reader.read(); !read.done; read = await reader.read()) yield read.value;
}

/** What a Binary holds: bytes behind a head, or the data of a resource. */
const inner = async (whole) => {
  const start = new Uint8Array(await whole.slice(0, 3).arrayBuffer());
  if (start[0] === 0) return whole.slice(3 + readU16(start, 1));
  return unbase64(JSON.parse(await whole.text()).data.replace(/\s/g, ""));
};
