// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.20;

/// @title Identity: organisations, their members, patients, and the keys that speak for an account.
/// @notice System contract at 0x5e1e000000000000000000000000000000000001. Pseudonymous: no names, no codes.
interface IIdentity {
    /// Kinds of account: 0 none, 1 organisation, 2 member (practitioner, staff), 3 patient, 4 device.
    /// Status: 0 unknown, 1 active, 2 suspended, 3 closed.
    struct Account {
        uint8 kind;
        uint8 status;
        /// Organisation that vouches for the account; for an organisation, itself.
        address sponsor;
        /// Bit set of roles (see ROLE_* in the specification).
        uint32 roles;
        /// True when the key whose address is the account no longer speaks for it.
        bool ownKeyRemoved;
        /// Number of added keys (passkeys and secp256k1) that speak for the account.
        uint16 keys;
    }

    event OrganizationRegistered(address indexed organization, uint8 kind, bytes32 endpointsDigest, bytes32 keysDigest);
    event OrganizationUpdated(address indexed organization, bytes32 endpointsDigest, bytes32 keysDigest);
    event AccountRegistered(address indexed account, uint8 kind, address indexed sponsor, uint32 roles, bytes32 commitment);
    event AccountUpdated(address indexed account, uint8 status, uint32 roles, bytes32 commitment);
    event OriginAllowed(address indexed organization, bytes32 indexed originDigest, bool allowed);
    event KeyAdded(address indexed account, bytes32 indexed keyId, uint8 kind, bytes32 rpIdHash);
    event KeyRemoved(address indexed account, bytes32 indexed keyId);
    event AccountClaimed(address indexed account, bytes32 indexed keyId);

    error NotAnOrganization(address account);
    error NotActive(address account);
    error NotSponsor(address account, address caller);
    error AlreadyRegistered(address account);
    error UnknownAccount(address account);
    error InvalidKind(uint8 kind);
    error UnknownKey(address account, bytes32 keyId);
    error KeyExists(address account, bytes32 keyId);
    error LastKey(address account);
    error TooManyKeys(address account);
    error InvalidAccount(address account);
    error InvalidKey(bytes32 keyId);
    error InvalidStatus(uint8 status);
    error AlreadyClaimed(address account);

    /// @notice The calling organisation replaces its digests of endpoints and public keys.
    function updateOrganization(bytes32 endpointsDigest, bytes32 keysDigest) external;
    /// @notice The calling organisation allows or forbids a web origin (keccak256 of its serialisation) for passkeys.
    function allowOrigin(bytes32 originDigest, bool allowed) external;
    /// @notice An active organisation registers a member of staff. `licence` is a salted commitment.
    function registerMember(address member, uint32 roles, bytes32 licence) external;
    /// @notice The sponsor changes status (1 to 3; 3 is final), roles and commitment of its member or device. Acts in its block.
    function updateMember(address member, uint8 status, uint32 roles, bytes32 licence) external;
    /// @notice An active organisation registers a patient's pseudonymous account.
    function registerPatient(address patient, bytes32 directoryRoot) external;
    /// @notice An active organisation registers a device that may write for patients who grant it.
    function registerDevice(address device, bytes32 commitment) external;
    /// @notice The caller's account gains a key. kind 0: secp256k1 (keyId is the left-padded address),
    /// kind 1: passkey (keyId is keccak256(x, y) of the P-256 key; rpIdHash is SHA-256 of the RP ID).
    function addKey(bytes32 keyId, uint8 kind, bytes32 rpIdHash) external;
    /// @notice The caller's account loses a key; never the last one. keyId of the account's own address removes it.
    function removeKey(bytes32 keyId) external;
    /// @notice A managed patient takes the account over: the key becomes its only one (the account's own key and every
    /// added key stop speaking for it) and a new key directory is published, in one step. A passkey names its relying
    /// party; with rpIdHash zero the key is secp256k1 and keyId its left-padded address.
    function claim(bytes32 keyId, bytes32 rpIdHash, bytes32 directoryRoot) external;

    function account(address who) external view returns (Account memory);
    /// @notice Whether the account is active; for members and devices also their organisation.
    function isActive(address who) external view returns (bool);
    /// @notice Organisation of a member, patient or device, or the organisation itself; zero when unknown.
    function organizationOf(address who) external view returns (address);
    function organization(address who) external view returns (uint8 kind, uint8 status, bytes32 endpointsDigest, bytes32 keysDigest);
    function organizationCount() external view returns (uint64 registered, uint64 active);
    function organizationAt(uint64 index) external view returns (address);
    /// @notice Whether the key speaks for the account now.
    function speaksFor(address who, bytes32 keyId) external view returns (bool ok, uint8 kind, bytes32 rpIdHash);
    function originAllowed(address organization_, bytes32 originDigest) external view returns (bool);
    /// @notice Salted commitment given at registration (licence of a member).
    function commitmentOf(address who) external view returns (bytes32);
}
