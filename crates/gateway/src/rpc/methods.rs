//! The methods, by what they are about.

mod blocks;
mod debug;
mod development;
mod logs;
mod node;
mod state;
mod transactions;

use jsonrpsee::{RpcModule, server::RegisterMethodError};

use super::{context::Context, subscriptions};

/// Every method there is, and those of development chains.
pub(crate) fn with_development(
    context: Context,
) -> Result<RpcModule<Context>, RegisterMethodError> {
    let mut module = all(context)?;
    development::register(&mut module)?;
    Ok(module)
}

/// Every method there is.
pub(crate) fn all(context: Context) -> Result<RpcModule<Context>, RegisterMethodError> {
    let mut module = RpcModule::new(context);
    node::register(&mut module)?;
    blocks::register(&mut module)?;
    state::register(&mut module)?;
    transactions::register(&mut module)?;
    logs::register(&mut module)?;
    debug::register(&mut module)?;
    module.register_subscription(
        "eth_subscribe",
        "eth_subscription",
        "eth_unsubscribe",
        |params, pending, context, _| subscriptions::subscribe(params, pending, context),
    )?;
    Ok(module)
}
