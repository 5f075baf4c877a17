// What was opened, kept in this browser so that the next look opens only what is new: each entry encrypted under a key that
// is derived from the patient's own secret, which only the passkey unwraps. The node is asked before anything of it is
// shown, so that each look leaves its receipt.
//
//   key = HKDF(own secret, "stele/local-index/v1", account)
//   row = [account, place in the log] → AES-256-GCM(key; account ‖ place; JSON)

import { concat, derive, importAes, openWith, sealWith, u32, utf8 } from "./bytes.js";
import { account as accountBytes } from "./keys.js";
import { parse, title, when } from "./show.js";
import { ENTRIES, asked, objects } from "./store.js";
import { text } from "./text.js";

/** What is kept of an entry beside its text. */
const KEPT = ["resourceType", "id", "version", "category", "number", "name", "at", "index"];

/** Fills in what is shown of an entry, from its text. */
export const understood = (entry, written) => {
  const resource = parse(written);
  return { ...entry, state: "Verified", text: written, resource, title: title(resource), when: when(resource) };
};

/** As `understood`, of a file, which is kept as its own bytes. */
export const file = (entry) => ({ ...entry, state: "Verified", isFile: true, resource: {}, title: text("A file"), when: "" });

/** The entries of one account that this browser keeps. */
export class LocalIndex {
  #account;
  #bytes;
  #key;

  /** With the keys of the account. What another account left is removed. */
  static async of({ own, root }, account) {
    const index = new LocalIndex();
    index.#account = account;
    index.#bytes = accountBytes(account);
    index.#key = await importAes(await derive(own ?? root, "stele/local-index/v1", [index.#bytes]));
    const all = await objects(ENTRIES, "readwrite");
    await asked(all.delete(IDBKeyRange.upperBound([account], true)));
    await asked(all.delete(IDBKeyRange.lowerBound([account, []], true)));
    return index;
  }

  /** Places in the log of what is kept, in order. */
  async places() {
    const keys = await asked((await objects(ENTRIES, "readonly")).getAllKeys(this.#mine()));
    return keys.map(([, place]) => place);
  }

  /** What is kept of the entries from one place to another. A row that does not open is as if it were not there. */
  async read(from, to) {
    const range = IDBKeyRange.bound([this.#account, from], [this.#account, to]);
    const all = await objects(ENTRIES, "readonly");
    const [keys, rows] = await Promise.all([asked(all.getAllKeys(range)), asked(all.getAll(range))]);
    const entries = await Promise.all(rows.map((row, at) => this.#open(keys[at][1], row).catch(() => undefined)));
    return entries.filter(Boolean);
  }

  /** Keeps entries that were opened and held against the ledger. A browser without room keeps none. */
  async keep(entries) {
    try {
      const rows = await Promise.all(entries.filter(({ state }) => state === "Verified").map(async (entry) => [entry.index, await this.#seal(entry)]));
      const all = await objects(ENTRIES, "readwrite");
      await Promise.all(rows.map(([place, row]) => asked(all.put(row, [this.#account, place]))));
    } catch (error) {
      if (error.name !== "QuotaExceededError") throw error;
    }
  }

  /** Removes what is not current any more: amended, deleted or erased. */
  async drop(places) {
    const all = await objects(ENTRIES, "readwrite");
    await Promise.all(places.map((place) => asked(all.delete([this.#account, place]))));
  }

  #mine() {
    return IDBKeyRange.bound([this.#account], [this.#account, []]);
  }

  #context(place) {
    return concat(this.#bytes, u32(place));
  }

  #seal(entry) {
    const kept = Object.fromEntries(KEPT.map((name) => [name, entry[name]]));
    return sealWith(this.#key, this.#context(entry.index), utf8(JSON.stringify({ ...kept, text: entry.isFile ? null : entry.text })));
  }

  async #open(place, row) {
    const { text: written, ...entry } = JSON.parse(new TextDecoder().decode(await openWith(this.#key, this.#context(place), row)));
    return written === null ? file(entry) : understood(entry, written);
  }
}
