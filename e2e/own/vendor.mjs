// The cryptographic modules that the portal hands to browsers, as npm publishes them. `node own/vendor.mjs --write` in
// e2e/ writes them anew from node_modules; own/vendor.test.mjs holds what is committed against the packages.
//
// Only what `entry` reaches is taken. One thing is changed: a package named by its bare name becomes a relative address,
// since browsers know no packages.

import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const HERE = dirname(fileURLToPath(import.meta.url));
const PACKAGES = join(HERE, "../node_modules");
export const VENDOR = join(HERE, "../../crates/portal/assets/vendor");

/** Package and where it stands among the assets. */
const PLACES = {
  "@hpke/core": "hpke-core",
  "@hpke/common": "hpke-common",
  "@hpke/dhkem-x25519": "hpke-dhkem-x25519",
  "@hpke/hybridkem-x-wing": "hpke-x-wing",
  mlkem: "mlkem",
};
const ENTRIES = ["hpke-core/esm/mod.js", "hpke-x-wing/esm/mod.js"];
const SPECIFIER = /^((?:import|export) [^'"();]*?from\s*|import\s*)(["'])([^"']+)\2/gm;

const packaged = (place) => {
  const name = Object.keys(PLACES).find((one) => place.startsWith(`${PLACES[one]}/`));
  return join(PACKAGES, name, place.slice(PLACES[name].length + 1));
};

/** Every file that is handed out, by its place, as text; with the licence of each package. */
export function files() {
  const found = new Map();
  const waiting = [...ENTRIES];
  while (waiting.length > 0) {
    const place = waiting.pop();
    if (found.has(place)) continue;
    const text = readFileSync(packaged(place), "utf8").replace(SPECIFIER, (_, before, quote, named) => {
      const at = named.startsWith(".") ? join(dirname(place), named) : `${PLACES[named]}/esm/mod.js`;
      waiting.push(at);
      const from = relative(dirname(place), at);
      return `${before}${quote}${from.startsWith(".") ? from : `./${from}`}${quote}`;
    });
    found.set(place, text);
  }
  for (const [name, place] of Object.entries(PLACES)) {
    found.set(`${place}/LICENSE`, readFileSync(join(PACKAGES, name, "LICENSE"), "utf8"));
  }
  return found;
}

/** Name and version of each package. */
export const versions = () =>
  Object.keys(PLACES).map((name) => [name, JSON.parse(readFileSync(join(PACKAGES, name, "package.json"), "utf8")).version]);

if (process.argv.includes("--write")) {
  for (const place of Object.values(PLACES)) rmSync(join(VENDOR, place), { recursive: true, force: true });
  for (const [place, text] of files()) {
    mkdirSync(dirname(join(VENDOR, place)), { recursive: true });
    writeFileSync(join(VENDOR, place), text);
  }
}
