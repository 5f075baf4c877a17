// The node under test. With STELE_RPC the tests use one that runs; otherwise they start the binary that STELE
// names, as `up --open` on a fresh data folder, and stop it at the end.

import { spawn } from "node:child_process";
import { rmSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const READY_DEADLINE_MS = 60_000;

/** URLs of the node's JSON-RPC: `http` and `ws`. */
export async function node() {
  const url = process.env.STELE_RPC ?? (await start());
  const http = url.includes("://") ? url : `http://${url}`;
  return { http, ws: http.replace(/^http/, "ws") };
}

/** Key of an organisation of the genesis, for what only organisations may do. */
export function organizationKey() {
  const key = process.env.STELE_ORGANIZATION_KEY;
  if (!key) throw new Error("STELE_ORGANIZATION_KEY must hold the key of an organisation of the node under test");
  return key;
}

async function start() {
  const binary = process.env.STELE;
  if (!binary) throw new Error("set STELE_RPC to a node's JSON-RPC URL, or STELE to the binary");
  const data = await mkdtemp(join(tmpdir(), "stele-e2e-"));
  const any = "127.0.0.1:0";
  const child = spawn(
    binary,
    ["up", "--open", "--data", data, "--http", any, "--rpc", any, "--mllp", "off"],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  // Killed with the tests' process, whatever ends that: the folder is gone the moment after, so there is nothing to
  // close down well.
  process.once("exit", () => {
    child.kill("SIGKILL");
    rmSync(data, { recursive: true, force: true, maxRetries: 3 });
  });
  const lines = createInterface({ input: child.stdout });
  const timer = setTimeout(() => child.kill("SIGKILL"), READY_DEADLINE_MS);
  try {
    for await (const line of lines) {
      if (!line.startsWith("{")) continue;
      const said = JSON.parse(line);
      if (!said.ready) continue;
      child.unref();
      // What it says later is nobody's concern, but must not fill the pipe.
      child.stdout.resume().unref();
      return said.rpc;
    }
  } finally {
    clearTimeout(timer);
  }
  throw new Error(`${binary} ended before it was ready`);
}

/** One JSON-RPC call without any library; gives the whole answer. */
export async function ask(url, method, params = []) {
  const response = await fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ jsonrpc: "2.0", id: 1, method, params }),
  });
  return response.json();
}
