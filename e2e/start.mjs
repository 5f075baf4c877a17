// Starts the binary that STELE names on a fresh data folder and free ports, and stops it with the tests' process.

import { execFile, spawn } from "node:child_process";
import { rmSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";

const READY_DEADLINE_MS = 60_000;

/** Starts `stele up` with these flags; gives its ready line, its folder, and `stele`, which runs a command on it. */
export async function start(...flags) {
  const binary = process.env.STELE;
  if (!binary) throw new Error("STELE must name the binary");
  const parent = await mkdtemp(join(tmpdir(), "stele-e2e-"));
  const data = join(parent, "data");
  const any = "127.0.0.1:0";
  const child = spawn(
    binary,
    ["up", ...flags, "--data", data, "--http", any, "--rpc", any, "--mllp", any, "--metrics", any],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  // Killed with the tests' process, whatever ends that: the folder is gone the moment after, so there is nothing to
  // close down well.
  process.once("exit", () => {
    child.kill("SIGKILL");
    rmSync(parent, { recursive: true, force: true, maxRetries: 3 });
  });
  const stele = async (...command) => {
    const environment = { ...process.env, STELE_DATA: data };
    const { stdout } = await promisify(execFile)(binary, command, { env: environment });
    return stdout.trim();
  };
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
      return { ready, stele, data };
    }
  } finally {
    clearTimeout(timer);
  }
  throw new Error(`${binary} ended before it was ready`);
}
