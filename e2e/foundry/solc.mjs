#!/usr/bin/env node
// solc-js as forge wants a compiler: `--version`, and `--standard-json` from standard input. The native compiler is
// not on npm, and forge would download one.

import { readFileSync } from "node:fs";

import solc from "solc";

const asked = process.argv.slice(2);
if (asked.includes("--version")) {
  const version = solc.version().replace(".Emscripten.clang", ".Linux.g++");
  process.stdout.write(`solc, the solidity compiler commandline interface\nVersion: ${version}\n`);
} else if (asked.includes("--standard-json")) {
  process.stdout.write(solc.compile(readFileSync(0, "utf8")));
} else {
  process.stderr.write(`solc.mjs: ${asked.join(" ")} is not understood\n`);
  process.exitCode = 1;
}
