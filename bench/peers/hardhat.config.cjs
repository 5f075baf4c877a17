// Hardhat's network as a peer: a block a second with all that came, and no fees.

/** @type {import("hardhat/config").HardhatUserConfig} */
module.exports = {
  networks: {
    hardhat: {
      chainId: Number(process.env.BENCH_CHAIN_ID),
      mining: { auto: false, interval: 1_000, mempool: { order: "fifo" } },
      blockGasLimit: 1_000_000_000,
      initialBaseFeePerGas: 0,
      accounts: { count: 1 },
    },
  },
};
