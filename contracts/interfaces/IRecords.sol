// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.20;

/// @title Records: one append-only log of salted commitments per patient (or organisation).
/// @notice System contract at 0x5e1e000000000000000000000000000000000002.
/// Each log is a Merkle mountain range of keccak256 nodes; state grows with patients, not with records.
interface IRecords {
    /// One log's part of a batch. `categories[i]` is the category slot (0 to 63) of `leaves[i]`.
    struct Entry {
        address log;
        bytes categories;
        bytes32[] leaves;
    }

    event Anchored(address indexed log, address indexed author, uint64 first, bytes32 root, bytes categories, bytes32[] leaves);
    event Tombstoned(address indexed log, uint64 indexed index, uint64 at, uint8 reason, address author, bytes32 leaf);
    event Disputed(address indexed log, uint64 indexed index, address by, uint8 reason);
    event CustodyTransferred(address indexed log, address indexed from, address indexed to);

    error EmptyBatch();
    error BatchTooLarge(uint256 leaves, uint256 max);
    error LengthMismatch(uint256 entry);
    error InvalidCategory(uint256 entry, uint8 category);
    /// Category 255: none opens the log to the caller.
    error NotPermitted(address log, address author, uint8 category);
    error NotAuthor(address author, address caller);
    error UnknownLog(address log);
    error UnknownRecord(address log, uint64 index);
    error BadStorageSignature(address custodian);
    error NotCustodian(address log, address caller);
    error AlreadyCustodian(address log, address to);
    error NotAnOrganization(address account);
    error NotActive(address account);

    /// @notice Appends all leaves of all entries or none. `author` is the caller or an active member of the calling
    /// organisation. `custodian` is the organisation that stores the ciphertexts; unless it is the caller it signs
    /// keccak256(abi.encode("stele/custody/1", chainid, this, author, keccak256(abi.encode(entries)))) with secp256k1 (r, s, v).
    function anchor(Entry[] calldata entries, address author, address custodian, bytes calldata storageSignature) external;
    /// @notice Records the erasure of the record at `index`; `leaf` is the tombstone's own commitment.
    function tombstone(address log, uint64 index, uint8 category, bytes32 leaf, uint8 reason, address author) external;
    /// @notice Says on the ledger that the leaf at `index` cannot be opened or is contested. Reasons are coded.
    function dispute(address log, uint64 index, uint8 reason) external;
    /// @notice The patient or the present custodian hands the log's ciphertexts to another active organisation.
    function transferCustody(address log, address to) external;

    /// @notice Number of leaves and bagged root: keccak256(0x02, uint64 size, peaks from highest to lowest).
    function logRoot(address log) external view returns (uint64 size, bytes32 root);
    /// @notice Peaks from the highest mountain to the lowest.
    function logPeaks(address log) external view returns (uint64 size, bytes32[] memory peaks);
    function custodianOf(address log) external view returns (address);
    /// @notice Whether `leaf` stands at `index` of the log; `path` are the siblings from the leaf to its peak.
    function verifyInclusion(address log, uint64 index, bytes32 leaf, bytes32[] calldata path) external view returns (bool);
}
