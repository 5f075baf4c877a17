// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.20;

/// @title Audit: each organisation's hash-chained sequence of access receipts, anchored in batches.
/// @notice System contract at 0x5e1e000000000000000000000000000000000004. Refused attempts are receipts too.
interface IAudit {
    event ReceiptsAnchored(address indexed organization, uint64 first, uint32 count, bytes32 root, bytes32 head);

    error NotAnOrganization(address caller);
    error NotActive(address organization);
    error OutOfSequence(address organization, uint64 expected, uint64 given);
    error WrongHead(address organization, bytes32 expected, bytes32 given);
    error EmptyBatch();

    /// @notice The calling organisation anchors receipts `first` to `first + count - 1`. `root` is the Merkle root over
    /// their digests; `previousHead` must be the last anchored head of the sequence's hash chain, `head` its new end.
    function anchorReceipts(uint64 first, uint32 count, bytes32 root, bytes32 previousHead, bytes32 head) external;
    function head(address organization) external view returns (uint64 count, bytes32 head_);
}
