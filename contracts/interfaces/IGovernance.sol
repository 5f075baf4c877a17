// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.20;

/// @title Governance: the consortium's members decide by vote; one organisation has one vote.
/// @notice System contract at 0x5e1e000000000000000000000000000000000007.
interface IGovernance {
    /// Kinds of proposal: 1 admit organisation (address, uint8 kind, bytes32 endpointsDigest, bytes32 keysDigest),
    /// 2 suspend organisation (address), 3 reinstate organisation (address), 4 set parameter (bytes32 key, uint256 value),
    /// 5 allow or forbid an account to deploy contracts (address, bool),
    /// 6 set the validator (bytes32 ed25519 key, address organisation, bool seated). Payload is the ABI encoding.
    /// Status: 0 unknown, 1 open, 2 executed, 3 rejected, 4 expired.
    event Proposed(uint32 indexed id, address indexed proposer, uint8 kind, bytes payload, uint40 deadline);
    event Voted(uint32 indexed id, address indexed voter, bool support, uint16 yes, uint16 no, uint16 needed);
    event Executed(uint32 indexed id, uint8 kind);
    event Rejected(uint32 indexed id);
    event ParameterSet(bytes32 indexed key, uint256 value);
    event DeployerSet(address indexed account, bool allowed);
    event ValidatorSet(bytes32 indexed key, address indexed organization, bool seated);

    error NotAMember(address caller);
    error UnknownProposal(uint32 id);
    error NotOpen(uint32 id, uint8 status);
    error AlreadyVoted(uint32 id, address voter);
    error InvalidProposal(uint8 kind);
    error UnknownParameter(bytes32 key);
    error ParameterOutOfRange(bytes32 key, uint256 value, uint256 min, uint256 max);

    /// @notice An active organisation proposes and thereby votes yes. Passed when more than two thirds of the active
    /// organisations say yes; then it is executed in the same transaction.
    function propose(uint8 kind, bytes calldata payload) external returns (uint32 id);
    function vote(uint32 id, bool support) external;

    function proposal(uint32 id) external view returns (uint8 kind, uint8 status, address proposer, uint40 deadline, uint16 yes, uint16 no, bytes32 payloadDigest);
    function proposalCount() external view returns (uint32);
    function parameter(bytes32 key) external view returns (uint256);
    function mayDeploy(address account) external view returns (bool);
    function validatorCount() external view returns (uint32);
    function validatorAt(uint32 index) external view returns (bytes32 key, address organization, bool seated);
}
