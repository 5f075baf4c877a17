// What tests of other tools need before they begin, done with ethers.

import { Contract, ContractFactory, JsonRpcProvider, Wallet, id } from "ethers";

import { systemContracts } from "./contracts.mjs";
import { organizationKey } from "./node.mjs";

/** Registers accounts as patients of the node's organisation. */
export async function registerPatients(url, accounts) {
  await as(url, async (organization) => {
    const { IIdentity } = systemContracts();
    const identity = new Contract(IIdentity.address, IIdentity.abi, organization);
    for (const account of accounts) await (await identity.registerPatient(account, id("directory"))).wait();
  });
}

/** Deploys a contract as the node's organisation; gives its address and the chain's id. */
export function deployAs(url, { abi, bytecode }) {
  return as(url, async (organization) => {
    const contract = await new ContractFactory(abi, bytecode, organization).deploy();
    await contract.waitForDeployment();
    const { chainId } = await organization.provider.getNetwork();
    return { address: await contract.getAddress(), chainId: Number(chainId) };
  });
}

async function as(url, act) {
  const provider = new JsonRpcProvider(url, undefined, { pollingInterval: 100, cacheTimeout: -1 });
  try {
    return await act(new Wallet(organizationKey(), provider));
  } finally {
    provider.destroy();
  }
}
