// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.20;

/// @title Consent: who may read, write or share which of a patient's records, until when and why.
/// @notice System contract at 0x5e1e000000000000000000000000000000000003.
interface IConsent {
    /// What a grant says. Categories are a bit set over the patient's secret category slots.
    /// Permissions: 1 read, 2 write, 4 share. Purposes: bit set (1 treatment, 2 payment, 4 research,
    /// 8 emergency treatment, 16 patient's request, 32 operations, 64 public health). Times are Unix seconds;
    /// recordsFrom and recordsTo are months since January 1970 of sealing, inclusive.
    struct Terms {
        uint64 categories;
        uint8 permissions;
        uint16 purposes;
        uint40 notBefore;
        uint40 expires;
        uint16 recordsFrom;
        uint16 recordsTo;
    }

    event Granted(address indexed patient, address indexed grantee, uint32 indexed id, Terms terms, bytes32 envelopeDigest, uint32 request);
    event Revoked(address indexed patient, address indexed grantee, uint32 indexed id, bytes32 directoryRoot);
    event Requested(address indexed patient, address indexed requester, uint32 indexed request, bytes32 detailsDigest, uint40 expires);
    event Declined(address indexed patient, address indexed requester, uint32 indexed request);
    event DirectoryPublished(address indexed patient, bytes32 directoryRoot);

    error NotAPatient(address account);
    error NotActive(address account);
    error InvalidGrantee(address grantee);
    error EmptyTerms();
    error UnknownTerms(uint8 permissions, uint16 purposes);
    error InvalidPeriod(uint40 notBefore, uint40 expires);
    error InvalidRecordsPeriod(uint16 recordsFrom, uint16 recordsTo);
    error TooManyGrants(address patient, address grantee);
    error UnknownGrant(address patient, address grantee, uint32 id);
    error AlreadyRevoked(address patient, address grantee, uint32 id);
    error UnknownRequest(address patient, uint32 request);
    error RequestClosed(address patient, uint32 request);
    error TooManyRequests(address patient, address requester);
    error SignatureExpired(uint40 deadline);
    error BadSignature(address signer);
    error BadNonce(uint64 expected, uint64 given);

    /// @notice The calling patient grants. `envelopeDigest` commits to the key envelope handed over off chain;
    /// `request` is the request answered, or 0.
    function grant(address grantee, Terms calldata terms, bytes32 envelopeDigest, uint32 request) external returns (uint32 id);
    /// @notice As `grant`, signed by the patient with EIP-712 and sent by anyone.
    function grantBySig(address patient, address grantee, Terms calldata terms, bytes32 envelopeDigest, uint32 request, uint64 nonce, uint40 deadline, bytes calldata signature) external returns (uint32 id);
    /// @notice The calling patient revokes. `directoryRoot` publishes the next generation of keys, or is zero to keep it.
    function revoke(address grantee, uint32 id, bytes32 directoryRoot) external;
    /// @notice As `revoke`, signed by the patient with EIP-712 and sent by anyone.
    function revokeBySig(address patient, address grantee, uint32 id, bytes32 directoryRoot, uint64 nonce, uint40 deadline, bytes calldata signature) external;
    /// @notice A grantee gives its grant back.
    function renounce(address patient, uint32 id) external;
    /// @notice An active account asks a patient for access; what it asks for is off chain under `detailsDigest`.
    function request(address patient, bytes32 detailsDigest, uint40 expires) external returns (uint32 id);
    /// @notice The calling patient declines a request.
    function decline(uint32 request) external;
    /// @notice The calling patient publishes the root of its public-key directory.
    function publishDirectory(bytes32 directoryRoot) external;

    /// @notice Whether `who` (or the organisation it is an active member of) may now do this to the category slot: one grant
    /// has all bits asked. Purpose 0 asks for none in particular.
    function can(address patient, address who, uint8 category, uint8 permission, uint16 purpose) external view returns (bool);
    /// @notice As `can`, and the record's sealing month lies within the grant.
    function canAt(address patient, address who, uint8 category, uint8 permission, uint16 purpose, uint16 month) external view returns (bool);
    /// @notice All category slots open to `who` now for this permission and purpose, as a bit set.
    function openCategories(address patient, address who, uint8 permission, uint16 purpose) external view returns (uint64);
    function grantAt(address patient, address grantee, uint8 index) external view returns (uint32 id, bool revoked, Terms memory terms);
    function requestOf(address patient, uint32 request) external view returns (address requester, uint8 status, uint40 expires);
    function directoryRoot(address patient) external view returns (bytes32);
    function signatureNonce(address patient) external view returns (uint64);
    function DOMAIN_SEPARATOR() external view returns (bytes32);
}
