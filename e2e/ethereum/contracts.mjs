// Solidity sources compiled by the official compiler.

import { readFileSync, readdirSync } from "node:fs";

import solc from "solc";

import { addresses } from "../../contracts/addresses.mjs";

const root = new URL("../../", import.meta.url);

/** `HealthRecords` of the papers' systems, unchanged. */
export function healthRecords() {
  const source = readFileSync(new URL("../shared/data/contracts/HealthRecords.sol", root), "utf8");
  return compile({ "HealthRecords.sol": source }).HealthRecords;
}

/** A contract of ours that refuses with an error of its own. */
export function refusing() {
  return compile({
    "Refusing.sol": `// SPDX-License-Identifier: MIT
      pragma solidity ^0.8.20;
      contract Refusing {
        error TooSoon(address who, uint256 wait);
        function ask(uint256 wait) external view { if (wait > 0) revert TooSoon(msg.sender, wait); }
      }`,
  }).Refusing;
}

/** The published Solidity interfaces by name, compiled. */
export function interfaces() {
  return compile(sources("contracts/interfaces/"));
}

/** Texts of the published interfaces by their path in the repository. */
export function interfaceSources() {
  return sources("contracts/interfaces/");
}

/** The published examples by name, compiled. */
export function examples() {
  return compile({ ...sources("contracts/interfaces/"), ...sources("contracts/examples/") });
}

/** ABIs of the system contracts by interface name, from the published sources, and their addresses. */
export function systemContracts() {
  const compiled = interfaces();
  const text = sources("contracts/interfaces/");
  return Object.fromEntries(
    Object.entries(addresses).map(([name, address]) => {
      if (!text[`contracts/interfaces/${name}.sol`].includes(address)) throw new Error(`${name}.sol does not name ${address}`);
      return [name, { address, abi: compiled[name].abi }];
    }),
  );
}

/** Solidity files of a folder by their path in the repository. */
function sources(folder) {
  const names = readdirSync(new URL(folder, root)).filter((name) => name.endsWith(".sol"));
  return Object.fromEntries(names.map((name) => [folder + name, readFileSync(new URL(folder + name, root), "utf8")]));
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
