// Foundry's forge, unmodified, on a node: test, test on a fork, create, script. `cast` is in ethereum/. Rows: FR-X1.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { Contract, JsonRpcProvider, Wallet } from "ethers";

import { node } from "../ethereum/node.mjs";
import { project } from "../solidity.mjs";

const DEADLINE = { timeout: 300_000 };
const FORGE = fileURLToPath(new URL("../node_modules/@foundry-rs/forge-linux-amd64/bin/forge", import.meta.url));
const SOLC = fileURLToPath(new URL("solc.mjs", import.meta.url));
const developer = Wallet.createRandom();

let url, folder;

/** Runs forge in the project; gives what it printed. */
async function forge(...args) {
  const environment = { ...process.env, ETH_RPC_URL: undefined, FOUNDRY_DISABLE_NIGHTLY_WARNING: "1", NO_COLOR: "1", FOUNDRY_SOLC: SOLC };
  try {
    return (await promisify(execFile)(FORGE, args, { cwd: folder, env: environment, maxBuffer: 16 << 20 })).stdout;
  } catch (error) {
    throw new Error(`forge ${args.join(" ")}: ${error.message}\n${error.stdout}`);
  }
}

before(async () => {
  url = await node();
  folder = project(new URL("project/", import.meta.url), "src");
}, DEADLINE);

test("forge builds and tests without a node", DEADLINE, async () => {
  const said = await forge("test", "--no-match-contract", "ForkTest");
  assert.match(said, /2 tests passed, 0 failed/);
});

test("forge tests on a fork of the node", DEADLINE, async () => {
  const said = await forge("test", "--match-contract", "ForkTest", "--fork-url", url.http);
  assert.match(said, /1 tests passed, 0 failed/);
});

test("forge create deploys the papers' contract", DEADLINE, async () => {
  const said = await forge(
    "create", "src/HealthRecords.sol:HealthRecords", "--rpc-url", url.http, "--private-key", developer.privateKey,
    "--broadcast", "--json",
  );
  const created = JSON.parse(said.slice(said.indexOf("{")));
  assert.equal(created.deployer.toLowerCase(), developer.address.toLowerCase());
  const provider = new JsonRpcProvider(url.http);
  assert.ok((await provider.getCode(created.deployedTo)).length > 100);
  provider.destroy();
});

test("forge script deploys and calls", DEADLINE, async () => {
  await forge(
    "script", "script/Deploy.s.sol:Deploy", "--rpc-url", url.http, "--private-key", developer.privateKey, "--broadcast",
    "--slow",
  );
  const [chain] = readdirSync(join(folder, "broadcast/Deploy.s.sol"));
  const run = JSON.parse(readFileSync(join(folder, "broadcast/Deploy.s.sol", chain, "run-latest.json"), "utf8"));
  assert.deepEqual(run.receipts.map((receipt) => receipt.status), ["0x1", "0x1"]);
  const provider = new JsonRpcProvider(url.http);
  const register = new Contract(run.transactions[0].contractAddress, ["function said(address) view returns (bytes32)"], provider);
  assert.equal(BigInt(await register.said(developer.address)), 42n);
  provider.destroy();
});
