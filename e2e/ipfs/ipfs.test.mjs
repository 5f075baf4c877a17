// Stock IPFS software against the node's trustless gateway: Helia and verified-fetch fetch ciphertext by CID and check
// every block; the importer that js-ipfs files are added with gives the same CID for the same bytes.
// Rows: FR-L2 (CID recomputed by stock IPFS).
//
// package.json holds undici at version 7: libp2p's HTTP, which nothing here uses, brings one that Node 20 can't load.

import "./node20.mjs";

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { before, test } from "node:test";

import { fallbackRouter } from "@helia/fallback-router";
import { trustlessGatewayBlockBroker } from "@helia/trustless-gateway-client";
import { unixfs } from "@helia/unixfs";
import { createVerifiedFetch } from "@helia/verified-fetch";
import { MemoryBlockstore } from "blockstore-core";
import { createHeliaLight } from "helia";
import { importBytes } from "ipfs-unixfs-importer";
import { fixedSize } from "ipfs-unixfs-importer/chunker";
import { balanced } from "ipfs-unixfs-importer/layout";
import { CID } from "multiformats/cid";

import { chart, node, token } from "../fhir/node.mjs";

const DEADLINE = { timeout: 120_000 };

let http, cids, large;

before(async () => {
  const { base, http: url, key } = await node();
  http = url;
  const { access_token: bearer } = await token(`${http}/auth/token`, key);
  const ask = (method, path, body, headers = {}) =>
    fetch(`${base}${path}`, { method, body, headers: { authorization: `Bearer ${bearer}`, "content-type": "application/fhir+json", ...headers } });
  await ask("POST", "", JSON.stringify(chart("ipfs", 1)));
  // An image of 3 MB: some blocks and a root above them.
  large = randomBytes(3_000_000);
  const made = await ask("POST", "/Binary", large, { "content-type": "image/png", "x-security-context": "Patient/ipfs" });
  assert.equal(made.status, 201, await made.clone().text());
  const [, binary] = made.headers.get("location").match(/(Binary\/[^/]+)/);
  const cidOf = async (target) => {
    const provenance = await (await ask("GET", `/Provenance?target=${target}`)).json();
    const source = provenance.entry[0].resource.entity.find(({ role }) => role === "source");
    return CID.parse(source.what.identifier.value.replace("ipfs://", ""));
  };
  cids = [await cidOf("Observation/ipfs-0"), await cidOf(binary)];
}, DEADLINE);

/** A Helia whose only provider is the node. */
async function helia() {
  const gateways = fallbackRouter({ gateways: [http] });
  // The consortium's members are known, so the router is a plain one and not a last resort.
  const router = {
    name: "members",
    capabilities: () => ["find-providers", "findProviders", "content"],
    async *findProviders(cid, options) {
      for await (const provider of gateways.findProviders(cid, options)) yield { ...provider, fallback: false };
    },
  };
  const broker = trustlessGatewayBlockBroker({ allowLocal: true, allowInsecure: true });
  return createHeliaLight({ blockBrokers: [broker], routers: [router] }).start();
}

async function ciphertext(cid) {
  const node = await helia();
  try {
    const parts = [];
    for await (const part of unixfs(node).cat(cid, { signal: AbortSignal.timeout(30_000) })) parts.push(part);
    return Buffer.concat(parts);
  } finally {
    await node.stop();
  }
}

/** The profile that the vault imports with: CIDv1, raw leaves, chunks of 256 KiB, 174 links. */
async function recomputed(bytes) {
  const { cid } = await importBytes(bytes, new MemoryBlockstore(), {
    cidVersion: 1,
    rawLeaves: true,
    reduceSingleLeafToSelf: true,
    chunker: fixedSize({ chunkSize: 262_144 }),
    layout: balanced({ maxChildrenPerNode: 174 }),
  });
  return cid;
}

test("Helia fetches and verifies, and the importer gives the same CID", DEADLINE, async () => {
  for (const cid of cids) {
    const bytes = await ciphertext(cid);
    assert.ok(!bytes.includes("Testfamily") && !bytes.includes("4548-4"), "it is ciphertext");
    assert.equal(String(await recomputed(bytes)), String(cid));
  }
  const bytes = await ciphertext(cids[1]);
  assert.ok(bytes.length > large.length);
  assert.equal(bytes.indexOf(large.subarray(1_000_000, 1_000_032)), -1, "the image is not in it");
});

test("verified-fetch gives what Helia gives", DEADLINE, async () => {
  const digest = (bytes) => createHash("sha256").update(Buffer.from(bytes)).digest("hex");
  for (const cid of cids) {
    const node = await helia();
    try {
      const verifiedFetch = await createVerifiedFetch(node);
      const response = await verifiedFetch(`ipfs://${cid}`, { signal: AbortSignal.timeout(30_000) });
      assert.equal(response.status, 200);
      assert.equal(digest(await response.arrayBuffer()), digest(await ciphertext(cid)));
    } finally {
      await node.stop();
    }
  }
});

test("what is not there is not made up", DEADLINE, async () => {
  const other = await recomputed(randomBytes(100));
  await assert.rejects(ciphertext(other));
});
