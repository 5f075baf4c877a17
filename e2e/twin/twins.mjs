// What the tests of Solidity twins share: a native contract and its twin on one development chain are sent the same calls
// in one block, and answer, revert, log and view the same. STELE_SEED repeats a run, STELE_TWIN_CALLS makes it longer.

import assert from "node:assert/strict";
import { randomInt } from "node:crypto";
import { readFileSync } from "node:fs";

import { Contract, ContractFactory, Interface, JsonRpcProvider, concat, dataSlice, toBeHex } from "ethers";
import { abis, addresses } from "stele-contracts";

import { compile, interfaceSources } from "../ethereum/contracts.mjs";
import { startDevelopment } from "../start.mjs";

export const CALLS = Number(process.env.STELE_TWIN_CALLS ?? 400);
export const SEED = Number(process.env.STELE_SEED ?? randomInt(2 ** 31));

/** mulberry32: small, seeded, good enough to choose calls. */
export function random(seed) {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

/** The same signature with s in the upper half of the order, which EIP-2 refuses. */
export function upper(signature) {
  const order = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
  const [r, s, v] = [dataSlice(signature, 0, 32), dataSlice(signature, 32, 64), Number(dataSlice(signature, 64))];
  return concat([r, toBeHex(order - BigInt(s), 32), toBeHex(55 - v, 1)]);
}

/** A development chain with the twin of the native contract behind `name`. */
export async function world(name, twinName) {
  const { rpc: url } = await startDevelopment();
  const provider = new JsonRpcProvider(url, undefined, { cacheTimeout: -1, batchMaxCount: 1 });
  const rpc = (method, ...params) => provider.send(method, params);
  const organization = await provider.getSigner(0);
  const source = readFileSync(new URL(`${twinName}.sol`, import.meta.url), "utf8");
  const { abi, bytecode } = compile({ ...interfaceSources(), [`e2e/twin/${twinName}.sol`]: source })[twinName];
  const twin = await (await new ContractFactory(abi, bytecode, organization).deploy()).waitForDeployment();
  const both = [addresses[name], await twin.getAddress()];
  const contract = new Interface(abis[name]);
  // Whoever acts may be without a key here: everybody is spoken for.
  await rpc("anvil_autoImpersonateAccount", true);

  /** What a transaction answered, whether it went well, and its logs without their address. */
  async function outcome(hash) {
    const receipt = await rpc("eth_getTransactionReceipt", hash);
    const traced = await rpc("debug_traceTransaction", hash, { tracer: "callTracer", tracerConfig: { onlyTopCall: true } });
    return { status: receipt.status, output: traced.output ?? "0x", logs: receipt.logs.map(({ topics, data }) => ({ topics, data })) };
  }

  return {
    provider,
    rpc,
    organization,
    accounts: await rpc("eth_accounts"),
    system: (which) => new Contract(addresses[which], abis[which], organization),

    /** Sends the same call to both, in one block; gives what they answered, which is the same. */
    async send(from, method, args, said, gas = 3_000_000) {
      const data = contract.encodeFunctionData(method, args);
      const hashes = [];
      for (const to of both) hashes.push(await rpc("eth_sendTransaction", { from, to, data, gas: toBeHex(gas) }));
      await rpc("evm_mine");
      const [native, solidity] = await Promise.all(hashes.map(outcome));
      assert.deepEqual(native, solidity, `${said}: ${from} ${method}(${args})`);
      return native;
    },

    /** The number that the next signature of an account has to carry. */
    nonce: async (who) => Number(await provider.call({ to: both[0], data: contract.encodeFunctionData("signatureNonce", [who]) })),

    /** Asks both the same. */
    async same(method, args) {
      const data = contract.encodeFunctionData(method, args);
      const [native, solidity] = await Promise.all(both.map((to) => rpc("eth_call", { to, data }, "latest")));
      assert.equal(native, solidity, `${method}(${args})`);
      return contract.decodeFunctionResult(method, native);
    },
  };
}
