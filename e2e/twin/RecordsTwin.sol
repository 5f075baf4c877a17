// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.20;

import {IConsent} from "../../contracts/interfaces/IConsent.sol";
import {IGovernance} from "../../contracts/interfaces/IGovernance.sol";
import {IIdentity} from "../../contracts/interfaces/IIdentity.sol";
import {IRecords} from "../../contracts/interfaces/IRecords.sol";

/// @title RecordsTwin: Records' rules once more, in Solidity and written from its specification, as an oracle for the
/// native contract. Who somebody is and what consent opens it asks the native contracts, as everybody does.
contract RecordsTwin {
    IIdentity private constant IDENTITY = IIdentity(0x5e1e000000000000000000000000000000000001);
    IConsent private constant CONSENT = IConsent(0x5E1e000000000000000000000000000000000003);
    IGovernance private constant GOVERNANCE = IGovernance(0x5e1e000000000000000000000000000000000007);
    /// What a custodian signs names the native contract.
    address private constant RECORDS = 0x5E1E000000000000000000000000000000000002;
    uint256 private constant HALF_ORDER = 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0;
    uint8 private constant WRITE = 2;
    uint8 private constant NO_CATEGORY = 255;

    struct Log {
        uint64 size;
        address custodian;
        mapping(uint256 height => bytes32) peaks;
    }

    mapping(address => Log) private logs;

    function anchor(IRecords.Entry[] calldata entries, address author, address custodian, bytes calldata storageSignature)
        external
    {
        checkShape(entries);
        checkAuthor(author);
        requireOrganization(custodian);
        if (custodian != msg.sender) {
            bytes32 message = keccak256(
                abi.encode("stele/custody/1", block.chainid, RECORDS, author, keccak256(abi.encode(entries)))
            );
            if (!signedBy(custodian, message, storageSignature)) revert IRecords.BadStorageSignature(custodian);
        }
        for (uint256 i = 0; i < entries.length; i++) {
            IRecords.Entry calldata entry = entries[i];
            uint64 wanted = 0;
            for (uint256 at = 0; at < entry.categories.length; at++) wanted |= uint64(1) << uint8(entry.categories[at]);
            permit(entry.log, author, wanted);
            Log storage log = logs[entry.log];
            uint64 first = log.size;
            for (uint256 at = 0; at < entry.leaves.length; at++) append(log, entry.leaves[at]);
            if (log.custodian == address(0)) log.custodian = custodian;
            emit IRecords.Anchored(entry.log, author, first, bag(log), entry.categories, entry.leaves);
        }
    }

    function tombstone(address log, uint64 index, uint8 category, bytes32 leaf, uint8 reason, address author) external {
        if (category > 63) revert IRecords.InvalidCategory(0, category);
        checkAuthor(author);
        permit(log, author, uint64(1) << category);
        if (index >= logs[log].size) revert IRecords.UnknownRecord(log, index);
        uint64 at = logs[log].size;
        append(logs[log], leaf);
        emit IRecords.Tombstoned(log, index, at, reason, author, leaf);
    }

    function dispute(address log, uint64 index, uint8 reason) external {
        IIdentity.Account memory account = IDENTITY.account(msg.sender);
        if (account.kind != 0 && !IDENTITY.isActive(msg.sender)) revert IRecords.NotActive(msg.sender);
        uint8 owner = ownerKind(log);
        if (index >= logs[log].size) revert IRecords.UnknownRecord(log, index);
        address employer = account.kind == 2 ? account.sponsor : msg.sender;
        address custodian = logs[log].custodian;
        bool entitled = log == msg.sender || log == employer || custodian == msg.sender || custodian == employer;
        for (uint8 permission = 1; permission <= 4 && owner == 3; permission <<= 1) {
            entitled = entitled || CONSENT.openCategories(log, msg.sender, permission, 0) != 0;
        }
        if (!entitled) revert IRecords.NotPermitted(log, msg.sender, NO_CATEGORY);
        emit IRecords.Disputed(log, index, msg.sender, reason);
    }

    function transferCustody(address log, address to) external {
        if (!IDENTITY.isActive(msg.sender)) revert IRecords.NotActive(msg.sender);
        ownerKind(log);
        address from = logs[log].custodian;
        if (msg.sender != log && msg.sender != from) revert IRecords.NotCustodian(log, msg.sender);
        requireOrganization(to);
        if (from == to) revert IRecords.AlreadyCustodian(log, to);
        logs[log].custodian = to;
        emit IRecords.CustodyTransferred(log, from, to);
    }

    function logRoot(address log) external view returns (uint64 size, bytes32 root) {
        return (logs[log].size, bag(logs[log]));
    }

    function logPeaks(address log) external view returns (uint64 size, bytes32[] memory peaks) {
        return (logs[log].size, allPeaks(logs[log]));
    }

    function custodianOf(address log) external view returns (address) {
        return logs[log].custodian;
    }

    function verifyInclusion(address log, uint64 index, bytes32 leaf, bytes32[] calldata path) external view returns (bool) {
        uint64 size = logs[log].size;
        if (index >= size) return false;
        uint64 position = index;
        // The mountains are the powers of two that sum up to the size, the highest first.
        for (uint256 height = 64; height-- > 0;) {
            uint64 leaves = uint64(1) << uint64(height);
            if (size & leaves == 0) continue;
            if (position >= leaves) {
                position -= leaves;
                continue;
            }
            if (path.length != height) return false;
            bytes32 node = keccak256(abi.encodePacked(bytes1(0x00), leaf));
            for (uint256 i = 0; i < height; i++) {
                node = position >> i & 1 == 0 ? inner(node, path[i]) : inner(path[i], node);
            }
            return node == logs[log].peaks[height];
        }
        return false;
    }

    function checkShape(IRecords.Entry[] calldata entries) private view {
        if (entries.length == 0) revert IRecords.EmptyBatch();
        uint256 leaves = 0;
        for (uint256 i = 0; i < entries.length; i++) {
            if (entries[i].leaves.length == 0) revert IRecords.EmptyBatch();
            if (entries[i].leaves.length != entries[i].categories.length) revert IRecords.LengthMismatch(i);
            for (uint256 at = 0; at < entries[i].categories.length; at++) {
                uint8 category = uint8(entries[i].categories[at]);
                if (category > 63) revert IRecords.InvalidCategory(i, category);
            }
            leaves += entries[i].leaves.length;
        }
        uint256 max = GOVERNANCE.parameter("max_leaves");
        if (leaves > max) revert IRecords.BatchTooLarge(leaves, max);
    }

    /// The author is active, and the caller or a member or device of the calling organisation.
    function checkAuthor(address author) private view {
        if (!IDENTITY.isActive(author)) revert IRecords.NotActive(author);
        IIdentity.Account memory account = IDENTITY.account(author);
        bool employed = (account.kind == 2 || account.kind == 4) && account.sponsor == msg.sender;
        if (author != msg.sender && !employed) revert IRecords.NotAuthor(author, msg.sender);
    }

    function requireOrganization(address who) private view {
        IIdentity.Account memory account = IDENTITY.account(who);
        if (account.kind != 1) revert IRecords.NotAnOrganization(who);
        if (account.status != 1) revert IRecords.NotActive(who);
    }

    function signedBy(address who, bytes32 hash, bytes calldata signature) private view returns (bool) {
        if (signature.length != 65 || uint256(bytes32(signature[32:64])) > HALF_ORDER) return false;
        uint8 v = uint8(signature[64]);
        if (v < 27) v += 27;
        address signer = ecrecover(hash, v, bytes32(signature[:32]), bytes32(signature[32:64]));
        if (signer == address(0)) return false;
        (bool ok, uint8 kind,) = IDENTITY.speaksFor(who, bytes32(uint256(uint160(signer))));
        return ok && kind == 0;
    }

    /// Kind of the account whose log it is: a patient or an organisation.
    function ownerKind(address log) private view returns (uint8 kind) {
        kind = IDENTITY.account(log).kind;
        if (kind != 1 && kind != 3) revert IRecords.UnknownLog(log);
    }

    function permit(address log, address author, uint64 wanted) private view {
        uint64 open;
        if (ownerKind(log) == 3) {
            open = CONSENT.openCategories(log, author, WRITE, 0);
        } else {
            IIdentity.Account memory account = IDENTITY.account(author);
            open = author == log || (account.kind == 2 && account.sponsor == log) ? type(uint64).max : 0;
        }
        for (uint8 category = 0; category < 64; category++) {
            if ((wanted & ~open) >> category & 1 == 1) revert IRecords.NotPermitted(log, author, category);
        }
    }

    /// Two mountains of one height become one of the next, as in a binary counter.
    function append(Log storage log, bytes32 leaf) private {
        bytes32 node = keccak256(abi.encodePacked(bytes1(0x00), leaf));
        uint256 height = 0;
        for (; log.size >> height & 1 == 1; height++) node = inner(log.peaks[height], node);
        log.peaks[height] = node;
        log.size += 1;
    }

    function allPeaks(Log storage log) private view returns (bytes32[] memory peaks) {
        uint256 count = 0;
        for (uint64 rest = log.size; rest != 0; rest &= rest - 1) count++;
        peaks = new bytes32[](count);
        for (uint256 height = 0; height < 64; height++) {
            if (log.size >> height & 1 == 1) peaks[--count] = log.peaks[height];
        }
    }

    function bag(Log storage log) private view returns (bytes32) {
        if (log.size == 0) return 0;
        return keccak256(abi.encodePacked(bytes1(0x02), log.size, allPeaks(log)));
    }

    function inner(bytes32 left, bytes32 right) private pure returns (bytes32) {
        return keccak256(abi.encodePacked(bytes1(0x01), left, right));
    }
}
