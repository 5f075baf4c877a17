//! 65-byte secp256k1 signatures inside calldata.

use alloy_primitives::{Address, B256, Signature};

use super::host::{Host, Outcome};

/// Address of the signer of a hash, or `None` when the bytes are no signature: r ‖ s ‖ v with v 0, 1, 27 or 28 and
/// s in the lower half (EIP-2). Costs what the precompile ECRECOVER costs.
pub(crate) fn recover(host: &mut Host<'_>, hash: B256, bytes: &[u8]) -> Outcome<Option<Address>> {
    host.charge(ECRECOVER_GAS)?;
    let Ok(raw) = <&[u8; 65]>::try_from(bytes) else {
        return Ok(None);
    };
    if !matches!(raw.last(), Some(0 | 1 | 27 | 28)) {
        return Ok(None);
    }
    let Ok(signature) = Signature::from_raw_array(raw) else {
        return Ok(None);
    };
    Ok(alloy_consensus::crypto::secp256k1::recover_signer(&signature, hash).ok())
}

/// Gas of the precompile at address 1 (Yellow Paper, appendix E).
const ECRECOVER_GAS: u64 = 3_000;
