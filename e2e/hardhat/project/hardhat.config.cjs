// A Hardhat 2 project on a Stele node. The compiler is solc-js from npm: Hardhat would download one otherwise.

const { subtask } = require("hardhat/config");
const { TASK_COMPILE_SOLIDITY_GET_SOLC_BUILD } = require("hardhat/builtin-tasks/task-names");
const solc = require("solc");

const longVersion = solc.version().split(".Emscripten")[0];
const version = longVersion.split("+")[0];

subtask(TASK_COMPILE_SOLIDITY_GET_SOLC_BUILD, async () => ({
  compilerPath: require.resolve("solc/soljson.js"),
  isSolcJs: true,
  version,
  longVersion,
}));

/** @type {import("hardhat/config").HardhatUserConfig} */
module.exports = {
  solidity: { version, settings: { optimizer: { enabled: true, runs: 200 } } },
  defaultNetwork: "stele",
  networks: {
    stele: {
      url: process.env.STELE_RPC,
      // The first of the accounts everybody knows: the organisation of `stele up --open` and `stele dev`.
      accounts: { mnemonic: "test test test test test test test test test test test junk" },
    },
  },
  mocha: { timeout: 120_000 },
};
