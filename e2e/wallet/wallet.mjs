// A wallet in a real browser, as MetaMask documents itself: a provider (EIP-1193) that announces itself to pages
// (EIP-6963), and behind it a background part with the key, which talks to nodes itself, under its extension's origin.
// It refuses what MetaMask refuses, asks its person before it does anything, and notes what it showed and what it asked.

import { setTimeout as sleep } from "node:timers/promises";

import { Transaction, Wallet, getAddress, toBeHex, toQuantity } from "ethers";
import { parseSiweMessage } from "viem/siwe";

/** Origin of MetaMask's background part in Chromium; its id is the one of the Chrome Web Store. */
export const EXTENSION = "chrome-extension://nkbihfbeogaeaoehlefnkodbefgpgknn";

const RECEIPT_POLLS = 200;
const PERSON_SAYS_NO = { code: 4001, message: "MetaMask Tx Signature: User denied transaction signature." };

class Refusal extends Error {
  constructor(code, message, data) {
    super(message);
    Object.assign(this, { code, data });
  }
}

export class BrowserWallet {
  /** `key` is the wallet's private key; `name` what it announces. */
  constructor({ key = Wallet.createRandom().privateKey, name = "MetaMask", rdns = "io.metamask", origin = EXTENSION } = {}) {
    this.wallet = new Wallet(key);
    Object.assign(this, { name, rdns, origin });
    this.networks = new Map([["0x1", { chainId: "0x1", chainName: "Ethereum Mainnet", rpcUrls: [] }]]);
    this.chainId = "0x1";
    this.connected = new Set();
    this.shown = [];
    this.asked = [];
    /** What the person answers; a test may put another answer in. */
    this.confirm = () => true;
  }

  get address() {
    return this.wallet.address;
  }

  /** Puts the provider into every page of a browser context, before the page's own scripts. */
  async install(context) {
    const binding = `background_${this.rdns.replaceAll(/\W/g, "_")}`;
    await context.exposeBinding(binding, ({ frame }, request) => this.answer(request, new URL(frame.url()).origin));
    await context.addInitScript(provider, { binding, name: this.name, rdns: this.rdns });
  }

  /** One request of a page, as the background part of an extension answers it. */
  async answer({ method, params = [] }, page) {
    const events = [];
    try {
      const act = this.methods[method];
      if (!act && !FORWARDED.has(method)) throw new Refusal(4200, `The method "${method}" does not exist / is not available.`);
      const result = act ? await act.call(this, params, page, events) : await this.node(method, params);
      return { result: result ?? null, events };
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      return { error: { code: error.code, message: error.message, data: error.data }, events };
    }
  }

  /** Asks a node, by default that of the network in use. */
  async node(method, params = [], url = this.networks.get(this.chainId).rpcUrls[0]) {
    this.asked.push(method);
    const headers = { "content-type": "application/json", origin: this.origin };
    const response = await fetch(url, { method: "POST", headers, body: JSON.stringify({ jsonrpc: "2.0", id: this.asked.length, method, params }) });
    if (!response.ok) throw new Refusal(-32603, `${url} answered ${response.status}: ${await response.text()}`);
    const { result, error } = await response.json();
    if (error) throw new Refusal(error.code, error.message, error.data);
    return result;
  }

  /** Shows something to the person, who may decline. */
  require(kind, what) {
    this.shown.push({ kind, ...what });
    if (!this.confirm(kind, what)) throw new Refusal(PERSON_SAYS_NO.code, PERSON_SAYS_NO.message);
  }

  requireConnected(page, address) {
    if (!this.connected.has(page)) throw new Refusal(4100, "The requested method and/or account has not been authorized by the user.");
    if (address && getAddress(address) !== this.address) throw new Refusal(-32602, `Invalid parameters: must provide an Ethereum address.`);
  }

  switchTo(chainId, events) {
    this.chainId = chainId;
    events.push(["chainChanged", chainId]);
  }

  methods = {
    eth_chainId: () => this.chainId,
    net_version: () => String(BigInt(this.chainId)),
    eth_accounts: (_, page) => (this.connected.has(page) ? [this.address.toLowerCase()] : []),

    eth_requestAccounts(_, page, events) {
      if (!this.connected.has(page)) {
        this.require("connect", { page });
        this.connected.add(page);
        events.push(["accountsChanged", [this.address.toLowerCase()]]);
      }
      return [this.address.toLowerCase()];
    },

    wallet_switchEthereumChain([{ chainId }], page, events) {
      if (!this.networks.has(chainId)) {
        throw new Refusal(4902, `Unrecognized chain ID "${chainId}". Try adding the chain using wallet_addEthereumChain first.`);
      }
      if (this.chainId === chainId) return;
      this.require("switch", { page, chainId });
      this.switchTo(chainId, events);
    },

    /** EIP-3085, with what MetaMask checks of it. */
    async wallet_addEthereumChain([network], page, events) {
      const { chainId, chainName, nativeCurrency, rpcUrls, blockExplorerUrls } = network;
      const no = (message) => {
        throw new Refusal(-32602, message);
      };
      const known = ["chainId", "chainName", "nativeCurrency", "rpcUrls", "blockExplorerUrls", "iconUrls"];
      const extra = Object.keys(network).filter((key) => !known.includes(key));
      if (extra.length > 0) no(`Received unexpected keys on object parameter. Unsupported keys:\n${extra}`);
      if (!/^0x[1-9a-f][0-9a-f]*$/.test(chainId)) no(`Expected 0x-prefixed, unpadded, non-zero hexadecimal string 'chainId'. Received:\n${chainId}`);
      if (BigInt(chainId) > 4503599627370476n) no(`Invalid chain ID "${chainId}": numerical value greater than max safe value.`);
      if (typeof chainName !== "string" || chainName === "") no("Expected non-empty string 'chainName'.");
      if (nativeCurrency?.decimals !== 18) no("Expected the number 18 for 'nativeCurrency.decimals' when 'nativeCurrency' is provided.");
      if (!/^.{1,6}$/.test(nativeCurrency.symbol ?? "")) no("Expected 1-6 character string 'nativeCurrency.symbol'.");
      const safe = (text) => {
        const url = new URL(text);
        return url.protocol === "https:" || (url.protocol === "http:" && ["localhost", "127.0.0.1"].includes(url.hostname));
      };
      if (!Array.isArray(rpcUrls) || !rpcUrls.some(safe)) no(`Expected an array with at least one valid string HTTPS url 'rpcUrls'.`);
      if (blockExplorerUrls != null && !blockExplorerUrls.some(safe)) no("Expected null or array with at least one valid string HTTPS URL 'blockExplorerUrl'.");
      const url = rpcUrls.find(safe);
      const found = await this.node("eth_chainId", [], url).catch((error) => no(`Request for method 'eth_chainId on ${url} failed: ${error.message}`));
      if (found !== chainId) no(`Chain ID returned by RPC URL ${url} does not match ${chainId}`);
      this.require("add", { page, chainId, chainName, symbol: nativeCurrency.symbol, url });
      this.networks.set(chainId, { chainId, chainName, rpcUrls: [url] });
      // What the extension asks of a network it has just been given.
      for (const [method, ...params] of [["net_version"], ["eth_blockNumber"], ["eth_getBlockByNumber", "latest", false], ["eth_getBalance", this.address, "latest"]]) {
        await this.node(method, params, url);
      }
      this.switchTo(chainId, events);
    },

    async eth_sendTransaction([asked], page) {
      this.requireConnected(page, asked.from);
      const [nonce, gas, fees, balance] = [
        Number(await this.node("eth_getTransactionCount", [this.address, "pending"])),
        asked.gas ?? (await this.node("eth_estimateGas", [{ ...asked, from: this.address }])),
        await this.fees(),
        await this.node("eth_getBalance", [this.address, "latest"]),
      ];
      // Whether there is a contract decides what the person is shown.
      const code = asked.to ? await this.node("eth_getCode", [asked.to, "latest"]) : undefined;
      this.require("send", { page, to: asked.to, data: asked.data, value: asked.value, gas, balance, isContract: code !== undefined && code !== "0x" });
      const transaction = Transaction.from({
        ...fees, nonce, to: asked.to, data: asked.data ?? "0x", value: asked.value ?? 0, gasLimit: gas, chainId: BigInt(this.chainId),
      });
      transaction.signature = this.wallet.signingKey.sign(transaction.unsignedHash);
      const hash = await this.node("eth_sendRawTransaction", [transaction.serialized]);
      this.follow(hash);
      return hash;
    },

    async personal_sign([message, address], page) {
      this.requireConnected(page, address);
      const text = Buffer.from(message.slice(2), "hex").toString();
      const signIn = parseSiweMessage(text);
      // MetaMask reads EIP-4361 messages, and warns where one is for another site than the one that asks.
      if (signIn.domain) this.require("sign in", { page, text, signIn, isDeceptive: signIn.domain !== new URL(page).host });
      else this.require("sign", { page, text });
      return this.wallet.signMessage(Buffer.from(message.slice(2), "hex"));
    },

    async eth_signTypedData_v4([address, text], page) {
      this.requireConnected(page, address);
      const { domain, types, primaryType, message } = JSON.parse(text);
      if (domain.chainId !== undefined && BigInt(domain.chainId) !== BigInt(this.chainId)) {
        throw new Refusal(-32603, `Provided chainId "${domain.chainId}" must match the active chainId "${BigInt(this.chainId)}"`);
      }
      this.require("sign typed data", { page, contract: domain.verifyingContract, name: domain.name, primaryType, fields: message });
      const { EIP712Domain: _, ...used } = types;
      return this.wallet.signTypedData(domain, used, message);
    },
  };

  /** EIP-1559's fields where blocks have a base fee, else a price. */
  async fees() {
    const { baseFeePerGas } = await this.node("eth_getBlockByNumber", ["latest", false]);
    if (baseFeePerGas === undefined) return { type: 0, gasPrice: await this.node("eth_gasPrice") };
    const { reward } = await this.node("eth_feeHistory", ["0x5", "latest", [10, 50, 90]]);
    const tip = BigInt(reward?.at(-1)?.[1] ?? 0);
    return { type: 2, maxPriorityFeePerGas: toQuantity(tip), maxFeePerGas: toQuantity(BigInt(baseFeePerGas) * 2n + tip) };
  }

  /** Looks for the receipt at every new block, as the extension does until a transaction is confirmed. */
  async follow(hash) {
    for (let poll = 0; poll < RECEIPT_POLLS; poll++) {
      await this.node("eth_blockNumber");
      const receipt = await this.node("eth_getTransactionReceipt", [hash]);
      if (receipt) {
        this.shown.push({ kind: "confirmed", hash, status: receipt.status });
        return;
      }
      await sleep(50);
    }
  }

  /** The last thing of a kind that the person saw. */
  last(kind) {
    return this.shown.findLast((one) => one.kind === kind);
  }
}

/** What goes to the node as it is, once a page may ask. */
const FORWARDED = new Set([
  "eth_blockNumber", "eth_call", "eth_estimateGas", "eth_feeHistory", "eth_gasPrice", "eth_getBalance", "eth_getBlockByHash",
  "eth_getBlockByNumber", "eth_getCode", "eth_getLogs", "eth_getStorageAt", "eth_getTransactionByHash", "eth_getTransactionCount",
  "eth_getTransactionReceipt", "eth_maxPriorityFeePerGas", "eth_sendRawTransaction", "net_version", "web3_clientVersion",
]);

/** Runs in the page: the provider, and its announcement. */
function provider({ binding, name, rdns }) {
  const listeners = {};
  const emit = (event, value) => (listeners[event] ?? []).forEach((listener) => listener(value));
  const injected = {
    isMetaMask: rdns === "io.metamask",
    async request(request) {
      const { result, error, events } = await globalThis[binding](JSON.parse(JSON.stringify(request)));
      for (const [event, value] of events) emit(event, value);
      if (error) throw Object.assign(new Error(error.message), error);
      return result;
    },
    on(event, listener) {
      (listeners[event] ??= []).push(listener);
      return injected;
    },
    removeListener(event, listener) {
      listeners[event] = (listeners[event] ?? []).filter((one) => one !== listener);
      return injected;
    },
  };
  const info = Object.freeze({ uuid: crypto.randomUUID?.() ?? "350670db-19fa-4704-a166-e52e178b59d2", name, rdns, icon: "data:image/svg+xml," });
  const announce = () =>
    window.dispatchEvent(new CustomEvent("eip6963:announceProvider", { detail: Object.freeze({ info, provider: injected }) }));
  window.addEventListener("eip6963:requestProvider", announce);
  announce();
  window.ethereum ??= injected;
}

/** A quantity as JSON-RPC writes it. */
export const quantity = (number) => toBeHex(number).replace(/^0x0*(?=.)/, "0x");
