// `node contracts/abi.mjs` (in e2e/) writes ../contracts/abi: what solc makes of the interfaces.

import { writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

import { interfaces } from "../ethereum/contracts.mjs";

const folder = new URL("../../contracts/abi/", import.meta.url);

/** Files of ../contracts/abi by name, with the text they should have. */
export function abiFiles() {
  return Object.entries(interfaces()).map(([name, { abi }]) => [
    new URL(`${name}.json`, folder),
    `[\n${abi.map((item) => `  ${JSON.stringify(item)}`).join(",\n")}\n]\n`,
  ]);
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  for (const [file, text] of abiFiles()) writeFileSync(file, text);
}
