// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.20;

/// @title Emergency: a clinician opens a record without leave, for a short time and in the open; somebody judges it later.
/// @notice System contract at 0x5e1e000000000000000000000000000000000006. What is opened is a grant in Consent.
interface IEmergency {
    event Opened(address indexed patient, address indexed clinician, uint64 indexed number, uint32 grantId, uint8 reason, bytes32 detailsDigest, uint40 until);
    event Reviewed(uint64 indexed number, address indexed patient, address indexed reviewer, uint8 verdict, bytes32 detailsDigest);

    error NotAClinician(address account);
    error NotAPatient(address account);
    error InvalidReason(uint8 reason);
    error InvalidPeriod(uint40 until);
    error AlreadyOpen(address patient, address clinician, uint40 until);
    error UnknownOpening(uint64 number);
    error NotAReviewer(address account);
    error AlreadyReviewed(uint64 number);
    error InvalidVerdict(uint8 verdict);
    error InvalidList(uint256 grantees, uint256 ids);

    /// @notice The calling doctor or nurse opens categories of a patient's record until `until`, at most four hours from
    /// now. Reason: 1 the patient cannot answer, 2 danger to life, 3 danger to another person, 4 other; the words are off
    /// chain under `detailsDigest`.
    function open(address patient, uint64 categories, uint8 reason, bytes32 detailsDigest, uint40 until) external returns (uint64 number);
    /// @notice An administrator or auditor of the clinician's organisation judges an opening: 1 justified, 2 not justified.
    function review(uint64 number, uint8 verdict, bytes32 detailsDigest) external;

    /// @notice The calling patient ends these grants of Consent at once, all or none: at most 64.
    function stopAll(address[] calldata grantees, uint32[] calldata ids) external;

    function opening(uint64 number) external view returns (address patient, address clinician, uint32 grantId, uint8 reason, uint8 verdict, uint40 until);
    function openingCount() external view returns (uint64);
}
