// Hardhat 2, unmodified, on a node: compile, test, deploy, console. Rows: FR-X1.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { JsonRpcProvider } from "ethers";

import { ask, node } from "../ethereum/node.mjs";
import { project } from "../solidity.mjs";

const DEADLINE = { timeout: 300_000 };
const HARDHAT = fileURLToPath(new URL("../node_modules/hardhat/internal/cli/bootstrap.js", import.meta.url));

let url, folder;

/** Starts Hardhat in the project. */
function start(args) {
  const environment = {
    ...process.env, STELE_RPC: url.http, HARDHAT_DISABLE_TELEMETRY_PROMPT: "true", CI: "true", NO_COLOR: "1",
  };
  return spawn(process.execPath, [HARDHAT, ...args], { cwd: folder, env: environment });
}

/** Runs Hardhat in the project; gives what it printed. A last argument of the console is its input. */
async function hardhat(...args) {
  const input = args[0] === "console" ? args.pop() : "";
  const running = start(args);
  running.stdin.end(input);
  const [said, complained] = await Promise.all([text(running.stdout), text(running.stderr)]);
  if (running.exitCode === null) await once(running, "exit");
  assert.equal(running.exitCode, 0, `hardhat ${args.join(" ")}:\n${said}\n${complained}`);
  return said;
}

before(async () => {
  url = await node();
  folder = project(new URL("project/", import.meta.url), "contracts");
}, DEADLINE);

test("Hardhat compiles with the solc of npm", DEADLINE, async () => {
  assert.match(await hardhat("compile"), /Compiled \d+ Solidity files? successfully/);
});

test("Hardhat's tests pass on the node", DEADLINE, async () => {
  const said = await hardhat("test");
  assert.match(said, /3 passing/);
  assert.doesNotMatch(said, /failing/);
});

test("a deployment script deploys", DEADLINE, async () => {
  const said = await hardhat("run", "scripts/deploy.cjs");
  const { deployed } = JSON.parse(said.trim().split("\n").at(-1));
  const provider = new JsonRpcProvider(url.http);
  assert.ok((await provider.getCode(deployed)).length > 100);
  provider.destroy();
});

test("the console asks the node", DEADLINE, async () => {
  const { result } = await ask(url.http, "eth_chainId");
  // Without a terminal the console runs what it is given to the end, as node does.
  const said = await hardhat("console", "--no-compile", "network.provider.send('eth_chainId').then((id) => console.log('chain', parseInt(id)))");
  assert.match(said, new RegExp(`chain ${Number(result)}\\b`));
});
