// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.20;

/// @title System: what every system contract answers alike.
/// @notice An unknown selector or calldata that is not canonically encoded reverts without data, as solc's code does.
interface ISystem {
    /// The storage would be the caller's: DELEGATECALL and CALLCODE are refused.
    error DelegateCallNotAllowed();
    /// The call would write under STATICCALL.
    error StaticCallNotAllowed();
    /// System contracts hold no coin.
    error NonPayable();
}
