// Hyperledger Caliper 0.6 with its Ethereum connector, both unmodified, over WebSocket. Contracts are there before it starts:
// the system contracts have no bytecode that its connector could install.
//
//   node rounds.mjs URL solidity|native TRANSACTIONS RATE REPORT.html     prints the rounds as JSON

import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, copyFileSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

import { HDNodeWallet, id, toUtf8Bytes } from "ethers";

import { healthRecords, systemContracts } from "../ethereum/contracts.mjs";
import { deployAs, registerPatients } from "../ethereum/setup.mjs";

const tool = fileURLToPath(new URL("tool/", import.meta.url));
const WORKERS = 2;
/** Leaves of one anchored batch. */
export const LEAVES = 8;
const GAS = { createRecord: 300_000, transferRecord: 100_000, anchor: 1_000_000, grant: 300_000, revoke: 200_000 };

/** Rounds of each set, in order: what the report calls them, their kind, and how many requests for each transaction wanted. */
const ROUNDS = {
  solidity: [
    ["create record (HealthRecords.sol)", "solidity create", 1],
    ["hand over (HealthRecords.sol)", "solidity transfer", 1],
    ["query (HealthRecords.sol)", "solidity query", 2],
  ],
  native: [
    [`create ${LEAVES} records (Records)`, "native create", 1],
    ["grant (Consent)", "native grant", 1],
    ["query (Consent)", "native query", 2],
    ["revoke (Consent)", "native revoke", 1],
  ],
};

/** Names of a set's rounds with the number of requests, for so many transactions. */
export function roundsOf(set, transactions) {
  return ROUNDS[set].map(([label, , times]) => [label, transactions * times]);
}

/** Makes a node ready for a set of rounds; gives what `measure` wants. */
export async function prepare(http, set) {
  const seed = id(`stele/caliper/${set}`).slice(2);
  // As the connector derives them: it takes the seed's characters as they are.
  const root = HDNodeWallet.fromSeed(toUtf8Bytes(seed));
  const workers = Array.from({ length: WORKERS }, (_, index) => root.derivePath(`m/44'/60'/${index}'/0/0`).address);
  const contracts = {};
  if (set === "native") {
    await registerPatients(http, workers);
    const { IConsent, IRecords } = systemContracts();
    for (const [name, { address, abi }] of Object.entries({ IConsent, IRecords })) contracts[name] = { path: "none", address, abi, gas: GAS };
  }
  const { abi } = healthRecords();
  const { address, chainId } = await deployAs(http, healthRecords());
  if (set === "solidity") contracts.HealthRecords = { path: "none", address, abi, gas: GAS };
  const ethereum = { url: http.replace(/^http/, "ws"), fromAddressSeed: seed, transactionConfirmationBlocks: 1, gasPrice: "0x0", chainId, contracts };
  return { set, workers, address, network: { caliper: { blockchain: "ethereum", command: {} }, ethereum } };
}

/** Runs the rounds at a rate (a second); copies Caliper's HTML report to `report`. Throws when an answer is wrong. */
export async function measure({ set, network }, { transactions, rate, report }) {
  // Inside node_modules, so that the workload finds Caliper as it finds everything else.
  const workspace = mkdtempSync(join(tool, "node_modules", ".run-"));
  try {
    copyFileSync(join(tool, "workload.cjs"), join(workspace, "workload.cjs"));
    writeFileSync(join(workspace, "network.json"), JSON.stringify(network));
    // YAML, of which JSON is a part.
    writeFileSync(join(workspace, "bench.yaml"), JSON.stringify(benchmark(set, transactions, rate)));
    const stdout = await caliper(
      workspace, "launch", "manager", "--caliper-workspace", workspace, "--caliper-benchconfig", "bench.yaml",
      "--caliper-networkconfig", "network.json", "--caliper-flow-only-test", "--caliper-progress-reporting-interval", "1000",
    );
    if (stdout.includes("WRONG ANSWERS")) throw new Error(stdout);
    if (report) copyFileSync(join(workspace, "report.html"), report);
    return { rows: table(stdout, ROUNDS[set].length), html: readFileSync(join(workspace, "report.html"), "utf8") };
  } finally {
    rmSync(workspace, { recursive: true, force: true });
  }
}

/** Runs Caliper; gives what it and its workers printed. */
async function caliper(cwd, ...args) {
  const cli = join(tool, "node_modules/@hyperledger/caliper-cli/caliper.js");
  const log = join(cwd, "caliper.log");
  const output = openSync(log, "w");
  const manager = spawn(process.execPath, [cli, ...args], { cwd, detached: true, stdio: ["ignore", output, output] });
  const end = () => {
    try {
      process.kill(-manager.pid, "SIGKILL");
    } catch {
      // Nobody of the group is left.
    }
  };
  process.once("exit", end);
  const [code] = await once(manager, "exit");
  // The workers outlive their manager, for the connector never closes its WebSocket.
  end();
  process.off("exit", end);
  closeSync(output);
  const said = readFileSync(log, "utf8");
  if (code !== 0) throw new Error(`Caliper ended with ${code}:\n${said}`);
  return said;
}

function benchmark(set, transactions, rate) {
  // Caliper brings an ethers of its own, which is too old.
  const ethers = createRequire(import.meta.url).resolve("ethers");
  const rounds = ROUNDS[set].map(([label, kind, times]) => ({
    label,
    txNumber: transactions * times,
    rateControl: { type: "fixed-rate", opts: { tps: rate * times } },
    workload: { module: "./workload.cjs", arguments: { kind, leaves: LEAVES, ethers, created: transactions / WORKERS } },
  }));
  return { test: { name: set, workers: { number: WORKERS }, rounds } };
}

/** The last table that Caliper prints is that of all rounds. */
function table(stdout, rounds) {
  const rows = stdout.split("\n").map((line) => line.split("|").map((cell) => cell.trim())).filter((cells) => Number(cells[2]) > 0);
  if (rows.length < rounds) throw new Error(`Caliper printed no results:\n${stdout}`);
  return rows.slice(-rounds).map(([, name, ...numbers]) => {
    const [succeeded, failed, sent_per_s, max_s, min_s, mean_s, throughput_per_s] = numbers.map(Number);
    return { name, succeeded, failed, sent_per_s, max_s, min_s, mean_s, throughput_per_s };
  });
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [url, set, transactions, rate, report] = process.argv.slice(2);
  const { rows } = await measure(await prepare(url, set), { transactions: Number(transactions), rate: Number(rate), report });
  console.log(JSON.stringify(rows));
}
