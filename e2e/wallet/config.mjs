// A configuration file of a node, for settings that have no flag.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Writes settings of numbers, texts and lists of them as TOML, which JSON's are too; gives the file's path. */
export function config(settings) {
  const folder = mkdtempSync(join(tmpdir(), "stele-config-"));
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, "stele.toml");
  writeFileSync(file, Object.entries(settings).map(([key, value]) => `${key} = ${JSON.stringify(value)}\n`).join(""));
  return file;
}
