// ABIs and addresses of Stele's system contracts. The ABIs in abi/ are what solc makes of interfaces/.

import { readFileSync } from "node:fs";

import { addresses } from "./addresses.mjs";

export { addresses };
export { network } from "./network.mjs";
export { domain, prescriptionsDomain, types } from "./typed-data.mjs";

/** ABIs by interface name, as solc writes them. `ISystem` has the errors that every system contract may answer with. */
export const abis = Object.freeze(
  Object.fromEntries(
    [...Object.keys(addresses), "ISystem"].map((name) => [
      name,
      JSON.parse(readFileSync(new URL(`abi/${name}.json`, import.meta.url), "utf8")),
    ]),
  ),
);
