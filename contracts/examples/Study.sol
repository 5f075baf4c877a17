// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.20;

import {IRecords} from "../interfaces/IRecords.sol";

/// @title Study: a researcher's contract that takes a record into a study only with a proof that it is on the ledger.
/// @notice It reads the peaks of the patient's log from Records and follows the path in Solidity, so it also serves as an
/// independent check of Records.verifyInclusion. Nothing but the leaf, a salted commitment, is disclosed.
contract Study {
    IRecords private constant RECORDS = IRecords(0x5E1E000000000000000000000000000000000002);

    mapping(bytes32 leaf => bool) public isIncluded;
    uint256 public count;

    event Included(address indexed log, uint64 indexed index, bytes32 leaf);

    error NotAnchored(address log, uint64 index, bytes32 leaf);
    error AlreadyIncluded(bytes32 leaf);

    /// @notice Takes a record in. `path` are the siblings from the leaf to the peak of its mountain.
    function include(address log, uint64 index, bytes32 leaf, bytes32[] calldata path) external {
        if (isIncluded[leaf]) revert AlreadyIncluded(leaf);
        if (!verify(log, index, leaf, path)) revert NotAnchored(log, index, leaf);
        isIncluded[leaf] = true;
        count += 1;
        emit Included(log, index, leaf);
    }

    /// @notice Whether `leaf` stands at `index` of the log, by the peaks that Records has now.
    function verify(address log, uint64 index, bytes32 leaf, bytes32[] calldata path) public view returns (bool) {
        (uint64 size, bytes32[] memory peaks) = RECORDS.logPeaks(log);
        if (index >= size) return false;
        // The mountains' sizes are the powers of two that sum up to the log's size, from the highest.
        uint64 position = index;
        uint256 mountain = 0;
        for (uint64 height = 64; height > 0; height--) {
            uint64 leaves = uint64(1) << (height - 1);
            if (size & leaves == 0) continue;
            if (position < leaves) {
                return path.length == height - 1 && climb(leaf, position, path) == peaks[mountain];
            }
            position -= leaves;
            mountain += 1;
        }
        return false;
    }

    function climb(bytes32 leaf, uint64 position, bytes32[] calldata path) private pure returns (bytes32 node) {
        node = keccak256(abi.encodePacked(bytes1(0x00), leaf));
        for (uint256 i = 0; i < path.length; i++) {
            node = position & 1 == 0
                ? keccak256(abi.encodePacked(bytes1(0x01), node, path[i]))
                : keccak256(abi.encodePacked(bytes1(0x01), path[i], node));
            position >>= 1;
        }
    }
}
