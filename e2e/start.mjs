// Starts the binary that STELE names on a fresh data folder and free ports, and stops it with the tests' process.

import { execFile, spawn } from "node:child_process";
import { rmSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";

const READY_DEADLINE_MS = 60_000;
/** How much of what a node logged is shown where a test failed. */
const LOG_CHARACTERS = 20_000;

/**
 * Starts `stele up` with these flags; gives its ready line, its folder, `stele`, which runs a command on it, `stop`, and
 * `again`, which starts it anew on the same folder and gives the ready line.
 */
export async function start(...flags) {
  const parent = await mkdtemp(join(tmpdir(), "stele-e2e-"));
  process.once("exit", () => rmSync(parent, { recursive: true, force: true, maxRetries: 3 }));
  const data = join(parent, "data");
  const any = "127.0.0.1:0";
  const begin = () => run("up", ...flags, "--data", data, "--http", any, "--rpc", any, "--mllp", any, "--metrics", any);
  let { ready, child } = await begin();
  const stele = async (...command) => {
    const environment = { ...process.env, STELE_DATA: data };
    const { stdout } = await promisify(execFile)(binary(), command, { env: environment });
    return stdout.trim();
  };
  const stop = () => {
    const ended = new Promise((done) => child.once("exit", done));
    child.ref();
    child.kill("SIGTERM");
    return ended;
  };
  const again = async () => {
    ({ ready, child } = await begin());
    return ready;
  };
  return { ready, stele, data, stop, again };
}

/** Starts `stele dev` with these flags; gives its ready line. */
export async function startDevelopment(...flags) {
  const { ready } = await run("dev", "--rpc", "127.0.0.1:0", "--json", ...flags);
  return ready;
}

function binary() {
  if (!process.env.STELE) throw new Error("STELE must name the binary");
  return process.env.STELE;
}

/** Starts the binary and waits for the line that says where it is reached. */
async function run(...args) {
  const child = spawn(binary(), args, { stdio: ["ignore", "pipe", "pipe"] });
  const log = kept(child.stderr);
  // Killed with the tests' process, whatever ends that: there is nothing to close down well.
  process.prependOnceListener("exit", () => child.kill("SIGKILL"));
  const lines = createInterface({ input: child.stdout });
  const timer = setTimeout(() => child.kill("SIGKILL"), READY_DEADLINE_MS);
  try {
    for await (const line of lines) {
      if (!line.startsWith("{")) continue;
      const ready = JSON.parse(line);
      if (!ready.ready) continue;
      child.unref();
      // What it says later is nobody's concern, but must not fill the pipe.
      child.stdout.resume().unref();
      return { ready, child };
    }
  } finally {
    clearTimeout(timer);
  }
  throw new Error(`${binary()} ended before it was ready:\n${log()}`);
}

/** Keeps the end of a node's log, and shows it where a test of this process failed: else nobody wants to read it. */
function kept(stream) {
  let text = "";
  stream.setEncoding("utf8").on("data", (more) => {
    text = (text + more).slice(-LOG_CHARACTERS);
  });
  stream.unref();
  process.once("exit", (code) => {
    if (code || process.exitCode) console.error(text);
  });
  return () => text;
}
