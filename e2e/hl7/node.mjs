// A node with an HL7 v2 listener: the binary that STELE names on a fresh data folder, stopped with the tests.

import { execFile, spawn } from "node:child_process";
import { rmSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";

const READY_DEADLINE_MS = 60_000;
const SETTLED_DEADLINE_MS = 60_000;

/** Starts the node: its ready line, and `get` for addresses with the operator's token. */
export async function node() {
  const binary = process.env.STELE;
  if (!binary) throw new Error("set STELE to the binary");
  const folder = await mkdtemp(join(tmpdir(), "stele-e2e-"));
  const data = join(folder, "data");
  const any = "127.0.0.1:0";
  const child = spawn(binary, ["up", "--data", data, "--http", any, "--rpc", any, "--mllp", any], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  process.once("exit", () => {
    child.kill("SIGKILL");
    rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
  });
  const ready = await readyLine(child);
  const { stdout } = await promisify(execFile)(binary, ["token", "--data", data, "--scope", "admin system/*.rs"]);
  const get = async (address) => {
    const response = await fetch(`${ready.http}${address}`, { headers: { authorization: `Bearer ${stdout.trim()}` } });
    if (!response.ok) throw new Error(`${address}: ${response.status} ${await response.text()}`);
    return response.text();
  };
  return { ready, get };
}

async function readyLine(child) {
  const timer = setTimeout(() => child.kill("SIGKILL"), READY_DEADLINE_MS);
  try {
    for await (const line of createInterface({ input: child.stdout })) {
      if (!line.startsWith("{")) continue;
      child.unref();
      // What it says later is nobody's concern, but must not fill the pipe.
      child.stdout.resume().unref();
      return JSON.parse(line);
    }
  } finally {
    clearTimeout(timer);
  }
  throw new Error("the node ended before it was ready");
}

/** Waits until no message waits any more; gives those that are parked. */
export async function settled(get) {
  const deadline = Date.now() + SETTLED_DEADLINE_MS;
  while (Date.now() < deadline) {
    const messages = JSON.parse(await get("/admin/messages"));
    if (messages.every((message) => message.state === "parked")) return messages;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error("messages are still waiting");
}
