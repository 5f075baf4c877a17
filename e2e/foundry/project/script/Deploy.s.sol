// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.20;

import {Register} from "../src/Register.sol";

interface Vm {
    function startBroadcast() external;
    function stopBroadcast() external;
}

contract Deploy {
    Vm private constant VM = Vm(0x7109709ECfa91a80626fF3989D68f67F5b1DD12D);

    event Deployed(address register);

    function run() external {
        VM.startBroadcast();
        Register register = new Register();
        register.say(bytes32(uint256(42)));
        VM.stopBroadcast();
        emit Deployed(address(register));
    }
}
