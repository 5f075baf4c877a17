//! What development chains add, in the words of Ganache (`evm_…`), Hardhat (`hardhat_…`) and anvil (`anvil_…`). Registered
//! only over a development chain: on any other these methods do not exist.

mod typed_data;

use alloy_primitives::{Address, B256, Bytes, U64, U256, eip191_hash_message};
use jsonrpsee::{RpcModule, server::RegisterMethodError};
use serde::Deserialize;
use serde_json::Value;
use stele_service::{
    development::{Development, Mining, Send, StateChange},
    ports::LedgerError,
};

use crate::rpc::{
    arguments::{Arguments, Count, Slot},
    context::Context,
    error::{RpcResult, invalid_params},
};

pub(super) fn register(module: &mut RpcModule<Context>) -> Result<(), RegisterMethodError> {
    accounts(module)?;
    signatures(module)?;
    blocks(module)?;
    state(module)?;
    time(module)?;
    past(module)
}

/// Registers one method under the names it goes by; `$read` takes the parameters, `$act` does it.
macro_rules! methods {
    ($module:ident, [$($name:literal),+], $read:expr, $act:expr) => {$(
        $module.register_async_method($name, |params, context, _| async move {
            let mut arguments = Arguments::read(&params)?;
            let asked = read(&mut arguments, $read)?;
            arguments.end()?;
            context.develop(move |chain| $act(chain, asked)).await
        })?;
    )+};
}

/// Has the parameters taken; says what type a closure that takes them has.
fn read<T>(
    arguments: &mut Arguments<'_>,
    take: impl FnOnce(&mut Arguments<'_>) -> RpcResult<T>,
) -> RpcResult<T> {
    take(arguments)
}

fn none(_: &mut Arguments<'_>) -> RpcResult<()> {
    Ok(())
}

fn accounts(module: &mut RpcModule<Context>) -> Result<(), RegisterMethodError> {
    methods!(
        module,
        ["eth_requestAccounts"],
        none,
        |chain: &dyn Development, ()| { Ok(chain.accounts()) }
    );
    methods!(
        module,
        ["eth_sendTransaction"],
        sending,
        |chain: &dyn Development, asked| { chain.send(asked) }
    );
    methods!(
        module,
        ["hardhat_impersonateAccount", "anvil_impersonateAccount"],
        address,
        |chain: &dyn Development, account| {
            chain.impersonate(account, true);
            Ok(true)
        }
    );
    methods!(
        module,
        [
            "hardhat_stopImpersonatingAccount",
            "anvil_stopImpersonatingAccount"
        ],
        address,
        |chain: &dyn Development, account| {
            chain.impersonate(account, false);
            Ok(true)
        }
    );
    methods!(
        module,
        ["anvil_autoImpersonateAccount"],
        |arguments: &mut Arguments<'_>| arguments.required::<bool>("enabled"),
        |chain: &dyn Development, wanted| {
            chain.impersonate_all(wanted);
            Ok(true)
        }
    );
    Ok(())
}

fn signatures(module: &mut RpcModule<Context>) -> Result<(), RegisterMethodError> {
    methods!(
        module,
        ["personal_sign"],
        |arguments: &mut Arguments<'_>| {
            let message: Bytes = arguments.required("message")?;
            let account: Address = arguments.required("address")?;
            let _: Option<String> = arguments.optional("passphrase")?;
            Ok((account, eip191_hash_message(message)))
        },
        signed
    );
    methods!(
        module,
        ["eth_sign"],
        |arguments: &mut Arguments<'_>| {
            let account: Address = arguments.required("address")?;
            let message: Bytes = arguments.required("message")?;
            Ok((account, eip191_hash_message(message)))
        },
        signed
    );
    methods!(
        module,
        ["eth_signTypedData_v4", "eth_signTypedData"],
        |arguments: &mut Arguments<'_>| {
            let account: Address = arguments.required("address")?;
            let typed: Value = arguments.required("typedData")?;
            Ok((account, typed_data::signing_hash(typed)?))
        },
        signed
    );
    Ok(())
}

fn blocks(module: &mut RpcModule<Context>) -> Result<(), RegisterMethodError> {
    methods!(
        module,
        ["evm_mine"],
        mine_one,
        |chain: &dyn Development, asked: MineOne| {
            if let Some(seconds) = asked.timestamp {
                chain.set_next_timestamp(seconds)?;
            }
            chain.mine(asked.blocks, None)?;
            Ok("0x0")
        }
    );
    methods!(
        module,
        ["hardhat_mine", "anvil_mine"],
        |arguments: &mut Arguments<'_>| {
            let blocks: Option<Count> = arguments.optional("blocks")?;
            let interval: Option<Count> = arguments.optional("interval")?;
            Ok((blocks, interval))
        },
        |chain: &dyn Development, (blocks, interval): (Option<Count>, Option<Count>)| {
            chain.mine(
                blocks.map_or(1, |count| count.0),
                interval.map(|count| count.0),
            )?;
            Ok(true)
        }
    );
    methods!(
        module,
        ["evm_setAutomine", "anvil_setAutomine"],
        |arguments: &mut Arguments<'_>| arguments.required::<bool>("enabled"),
        |chain: &dyn Development, wanted| {
            chain.set_mining(if wanted {
                Mining::Instant
            } else {
                Mining::Manual
            });
            Ok(true)
        }
    );
    methods!(
        module,
        ["hardhat_getAutomine", "anvil_getAutomine"],
        none,
        |chain: &dyn Development, ()| Ok(chain.mining() == Mining::Instant)
    );
    // Hardhat counts in milliseconds, anvil in seconds; zero stops it.
    methods!(
        module,
        ["evm_setIntervalMining"],
        interval,
        |chain: &dyn Development, ms| { Ok(every(chain, ms)) }
    );
    methods!(
        module,
        ["anvil_setIntervalMining"],
        interval,
        |chain: &dyn Development, s: u64| { Ok(every(chain, s.saturating_mul(1_000))) }
    );
    Ok(())
}

fn state(module: &mut RpcModule<Context>) -> Result<(), RegisterMethodError> {
    methods!(
        module,
        ["hardhat_setBalance", "anvil_setBalance"],
        |arguments: &mut Arguments<'_>| {
            let account = address(arguments)?;
            Ok(StateChange::Balance(
                account,
                arguments.required("balance")?,
            ))
        },
        changed
    );
    methods!(
        module,
        ["hardhat_setNonce", "anvil_setNonce"],
        |arguments: &mut Arguments<'_>| {
            let account = address(arguments)?;
            let Count(nonce) = arguments.required("nonce")?;
            Ok(StateChange::Nonce(account, nonce))
        },
        changed
    );
    methods!(
        module,
        ["hardhat_setCode", "anvil_setCode"],
        |arguments: &mut Arguments<'_>| {
            let account = address(arguments)?;
            Ok(StateChange::Code(account, arguments.required("code")?))
        },
        changed
    );
    methods!(
        module,
        ["hardhat_setStorageAt", "anvil_setStorageAt"],
        |arguments: &mut Arguments<'_>| {
            let account = address(arguments)?;
            let slot: Slot = arguments.required("slot")?;
            let word: Slot = arguments.required("value")?;
            Ok(StateChange::Slot(account, slot.key.into(), word.key))
        },
        changed
    );
    Ok(())
}

fn time(module: &mut RpcModule<Context>) -> Result<(), RegisterMethodError> {
    methods!(
        module,
        ["evm_increaseTime", "anvil_increaseTime"],
        |arguments: &mut Arguments<'_>| Ok(arguments.required::<Count>("seconds")?.0),
        |chain: &dyn Development, seconds| Ok(chain.increase_time(seconds))
    );
    methods!(
        module,
        ["evm_setNextBlockTimestamp", "anvil_setNextBlockTimestamp"],
        |arguments: &mut Arguments<'_>| Ok(arguments.required::<Count>("timestamp")?.0),
        |chain: &dyn Development, seconds| {
            chain.set_next_timestamp(seconds)?;
            Ok(seconds)
        }
    );
    Ok(())
}

fn past(module: &mut RpcModule<Context>) -> Result<(), RegisterMethodError> {
    methods!(
        module,
        ["evm_snapshot", "anvil_snapshot"],
        none,
        |chain: &dyn Development, ()| { Ok(U64::from(chain.snapshot())) }
    );
    methods!(
        module,
        ["evm_revert", "anvil_revert"],
        |arguments: &mut Arguments<'_>| Ok(arguments.required::<Count>("snapshot")?.0),
        |chain: &dyn Development, snapshot| chain.revert(snapshot)
    );
    methods!(
        module,
        ["hardhat_reset", "anvil_reset"],
        |arguments: &mut Arguments<'_>| {
            // Forking another chain is not there.
            let forking: Option<NoForking> = arguments.optional("forking")?;
            Ok(forking.is_some())
        },
        |chain: &dyn Development, _| {
            chain.reset()?;
            Ok(true)
        }
    );
    Ok(())
}

fn address(arguments: &mut Arguments<'_>) -> RpcResult<Address> {
    arguments.required("address")
}

fn interval(arguments: &mut Arguments<'_>) -> RpcResult<u64> {
    Ok(arguments.required::<Count>("interval")?.0)
}

fn every(chain: &dyn Development, ms: u64) -> bool {
    chain.set_mining(if ms == 0 {
        Mining::Manual
    } else {
        Mining::Interval(ms)
    });
    true
}

fn changed(chain: &dyn Development, change: StateChange) -> Result<bool, LedgerError> {
    chain.change(change).map(|()| true)
}

/// A signature over a hash: r, s and v, 65 bytes.
fn signed(chain: &dyn Development, (account, hash): (Address, B256)) -> Result<Bytes, LedgerError> {
    let signature = chain.sign(account, hash)?;
    Ok(signature.as_bytes().into())
}

fn sending(arguments: &mut Arguments<'_>) -> RpcResult<Send> {
    let request: SendRequest = arguments.required("transaction")?;
    if let (Some(data), Some(input)) = (&request.data, &request.input)
        && data != input
    {
        return Err(invalid_params(
            "invalid argument 0 `transaction`: `data` and `input` differ; give one of them",
        ));
    }
    Ok(Send {
        from: request.from,
        to: request.to,
        input: request.input.or(request.data).unwrap_or_default(),
        value: request.value.unwrap_or_default(),
        gas: request.gas.map(|gas| gas.0),
        nonce: request.nonce.map(|nonce| nonce.0),
    })
}

/// The transaction object of `eth_sendTransaction`. Prices are taken and ignored: there is no coin to pay them.
#[derive(Clone, Debug, Deserialize)]
struct SendRequest {
    from: Address,
    to: Option<Address>,
    gas: Option<Count>,
    value: Option<U256>,
    data: Option<Bytes>,
    input: Option<Bytes>,
    nonce: Option<Count>,
}

/// What `evm_mine` takes: nothing, a timestamp, or an object.
#[derive(Clone, Copy, Debug)]
struct MineOne {
    blocks: u64,
    timestamp: Option<u64>,
}

fn mine_one(arguments: &mut Arguments<'_>) -> RpcResult<MineOne> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Asked {
        Timestamp(Count),
        Options {
            blocks: Option<Count>,
            timestamp: Option<Count>,
        },
    }
    let asked: Option<Asked> = arguments.optional("timestamp")?;
    Ok(match asked {
        None => MineOne {
            blocks: 1,
            timestamp: None,
        },
        Some(Asked::Timestamp(Count(seconds))) => MineOne {
            blocks: 1,
            // Tools send zero for none.
            timestamp: (seconds != 0).then_some(seconds),
        },
        Some(Asked::Options { blocks, timestamp }) => MineOne {
            blocks: blocks.map_or(1, |count| count.0),
            timestamp: timestamp.map(|count| count.0),
        },
    })
}

/// The options of a reset, of which there are none.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoForking {}
