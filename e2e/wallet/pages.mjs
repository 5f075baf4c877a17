// Web pages of the tests, at origins of their own, and a Chromium that opens them.

import { execFileSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

import { chromium } from "playwright-core";

const KINDS = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".json": "application/json", ".css": "text/css" };

/** Serves what npm installed, the contracts' package among it, as any web server would; gives its origin. */
export async function serveModules() {
  const root = fileURLToPath(new URL("../node_modules/", import.meta.url));
  return serve(async (path) => {
    const file = normalize(join(root, path));
    return file.startsWith(root) ? [KINDS[extname(file)] ?? "application/octet-stream", await readFile(file)] : undefined;
  });
}

/** Serves one empty page; gives its origin. */
export const servePage = () => serve(async () => ["text/html", "<!doctype html><title>A page</title>"]);

async function serve(find) {
  const server = createServer(async (request, response) => {
    const path = decodeURIComponent(new URL(request.url, "http://localhost").pathname);
    const found = await find(path).catch(() => undefined);
    if (!found) return response.writeHead(404).end();
    response.writeHead(200, { "content-type": found[0] }).end(found[1]);
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  server.unref();
  return `http://localhost:${server.address().port}`;
}

export async function browser() {
  const executablePath = process.env.STELE_CHROMIUM ?? execFileSync("which", ["chromium"]).toString().trim();
  return chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
}

/** Has a page of this address come from here instead of the network, under its own origin. Nothing else is touched:
 * what the page asks of a node goes over the network, preflights included. */
export async function standIn(page, address) {
  const devtools = await page.context().newCDPSession(page);
  await devtools.send("Fetch.enable", { patterns: [{ urlPattern: `${address}*` }] });
  devtools.on("Fetch.requestPaused", ({ requestId }) =>
    devtools.send("Fetch.fulfillRequest", {
      requestId,
      responseCode: 200,
      responseHeaders: [{ name: "content-type", value: "text/html" }],
      body: Buffer.from("<!doctype html><title>A stand-in</title>").toString("base64"),
    }),
  );
}
