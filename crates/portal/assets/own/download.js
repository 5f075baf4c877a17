// Everything in one file: a FHIR Bundle with each entry byte for byte as it was recorded, and a Binary with the proofs of
// all of them. Put together here, since only this browser has the content.

import { base64, hex, unbase64, utf8 } from "./bytes.js";

const SPACE = /^[ \t\r\n]*/;
const SPACE_AFTER = /[ \t\r\n]*$/;

/** Whether an entry can stand in a Bundle's text: a file's own bytes are no JSON. */
const fits = (entry) => entry.state === "Verified" && !entry.isFile;

/** The Bundle's text, from opened entries. */
export const bundle = (entries, organization) => {
  const logs = [];
  const records = [];
  const resources = [];
  for (const entry of entries.filter(fits)) {
    if (!logs.includes(entry.log)) logs.push(entry.log);
    const [before] = entry.text.match(SPACE);
    const [after] = entry.text.match(SPACE_AFTER);
    resources.push(entry.text.slice(before.length, entry.text.length - after.length));
    records.push({
      resourceType: entry.resourceType,
      id: entry.id,
      log: logs.indexOf(entry.log),
      index: entry.index,
      path: entry.path,
      leaf: entry.leaf,
      leafSalt: entry.leafSalt,
      elementSalt: `0x${hex(unbase64(entry.sealed.elementSalt))}`,
      ...(before || after ? { around: [before, after] } : {}),
    });
  }
  const proofs = JSON.stringify({ format: "stele-record/1", organization, logs, records });
  const binary = JSON.stringify({
    resourceType: "Binary", id: "stele-proofs", contentType: "application/vnd.stele.proofs+json", data: base64(utf8(proofs)),
  });
  const lines = [...resources, binary].map((text) => `{"resource":${text}}`);
  const head = `{"resourceType":"Bundle","type":"collection","timestamp":${JSON.stringify(new Date().toISOString())},"entry":[`;
  return `${head}\n${lines.join(",\n")}\n]}\n`;
};
