// `hardhat run scripts/deploy.cjs`: deploys and prints the address.

const hre = require("hardhat");
const { ContractFactory, JsonRpcProvider } = require("ethers");

async function main() {
  const { abi, bytecode } = await hre.artifacts.readArtifact("HealthRecords");
  const provider = new JsonRpcProvider(hre.network.config.url, undefined, { pollingInterval: 100 });
  const signer = require("ethers").HDNodeWallet.fromPhrase(hre.network.config.accounts.mnemonic, undefined, "m/44'/60'/0'/0/1");
  const contract = await new ContractFactory(abi, bytecode, signer.connect(provider)).deploy();
  await contract.waitForDeployment();
  console.log(JSON.stringify({ deployed: await contract.getAddress() }));
  provider.destroy();
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
