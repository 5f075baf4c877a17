// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.20;

/// @title Register: who said what last, for `forge test` and `forge script`.
contract Register {
    mapping(address => bytes32) public said;

    event Said(address indexed who, bytes32 what);

    error Nothing(address who);

    function say(bytes32 what) external {
        if (what == 0) revert Nothing(msg.sender);
        said[msg.sender] = what;
        emit Said(msg.sender, what);
    }
}
