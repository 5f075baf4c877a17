// What the portal's modules seal, for the vault to open: `node own/vectors.mjs --write` in e2e/ writes it into the vectors.

import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { base64, unbase64, unhex, utf8 } from "../../crates/portal/assets/own/bytes.js";
import { sealMessage } from "../../crates/portal/assets/own/hpke.js";
import { Directory, GrantSealer, Root, account } from "../../crates/portal/assets/own/keys.js";
import { KINDS } from "../../crates/portal/assets/own/made.js";
import { Places, sealResource } from "../../crates/portal/assets/own/seal.js";

const FILE = fileURLToPath(new URL("vectors.json", import.meta.url));

export const vectors = () => JSON.parse(readFileSync(FILE, "utf8"));

export const rootOf = ({ root, own, fromGeneration }) => Root.of(unhex(root), unhex(own), fromGeneration);

/** What is typed into the forms of own entries. */
const TYPED = {
  "blood-pressure": { when: "2026-06-30", upper: "128", lower: "82.0", note: 'After a "walk"\n\\ <b>änd</b> / ~' },
  weight: { when: "2026-06-30", weight: "71.50", note: "" },
  "how-i-feel": { when: "2026-06-30", note: "Tired, but well" },
};

/** Own entries, sealed as the portal's forms do. */
export async function entries({ derived }) {
  const places = new Places(await rootOf(derived), derived.account);
  const made = [];
  for (const [at, [kind, typed]] of Object.entries(TYPED).entries()) {
    const room = {
      record: `0x${`2${at}`.repeat(32)}`, version: 1, id: `entry-${at}`, lastUpdated: "2026-07-01T10:00:00.000Z", kind: "create",
      previous: `0x${"00".repeat(32)}`, category: 6, generation: 2, month: 680, pepper: base64(new Uint8Array(32).fill(4)),
    };
    const resource = KINDS[kind].resource({ reference: "Patient/1" }, typed);
    const { entry, sealed, text } = await sealResource(places, derived.account, room, resource);
    const { leaf, leafSalt, sizeBytes, elementSalt, encapsulation, wrapped } = entry;
    const bytes = base64(new Uint8Array(await sealed.arrayBuffer()));
    const record = { record: room.record, version: 1, sizeBytes, elementSalt, encapsulation, wrapped, pepper: room.pepper, sealed: bytes };
    made.push({ kind, typed, category: KINDS[kind].category, text, leaf, leafSalt, sealed: record });
  }
  return made;
}

/** What a browser seals and derives. */
export async function sealed({ derived }) {
  const root = await rootOf(derived);
  const log = account(derived.account);
  const key = unbase64(derived.grantee.key);
  const grantee = account(derived.grantee.account);
  const sealer = await GrantSealer.to(grantee, key);
  const directory = await Directory.derive(root, log, derived.directory.categories, derived.directory.firstMonth);
  return {
    grant: base64(await sealer.seal(root, log, 9, 2, 600, 650)),
    directory: base64(directory.encode()),
    entries: await entries({ derived }),
    message: base64(await sealMessage(key, utf8("stele/claim/v1"), grantee, utf8("a root key"))),
  };
}

if (process.argv.includes("--write")) {
  const all = vectors();
  writeFileSync(FILE, `${JSON.stringify({ ...all, browser: await sealed(all) }, null, 2)}\n`);
}
