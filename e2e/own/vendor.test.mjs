// The vendored modules are what npm publishes, at the versions of the lock file.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { VENDOR, files, versions } from "./vendor.mjs";

test("every vendored file is the package's, but for the names of packages", () => {
  const expected = files();
  const there = readdirSync(VENDOR, { recursive: true, withFileTypes: true })
    .filter((one) => one.isFile())
    .map((one) => join(one.parentPath, one.name).slice(VENDOR.length + 1))
    .filter((name) => name.includes("/"));
  assert.deepEqual(there.toSorted(), [...expected.keys()].toSorted());
  for (const [name, text] of expected) {
    assert.equal(readFileSync(join(VENDOR, name), "utf8"), text, name);
    assert.doesNotMatch(text, /\beval\(|new Function/, name);
  }
});

test("the list of packages says which they are", () => {
  const readme = readFileSync(join(VENDOR, "README.md"), "utf8");
  for (const [name, version] of versions()) assert.ok(readme.includes(`| \`${name}\` | ${version} |`), name);
});
