// A central store as a hospital group would build it: Node's HTTP server before PostgreSQL. It has the duties that can be
// had without a ledger: callers show a token, every row is encrypted (AES-256-GCM), permission is asked for, and each
// record that is handed out leaves a row of trace that is durable before anything is answered.
//
//   PGPORT=… node central.mjs     prints {"port": …, "token": …} once it answers
//
//   POST /patients/{number}/records       a Bundle: its resources are stored in one transaction
//   POST /patients/{number}/permissions   {"grantee": …, "days": …}
//   GET  /patients/{number}/everything    the grantee's: a Bundle of all records

import { createCipheriv, createDecipheriv, randomBytes, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";
import pg from "pg";

const pool = new pg.Pool({ host: "127.0.0.1", port: Number(process.env.PGPORT), user: "bench", database: "postgres" });
const key = randomBytes(32);
const token = randomBytes(32).toString("hex");
const GRANTEE = "other";

await pool.query(`
  CREATE TABLE record (patient int, type text, number int, sealed bytea, PRIMARY KEY (patient, number));
  CREATE TABLE permitted (patient int, grantee text, until timestamptz, PRIMARY KEY (patient, grantee));
  CREATE TABLE access (at timestamptz DEFAULT now(), who text, patient int, number int);
`);

function seal(text) {
  const nonce = randomBytes(12);
  const cipher = createCipheriv("aes-256-gcm", key, nonce);
  return Buffer.concat([nonce, cipher.update(text, "utf8"), cipher.final(), cipher.getAuthTag()]);
}

function open(sealed) {
  const cipher = createDecipheriv("aes-256-gcm", key, sealed.subarray(0, 12));
  cipher.setAuthTag(sealed.subarray(-16));
  return cipher.update(sealed.subarray(12, -16), undefined, "utf8") + cipher.final("utf8");
}

async function inTransaction(work) {
  const client = await pool.connect();
  try {
    await client.query("BEGIN");
    const done = await work(client);
    await client.query("COMMIT");
    return done;
  } catch (error) {
    await client.query("ROLLBACK");
    throw error;
  } finally {
    client.release();
  }
}

async function store(patient, bundle) {
  const resources = bundle.entry.map((entry) => entry.resource);
  await inTransaction((client) =>
    client.query("INSERT INTO record SELECT $1, * FROM unnest($2::text[], $3::int[], $4::bytea[])", [
      patient,
      resources.map((one) => one.resourceType),
      resources.map((_, number) => number),
      resources.map((one) => seal(JSON.stringify(one))),
    ]),
  );
  return { stored: resources.length };
}

async function permit(patient, { grantee, days }) {
  await pool.query("INSERT INTO permitted VALUES ($1, $2, now() + make_interval(days => $3))", [patient, grantee, days]);
  return { grantee };
}

async function everything(patient) {
  const rows = await inTransaction(async (client) => {
    const { rows } = await client.query(
      "SELECT number, sealed FROM record JOIN permitted USING (patient) WHERE patient = $1 AND grantee = $2 AND until > now()",
      [patient, GRANTEE],
    );
    await client.query("INSERT INTO access (who, patient, number) SELECT $1, $2, * FROM unnest($3::int[])", [
      GRANTEE,
      patient,
      rows.map((row) => row.number),
    ]);
    return rows;
  });
  if (rows.length === 0) return undefined;
  const entries = rows.map((row) => `{"resource":${open(row.sealed)}}`);
  return `{"resourceType":"Bundle","type":"searchset","entry":[${entries.join(",")}]}`;
}

function isPermitted(header) {
  const given = Buffer.from(String(header ?? ""));
  const wanted = Buffer.from(`Bearer ${token}`);
  return given.length === wanted.length && timingSafeEqual(given, wanted);
}

const server = createServer(async (request, response) => {
  const answer = (status, body) => {
    response.writeHead(status, { "content-type": "application/json" });
    response.end(body);
  };
  try {
    if (!isPermitted(request.headers.authorization)) return answer(401, "{}");
    const parts = [];
    for await (const part of request) parts.push(part);
    const body = parts.length > 0 ? JSON.parse(Buffer.concat(parts).toString("utf8")) : undefined;
    const [, , patient, what] = new URL(request.url, "http://localhost").pathname.split("/");
    switch (`${request.method} ${what}`) {
      case "POST records":
        return answer(201, JSON.stringify(await store(Number(patient), body)));
      case "POST permissions":
        return answer(201, JSON.stringify(await permit(Number(patient), body)));
      case "GET everything": {
        const found = await everything(Number(patient));
        return answer(found ? 200 : 404, found ?? "{}");
      }
      default:
        return answer(404, "{}");
    }
  } catch (error) {
    answer(500, JSON.stringify({ error: String(error) }));
  }
});
server.keepAliveTimeout = 60_000;
server.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ port: server.address().port, token })));
