// Project folders as tools want them: the sample project with the papers' contract and our own put into it, inside
// node_modules so that whatever the project imports is found.

import { copyFileSync, cpSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = new URL("../", import.meta.url);

/** Copies the sample project `from` (a URL) with the contracts under `sources`; gives its path. */
export function project(from, sources) {
  const cache = fileURLToPath(new URL("e2e/node_modules/.cache/", root));
  mkdirSync(cache, { recursive: true });
  const folder = mkdtempSync(join(cache, "project-"));
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
  cpSync(fileURLToPath(from), folder, { recursive: true });
  const target = join(folder, sources);
  mkdirSync(target, { recursive: true });
  copyFileSync(fileURLToPath(new URL("../shared/data/contracts/HealthRecords.sol", root)), join(target, "HealthRecords.sol"));
  cpSync(fileURLToPath(new URL("contracts/interfaces/", root)), join(target, "interfaces"), { recursive: true });
  cpSync(fileURLToPath(new URL("contracts/examples/", root)), join(target, "examples"), { recursive: true });
  return folder;
}
