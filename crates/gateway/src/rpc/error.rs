//! The one place where answers that are errors get their codes; `docs/rpc.md` has the table.

use alloy_primitives::hex;
use alloy_sol_types::{GenericContractError, SolInterface as _};
use jsonrpsee::types::{
    ErrorObjectOwned,
    error::{INTERNAL_ERROR_CODE, INVALID_PARAMS_CODE, METHOD_NOT_FOUND_CODE},
};
use stele_service::ports::LedgerError;

/// What a method answers.
pub(crate) type RpcResult<T> = Result<T, ErrorObjectOwned>;

/// A parameter that is missing, of the wrong shape, or one too many.
pub(crate) fn invalid_params(message: impl Into<String>) -> ErrorObjectOwned {
    ErrorObjectOwned::owned::<()>(INVALID_PARAMS_CODE, message, None)
}

/// Something that could be asked for, but is not there.
pub(crate) fn not_found(message: impl Into<String>) -> ErrorObjectOwned {
    ErrorObjectOwned::owned::<()>(SERVER_ERROR, message, None)
}

/// A method of development chains, on another chain.
pub(crate) fn not_development() -> ErrorObjectOwned {
    ErrorObjectOwned::owned::<()>(METHOD_NOT_FOUND_CODE, "Method not found", None)
}

/// A question over a limit.
pub(crate) fn limit_exceeded(message: impl Into<String>) -> ErrorObjectOwned {
    ErrorObjectOwned::owned::<()>(LIMIT_EXCEEDED, message, None)
}

/// A fault of ours; the cause goes to the log, never to the caller.
pub(crate) fn internal(cause: &(dyn std::error::Error + 'static)) -> ErrorObjectOwned {
    tracing::error!(error = cause, "rpc.internal");
    ErrorObjectOwned::owned::<()>(INTERNAL_ERROR_CODE, "internal error", None)
}

/// The ledger's refusals, in words that wallets and libraries recognise.
pub(crate) fn ledger(error: LedgerError) -> ErrorObjectOwned {
    let message = error.to_string();
    match error {
        LedgerError::Refused { .. } | LedgerError::Halted { .. } | LedgerError::Pending { .. } => {
            ErrorObjectOwned::owned::<()>(SERVER_ERROR, message, None)
        }
        LedgerError::Reverted { output } => {
            ErrorObjectOwned::owned(REVERTED, revert_message(&output), Some(output))
        }
        LedgerError::NotAvailable { .. } => {
            ErrorObjectOwned::owned::<()>(NOT_AVAILABLE, message, None)
        }
        LedgerError::Limit { .. } => limit_exceeded(message),
        LedgerError::Question { .. } => invalid_params(message),
        LedgerError::Unavailable { .. } => internal(&error),
        // The port may learn new refusals before this front does.
        _ => ErrorObjectOwned::owned::<()>(SERVER_ERROR, message, None),
    }
}

/// geth's words, which libraries search for the reason. A contract's own error is named by its selector; who
/// knows the contract's ABI reads the rest from `data`.
fn revert_message(output: &[u8]) -> String {
    match GenericContractError::abi_decode(output) {
        Ok(GenericContractError::Revert(revert)) => {
            format!("execution reverted: {}", revert.reason())
        }
        Ok(GenericContractError::Panic(panic)) => format!("execution reverted: {panic}"),
        Ok(GenericContractError::CustomError(_)) | Err(_) => match output.get(..4) {
            Some(selector) => {
                format!(
                    "execution reverted: custom error {}",
                    hex::encode_prefixed(selector)
                )
            }
            None => "execution reverted".to_owned(),
        },
    }
}

/// geth's code for a call that a contract reverted; `data` holds the ABI-encoded error.
const REVERTED: i32 = 3;
/// geth's code for refused transactions and failed executions.
const SERVER_ERROR: i32 = -32000;
/// EIP-1474 "resource not found": state of an old block that is not kept.
const NOT_AVAILABLE: i32 = -32001;
/// EIP-1474 "limit exceeded".
const LIMIT_EXCEEDED: i32 = -32005;
