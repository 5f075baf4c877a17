// Solidity sources compiled by the official compiler.

import { readFileSync, readdirSync } from "node:fs";

import solc from "solc";

const root = new URL("../../", import.meta.url);

/** `HealthRecords` of the papers' systems, unchanged. */
export function healthRecords() {
  const source = readFileSync(new URL("../shared/data/contracts/HealthRecords.sol", root), "utf8");
  return compile({ "HealthRecords.sol": source }).HealthRecords;
}

/** ABIs of the system contracts by interface name, from the published sources, and their addresses. */
export function systemContracts() {
  const folder = new URL("contracts/interfaces/", root);
  const names = readdirSync(folder).filter((name) => name.endsWith(".sol"));
  const sources = Object.fromEntries(names.map((name) => [name, readFileSync(new URL(name, folder), "utf8")]));
  const compiled = compile(sources);
  const at = (number) => `0x5e1e${number.toString(16).padStart(36, "0")}`;
  const addresses = { IIdentity: at(1), IRecords: at(2), IConsent: at(3), IAudit: at(4), IGovernance: at(7) };
  return Object.fromEntries(
    Object.entries(addresses).map(([name, address]) => {
      if (!sources[`${name}.sol`].includes(address)) throw new Error(`${name}.sol does not name ${address}`);
      return [name, { address, abi: compiled[name].abi }];
    }),
  );
}

/** Compiles source text; contracts by name with `abi` and `bytecode`. */
export function compile(sources) {
  const input = {
    language: "Solidity",
    sources: Object.fromEntries(Object.entries(sources).map(([name, content]) => [name, { content }])),
    settings: {
      optimizer: { enabled: true, runs: 200 },
      outputSelection: { "*": { "*": ["abi", "evm.bytecode.object"] } },
    },
  };
  const output = JSON.parse(solc.compile(JSON.stringify(input)));
  const errors = (output.errors ?? []).filter((error) => error.severity === "error");
  if (errors.length > 0) throw new Error(errors.map((error) => error.formattedMessage).join("\n"));
  const contracts = {};
  for (const file of Object.values(output.contracts)) {
    for (const [name, { abi, evm }] of Object.entries(file)) {
      contracts[name] = { abi, bytecode: `0x${evm.bytecode.object}` };
    }
  }
  return contracts;
}
