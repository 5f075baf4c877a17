// Runs the test files one after another, those named as arguments or all. A file that fails is run once more on a node and
// a browser of its own, as a machine short of processors lets a page miss a deadline now and then; it is named at the end, so
// that a test that needs luck is seen. STELE_RETRIES=0 takes the second try away.

import { readdirSync } from "node:fs";
import { relative, resolve } from "node:path";
import { finished } from "node:stream/promises";
import { run } from "node:test";
import { spec as Spec } from "node:test/reporters";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const named = process.argv.slice(2);
const tries = 1 + Number(process.env.STELE_RETRIES ?? 1);

/** Every `*.test.mjs` of the folders beside this file. */
function all() {
  const folders = readdirSync(here, { withFileTypes: true }).filter((entry) => entry.isDirectory() && entry.name !== "node_modules");
  const inside = folders.flatMap(({ name }) => readdirSync(`${here}${name}`).map((file) => `${name}/${file}`));
  return inside.filter((file) => file.endsWith(".test.mjs")).sort();
}

/** Runs files and gives those in which something failed. */
async function failures(files) {
  const failed = new Set();
  const stream = run({ files: files.map((file) => resolve(here, file)), concurrency: 1 });
  stream.on("test:fail", ({ file, name }) => failed.add(relative(here, file ?? name)));
  const shown = stream.compose(new Spec());
  shown.pipe(process.stdout, { end: false });
  await finished(shown);
  return [...failed];
}

let files = named.length ? named : all();
if (files.length === 0) throw new Error("there are no tests");
const lucky = [];
for (let left = tries; left > 0 && files.length > 0; left -= 1) {
  const failed = await failures(files);
  if (left < tries) lucky.push(...files.filter((file) => !failed.includes(file)));
  files = failed;
}
for (const file of lucky) console.log(`passed at a second try only: ${file}`);
for (const file of files) console.log(`failed: ${file}`);
process.exitCode = files.length === 0 ? 0 : 1;
