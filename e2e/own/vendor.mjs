// The cryptographic modules that the portal hands to browsers, as npm publishes them. `node own/vendor.mjs --write` in
// e2e/ writes them anew from node_modules; own/vendor.test.mjs holds what is committed against the packages.
//
// Only what the entries reach is taken. One thing is changed: where a package is named by its bare name, which browsers do
// not know, each name that is imported comes from the package's file that defines it, by a relative address. So a page loads what it
// uses, not all that a package offers.

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
const ENTRIES = ["hpke-core/esm/src/cipherSuiteNative.js", "hpke-core/esm/src/aeads/aesGcm.js", "hpke-x-wing/esm/src/xWing.js"];
const SPECIFIER = /^((?:import|export) (?:\{[^}]*\}|\*(?: as \w+)?|\w+) from\s*|import\s*)(["'])([^"']+)\2;?/gm;

const packaged = (place) => {
  const name = Object.keys(PLACES).find((one) => place.startsWith(`${PLACES[one]}/`));
  return join(PACKAGES, name, place.slice(PLACES[name].length + 1));
};

/** Where a package's module, or what it exports from another, defines each name: the place among the assets. */
const definitions = (place) => {
  const found = new Map();
  const text = readFileSync(packaged(place), "utf8");
  for (const [, names, from] of text.matchAll(/^export (\*|\{[^}]*\}) from "(\.[^"]+)";/gm)) {
    const at = join(dirname(place), from);
    const all = names === "*" ? [...definitions(at).keys()] : names.slice(1, -1).split(",").map((name) => name.trim()).filter(Boolean);
    for (const name of all) found.set(name, at);
  }
  for (const [, name] of text.matchAll(/^export (?:const|class|function|var) (\w+)/gm)) found.set(name, place);
  return found;
};

/** Imports of names from a package, each file of it once. */
const spread = (names, module, address) => {
  const defined = definitions(module);
  const files = new Map();
  for (const name of names) {
    const at = defined.get(name);
    if (!at) throw new Error(`${module} does not export ${name}`);
    files.set(at, [...(files.get(at) ?? []), name]);
  }
  return [...files].map(([at, some]) => `import { ${some.join(", ")} } from "${address(at)}";`).join(" ");
};

/** Every file that is handed out, by its place, as text; with the licence of each package. */
export function files() {
  const found = new Map();
  const waiting = [...ENTRIES];
  while (waiting.length > 0) {
    const place = waiting.pop();
    if (found.has(place)) continue;
    const address = (at) => {
      waiting.push(at);
      const from = relative(dirname(place), at);
      return from.startsWith(".") ? from : `./${from}`;
    };
    const text = readFileSync(packaged(place), "utf8").replace(SPECIFIER, (whole, before, quote, named) => {
      if (named.startsWith(".")) {
        address(join(dirname(place), named));
        return whole;
      }
      const names = before.match(/^import \{([^}]*)\} from\s*$/)?.[1];
      if (!names) throw new Error(`${place} takes ${named} in a way that is not known here`);
      return spread(names.split(",").map((name) => name.trim()).filter(Boolean), `${PLACES[named]}/esm/mod.js`, address);
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
