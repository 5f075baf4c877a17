// A Truffle project on a development chain, which signs for its accounts as Ganache does. The compiler is solc-js from
// npm; the target is the newest that Truffle's own tools read.

module.exports = {
  networks: {
    development: {
      host: "127.0.0.1",
      port: Number(process.env.STELE_RPC_PORT),
      network_id: "*",
      gasPrice: 0,
    },
  },
  compilers: {
    solc: {
      version: process.env.SOLC_MODULE,
      settings: { optimizer: { enabled: true, runs: 200 }, evmVersion: "paris" },
    },
  },
  mocha: { timeout: 120000 },
};
