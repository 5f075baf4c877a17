// A node with an HL7 v2 listener, and a reader with the operator's token.

import { start } from "../start.mjs";

const SETTLED_DEADLINE_MS = 60_000;

/** Starts the node: its ready line, and `get` for addresses with the operator's token. */
export async function node() {
  const { ready, stele } = await start();
  const token = await stele("token", "--scope", "admin system/*.rs");
  const get = async (address) => {
    const response = await fetch(`${ready.http}${address}`, { headers: { authorization: `Bearer ${token}` } });
    if (!response.ok) throw new Error(`${address}: ${response.status} ${await response.text()}`);
    return response.text();
  };
  return { ready, get };
}

/** Waits until no message waits any more; gives those that are parked. */
export async function settled(get) {
  const deadline = Date.now() + SETTLED_DEADLINE_MS;
  while (Date.now() < deadline) {
    const messages = JSON.parse(await get("/admin/messages"));
    if (messages.every((message) => message.state === "parked")) return messages;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error("messages are still waiting");
}
