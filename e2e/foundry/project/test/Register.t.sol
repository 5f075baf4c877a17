// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.20;

import {Register} from "../src/Register.sol";

interface Vm {
    function expectRevert(bytes calldata) external;
    function prank(address) external;
}

contract RegisterTest {
    Vm private constant VM = Vm(0x7109709ECfa91a80626fF3989D68f67F5b1DD12D);
    Register private register;

    function setUp() external {
        register = new Register();
    }

    function testSays(bytes32 what, address who) external {
        if (what == 0) return;
        VM.prank(who);
        register.say(what);
        assert(register.said(who) == what);
    }

    function testNothingIsRefused() external {
        VM.expectRevert(abi.encodeWithSelector(Register.Nothing.selector, address(this)));
        register.say(0);
    }
}

/// Against a node: `forge test --fork-url`. The system contracts' storage is there; their native code is not, for forge runs
/// calls in its own EVM.
contract ForkTest {
    function testForkSeesTheChain() external view {
        assert(address(0x5E1e000000000000000000000000000000000003).code.length == 1);
        assert(block.chainid != 31337 || block.number > 0);
    }
}
