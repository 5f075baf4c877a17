// What wallets are told of a Stele chain.

/** Parameter of `wallet_addEthereumChain` (EIP-3085). `rpcUrl` is https, or http on this machine: wallets take nothing
 * else. There is no coin, and wallets want one: its symbol says so. */
export function network({ chainId, rpcUrl, chainName = `Stele ${Number(chainId)}` }) {
  return {
    chainId: `0x${BigInt(chainId).toString(16)}`,
    chainName,
    nativeCurrency: { name: "No coin", symbol: "NONE", decimals: 18 },
    rpcUrls: [rpcUrl],
  };
}
