// The node under test. With STELE_RPC the tests use one that runs; otherwise they start the binary that STELE
// names, as `up --open` on a fresh data folder, and stop it at the end.

import { start } from "../start.mjs";

/** URLs of the node's JSON-RPC: `http` and `ws`. */
export async function node() {
  const url = process.env.STELE_RPC ?? (await start("--open")).ready.rpc;
  const http = url.includes("://") ? url : `http://${url}`;
  return { http, ws: http.replace(/^http/, "ws") };
}

/** Key of an organisation of the genesis, for what only organisations may do. */
export function organizationKey() {
  const key = process.env.STELE_ORGANIZATION_KEY;
  if (!key) throw new Error("STELE_ORGANIZATION_KEY must hold the key of an organisation of the node under test");
  return key;
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
