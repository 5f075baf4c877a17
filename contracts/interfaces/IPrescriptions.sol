// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.20;

/// @title Prescriptions: issued once, dispensed at most once in all, in parts or whole; what is prescribed stays off chain.
/// @notice System contract at 0x5e1e000000000000000000000000000000000005. A prescription's id is the address of a key
/// made for it alone; the key is in the code that the patient shows, so only who was shown the code can dispense.
interface IPrescriptions {
    event Issued(address indexed id, address indexed prescriber, bytes32 commitment, uint16 portions, uint40 expires);
    event Dispensed(address indexed id, address indexed dispenser, uint16 sequence, uint16 portions, uint16 left);
    event Cancelled(address indexed id, address indexed by);

    error NotAPrescriber(address account);
    error NotADispenser(address account);
    error InvalidId(address id);
    error AlreadyIssued(address id);
    error EmptyPrescription();
    error InvalidExpiry(uint40 expires);
    error UnknownPrescription(address id);
    error PrescriptionCancelled(address id);
    error AlreadyDispensed(address id);
    error PrescriptionExpired(address id, uint40 expires);
    error OutOfSequence(address id, uint16 expected, uint16 given);
    error TooManyPortions(address id, uint16 left, uint16 asked);
    error BadSignature(address signer);
    error NotItsPrescriber(address account);

    /// @notice The calling doctor issues. `commitment` is a salted digest of what is prescribed; what a portion is, only
    /// that text says. `expires` is the first Unix second at which nothing is dispensed any more.
    function issue(address id, bytes32 commitment, uint16 portions, uint40 expires) external;
    /// @notice The calling pharmacist dispenses `portions`. `sequence` is the number of dispensings so far; `signature`
    /// is the prescription's key's over EIP-712 `Dispense`, 65 bytes r, s, v.
    function dispense(address id, uint16 sequence, uint16 portions, bytes calldata signature) external returns (uint16 left);
    /// @notice The prescriber, or the organisation that vouches for the prescriber, ends what is left.
    function cancel(address id) external;

    /// @notice Status: 0 unknown, 1 issued, 2 cancelled.
    function prescription(address id) external view returns (address prescriber, bytes32 commitment, uint16 portions, uint16 dispensed, uint16 sequence, uint8 status, uint40 expires);
    /// @notice Whether something may be dispensed now against this text. Verdict: 0 yes, 1 unknown, 2 another text was
    /// issued under this id, 3 cancelled, 4 all dispensed, 5 expired.
    function verify(address id, bytes32 commitment) external view returns (uint8 verdict, uint16 left);
    function DOMAIN_SEPARATOR() external view returns (bytes32);
}
