// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.20;

import {IConsent} from "../interfaces/IConsent.sol";

/// @title Claims: an insurer's contract that acts only while the patient lets it see what the claim is about.
/// @notice Nothing clinical is stored: a claim is the digest of documents that are kept elsewhere.
contract Claims {
    IConsent private constant CONSENT = IConsent(0x5E1e000000000000000000000000000000000003);
    /// Permission to read, and the purpose of payment, as IConsent numbers them.
    uint8 private constant READ = 1;
    uint16 private constant PAYMENT = 2;

    enum State {
        None,
        Filed,
        Settled
    }

    struct Claim {
        address patient;
        address provider;
        uint8 category;
        State state;
        bytes32 documents;
    }

    address public immutable insurer;
    Claim[] private claims;

    event Filed(uint256 indexed id, address indexed patient, address indexed provider, uint8 category, bytes32 documents);
    event Settled(uint256 indexed id, uint256 amount);

    error NoConsent(address patient, address who, uint8 category);
    error NotTheInsurer(address caller);
    error UnknownClaim(uint256 id);
    error AlreadySettled(uint256 id);

    constructor() {
        insurer = msg.sender;
    }

    /// @notice A provider files a claim about the patient's records of one category slot. Refused unless the patient now
    /// lets the insurer read that slot for payment.
    function file(address patient, uint8 category, bytes32 documents) external returns (uint256 id) {
        requireConsent(patient, category);
        id = claims.length;
        claims.push(Claim(patient, msg.sender, category, State.Filed, documents));
        emit Filed(id, patient, msg.sender, category, documents);
    }

    /// @notice The insurer settles a claim, if consent still stands.
    function settle(uint256 id, uint256 amount) external {
        if (msg.sender != insurer) revert NotTheInsurer(msg.sender);
        if (id >= claims.length) revert UnknownClaim(id);
        Claim storage claim = claims[id];
        if (claim.state == State.Settled) revert AlreadySettled(id);
        requireConsent(claim.patient, claim.category);
        claim.state = State.Settled;
        emit Settled(id, amount);
    }

    function claimOf(uint256 id) external view returns (Claim memory) {
        if (id >= claims.length) revert UnknownClaim(id);
        return claims[id];
    }

    function requireConsent(address patient, uint8 category) private view {
        if (!CONSENT.can(patient, insurer, category, READ, PAYMENT)) revert NoConsent(patient, insurer, category);
    }
}
