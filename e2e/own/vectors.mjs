// What the portal's modules seal, for the vault to open: `node own/vectors.mjs --write` in e2e/ writes it into the vectors.

import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { base64, unbase64, unhex, utf8 } from "../../crates/portal/assets/own/bytes.js";
import { sealMessage } from "../../crates/portal/assets/own/hpke.js";
import { Directory, GrantSealer, Root, account } from "../../crates/portal/assets/own/keys.js";

const FILE = fileURLToPath(new URL("vectors.json", import.meta.url));

export const vectors = () => JSON.parse(readFileSync(FILE, "utf8"));

export const rootOf = ({ root, own, fromGeneration }) => Root.of(unhex(root), unhex(own), fromGeneration);

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
    message: base64(await sealMessage(key, utf8("stele/claim/v1"), grantee, utf8("a root key"))),
  };
}

if (process.argv.includes("--write")) {
  const all = vectors();
  writeFileSync(FILE, `${JSON.stringify({ ...all, browser: await sealed(all) }, null, 2)}\n`);
}
