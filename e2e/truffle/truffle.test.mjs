// Truffle 5, unmodified, on a development chain: migrate and test. For compatibility only: it is end of life. Rows: FR-X1.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { ask } from "../ethereum/node.mjs";
import { project } from "../solidity.mjs";
import { startDevelopment } from "../start.mjs";

const DEADLINE = { timeout: 300_000 };
const TRUFFLE = fileURLToPath(new URL("node_modules/truffle/build/cli.bundled.js", import.meta.url));
const SOLC = fileURLToPath(new URL("../node_modules/solc", import.meta.url));

let ready, folder;

/** Runs Truffle in the project; gives what it printed. */
async function truffle(...args) {
  const environment = { ...process.env, STELE_RPC_PORT: new URL(ready.rpc).port, SOLC_MODULE: SOLC, NO_COLOR: "1" };
  try {
    return (await promisify(execFile)(process.execPath, [TRUFFLE, ...args], { cwd: folder, env: environment })).stdout;
  } catch (error) {
    throw new Error(`truffle ${args.join(" ")}: ${error.message}\n${error.stdout}`);
  }
}

before(async () => {
  ready = await startDevelopment();
  folder = project(new URL("project/", import.meta.url), "contracts");
}, DEADLINE);

test("Truffle compiles and migrates", DEADLINE, async () => {
  const said = await truffle("migrate");
  assert.match(said, /Total deployments:\s+2/);
  const built = JSON.parse(readFileSync(join(folder, "build/contracts/HealthRecords.json"), "utf8"));
  const [{ address }] = Object.values(built.networks);
  const { result: code } = await ask(ready.rpc, "eth_getCode", [address, "latest"]);
  assert.ok(code.length > 100);
});

test("Truffle's tests pass", DEADLINE, async () => {
  assert.match(await truffle("test"), /3 passing/);
});
