// Compiles the Solidity sources named on the command line; prints `{"Contract": "0x…"}`, creation bytecode by name.

import { readFileSync } from "node:fs";
import { basename } from "node:path";

import solc from "solc";

const sources = Object.fromEntries(
  process.argv.slice(2).map((path) => [basename(path), { content: readFileSync(path, "utf8") }]),
);
const settings = {
  optimizer: { enabled: true, runs: 200 },
  outputSelection: { "*": { "*": ["evm.bytecode.object"] } },
};
const output = JSON.parse(solc.compile(JSON.stringify({ language: "Solidity", sources, settings })));
const errors = (output.errors ?? []).filter((error) => error.severity === "error");
if (errors.length > 0) throw new Error(errors.map((error) => error.formattedMessage).join("\n"));
const contracts = Object.values(output.contracts).flatMap(Object.entries);
console.log(JSON.stringify(Object.fromEntries(contracts.map(([name, { evm }]) => [name, `0x${evm.bytecode.object}`]))));
