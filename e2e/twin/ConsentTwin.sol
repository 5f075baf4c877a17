// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.20;

import {IConsent} from "../../contracts/interfaces/IConsent.sol";
import {IIdentity} from "../../contracts/interfaces/IIdentity.sol";

/// @title ConsentTwin: Consent's rules once more, in Solidity and written from its specification, as an oracle for the
/// native contract. Storage is laid out as is convenient.
contract ConsentTwin {
    IIdentity private constant IDENTITY = IIdentity(0x5e1e000000000000000000000000000000000001);
    uint256 private constant GRANTS_MAX = 16;
    uint8 private constant PERMISSIONS = 7;
    uint16 private constant PURPOSES = 0x7f;
    address private constant CONSENT = 0x5E1e000000000000000000000000000000000003;
    uint256 private constant HALF_ORDER = 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0;
    bytes32 private constant DOMAIN =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 private constant GRANT = keccak256(
        "Grant(address patient,address grantee,uint64 categories,uint8 permissions,uint16 purposes,uint40 notBefore,uint40 expires,uint16 recordsFrom,uint16 recordsTo,bytes32 envelopeDigest,uint32 request,uint64 nonce,uint40 deadline)"
    );
    bytes32 private constant REVOKE =
        keccak256("Revoke(address patient,address grantee,uint32 id,bytes32 directoryRoot,uint64 nonce,uint40 deadline)");

    struct Grant {
        uint32 serial;
        bool ended;
        IConsent.Terms terms;
    }

    struct Request {
        address requester;
        uint8 status;
        uint40 expires;
    }

    mapping(address patient => mapping(address grantee => Grant[])) private grants;
    mapping(address patient => Request[]) private requests;
    mapping(address patient => mapping(address requester => uint32[4])) private recent;
    mapping(address patient => bytes32) public directoryRoot;
    mapping(address patient => uint64) public signatureNonce;

    function grant(address grantee, IConsent.Terms calldata terms, bytes32 envelopeDigest, uint32 answered)
        external
        returns (uint32 id)
    {
        requirePatient(msg.sender);
        return give(msg.sender, grantee, terms, envelopeDigest, answered);
    }

    function grantBySig(
        address patient,
        address grantee,
        IConsent.Terms calldata terms,
        bytes32 envelopeDigest,
        uint32 answered,
        uint64 nonce,
        uint40 deadline,
        bytes calldata signature
    ) external returns (uint32) {
        requirePatient(patient);
        bytes32 message = keccak256(bytes.concat(
            abi.encode(GRANT, patient, grantee, terms),
            abi.encode(envelopeDigest, answered, nonce, deadline)
        ));
        authorize(patient, message, nonce, deadline, signature);
        return give(patient, grantee, terms, envelopeDigest, answered);
    }

    function revokeBySig(
        address patient,
        address grantee,
        uint32 id,
        bytes32 root,
        uint64 nonce,
        uint40 deadline,
        bytes calldata signature
    ) external {
        requirePatient(patient);
        authorize(patient, keccak256(abi.encode(REVOKE, patient, grantee, id, root, nonce, deadline)), nonce, deadline, signature);
        end(patient, grantee, id, root);
    }

    function DOMAIN_SEPARATOR() public view returns (bytes32) {
        return keccak256(abi.encode(DOMAIN, keccak256("Stele Consent"), keccak256("1"), block.chainid, CONSENT));
    }

    function revoke(address grantee, uint32 id, bytes32 root) external {
        requirePatient(msg.sender);
        end(msg.sender, grantee, id, root);
    }

    function renounce(address patient, uint32 id) external {
        if (barred(msg.sender)) revert IConsent.NotActive(msg.sender);
        end(patient, msg.sender, id, 0);
    }

    function request(address patient, bytes32 detailsDigest, uint40 expires) external returns (uint32 id) {
        if (!IDENTITY.isActive(msg.sender)) revert IConsent.NotActive(msg.sender);
        requirePatient(patient);
        if (expires <= block.timestamp) revert IConsent.InvalidPeriod(uint40(block.timestamp), expires);
        uint32[4] storage last = recent[patient][msg.sender];
        for (uint256 i = 0; i < 4; i++) {
            if (last[i] != 0 && statusOf(patient, last[i]) == 1) continue;
            requests[patient].push(Request(msg.sender, 1, expires));
            id = uint32(requests[patient].length);
            last[i] = id;
            emit IConsent.Requested(patient, msg.sender, id, detailsDigest, expires);
            return id;
        }
        revert IConsent.TooManyRequests(patient, msg.sender);
    }

    function decline(uint32 id) external {
        requirePatient(msg.sender);
        address requester = close(msg.sender, id, 3);
        emit IConsent.Declined(msg.sender, requester, id);
    }

    function publishDirectory(bytes32 root) external {
        requirePatient(msg.sender);
        publish(msg.sender, root);
    }

    function can(address patient, address who, uint8 category, uint8 permission, uint16 purpose) external view returns (bool) {
        return category < 64 && open(patient, who, permission, purpose, -1) >> category & 1 == 1;
    }

    function canAt(address patient, address who, uint8 category, uint8 permission, uint16 purpose, uint16 month)
        external
        view
        returns (bool)
    {
        return category < 64 && open(patient, who, permission, purpose, int256(uint256(month))) >> category & 1 == 1;
    }

    function openCategories(address patient, address who, uint8 permission, uint16 purpose) external view returns (uint64) {
        return open(patient, who, permission, purpose, -1);
    }

    function grantAt(address patient, address grantee, uint8 index)
        external
        view
        returns (uint32 id, bool revoked, IConsent.Terms memory terms)
    {
        Grant[] storage all = grants[patient][grantee];
        if (index >= all.length) return (0, false, terms);
        return (uint32(index) << 24 | all[index].serial, all[index].ended, all[index].terms);
    }

    function requestOf(address patient, uint32 id) external view returns (address requester, uint8 status, uint40 expires) {
        if (id == 0 || id > requests[patient].length) return (address(0), 0, 0);
        Request storage asked = requests[patient][id - 1];
        return (asked.requester, statusOf(patient, id), asked.expires);
    }

    function give(address patient, address grantee, IConsent.Terms calldata terms, bytes32 envelopeDigest, uint32 answered)
        private
        returns (uint32 id)
    {
        if (grantee == patient || grantee == address(0) || reserved(grantee)) revert IConsent.InvalidGrantee(grantee);
        check(terms);
        if (answered != 0) close(patient, answered, 2);
        id = place(patient, grantee, terms);
        emit IConsent.Granted(patient, grantee, id, terms, envelopeDigest, answered);
    }

    /// In time, next in order, by a key that speaks for the patient; then the number is used up.
    function authorize(address patient, bytes32 message, uint64 nonce, uint40 deadline, bytes calldata signature) private {
        if (block.timestamp > deadline) revert IConsent.SignatureExpired(deadline);
        if (nonce != signatureNonce[patient]) revert IConsent.BadNonce(signatureNonce[patient], nonce);
        address signer = recover(keccak256(abi.encodePacked(hex"1901", DOMAIN_SEPARATOR(), message)), signature);
        if (signer == address(0)) revert IConsent.BadSignature(signer);
        (bool ok, uint8 kind,) = IDENTITY.speaksFor(patient, bytes32(uint256(uint160(signer))));
        if (!ok || kind != 0) revert IConsent.BadSignature(signer);
        signatureNonce[patient] += 1;
    }

    function recover(bytes32 hash, bytes calldata signature) private pure returns (address) {
        if (signature.length != 65 || uint256(bytes32(signature[32:64])) > HALF_ORDER) return address(0);
        uint8 v = uint8(signature[64]);
        return ecrecover(hash, v < 27 ? v + 27 : v, bytes32(signature[:32]), bytes32(signature[32:64]));
    }

    function check(IConsent.Terms calldata terms) private view {
        if (terms.categories == 0 || terms.permissions == 0 || terms.purposes == 0) revert IConsent.EmptyTerms();
        if (terms.permissions & ~PERMISSIONS != 0 || terms.purposes & ~PURPOSES != 0) {
            revert IConsent.UnknownTerms(terms.permissions, terms.purposes);
        }
        if (terms.notBefore >= terms.expires || terms.expires <= block.timestamp) {
            revert IConsent.InvalidPeriod(terms.notBefore, terms.expires);
        }
        if (terms.recordsFrom > terms.recordsTo) revert IConsent.InvalidRecordsPeriod(terms.recordsFrom, terms.recordsTo);
    }

    /// The first place that was never used or whose grant is over.
    function place(address patient, address grantee, IConsent.Terms calldata terms) private returns (uint32) {
        Grant[] storage all = grants[patient][grantee];
        for (uint256 i = 0; i < GRANTS_MAX; i++) {
            if (i == all.length) all.push();
            else if (!all[i].ended && block.timestamp < all[i].terms.expires) continue;
            all[i].serial += 1;
            all[i].ended = false;
            all[i].terms = terms;
            return uint32(i) << 24 | all[i].serial;
        }
        revert IConsent.TooManyGrants(patient, grantee);
    }

    function end(address patient, address grantee, uint32 id, bytes32 root) private {
        Grant[] storage all = grants[patient][grantee];
        uint256 index = id >> 24;
        if (index >= all.length || all[index].serial != id & 0xffffff) revert IConsent.UnknownGrant(patient, grantee, id);
        if (all[index].ended) revert IConsent.AlreadyRevoked(patient, grantee, id);
        all[index].ended = true;
        emit IConsent.Revoked(patient, grantee, id, root);
        if (root != 0) publish(patient, root);
    }

    function publish(address patient, bytes32 root) private {
        directoryRoot[patient] = root;
        emit IConsent.DirectoryPublished(patient, root);
    }

    function close(address patient, uint32 id, uint8 status) private returns (address) {
        uint8 now_ = statusOf(patient, id);
        if (now_ == 0) revert IConsent.UnknownRequest(patient, id);
        if (now_ != 1) revert IConsent.RequestClosed(patient, id);
        requests[patient][id - 1].status = status;
        return requests[patient][id - 1].requester;
    }

    function statusOf(address patient, uint32 id) private view returns (uint8) {
        if (id == 0 || id > requests[patient].length) return 0;
        Request storage asked = requests[patient][id - 1];
        return asked.status == 1 && asked.expires <= block.timestamp ? 4 : asked.status;
    }

    function open(address patient, address who, uint8 permission, uint16 purpose, int256 month) private view returns (uint64 all) {
        if (permission == 0 || barred(who)) return 0;
        IIdentity.Account memory account = IDENTITY.account(who);
        if (who == patient) return account.kind == 3 ? type(uint64).max : 0;
        all = scan(patient, who, permission, purpose, month);
        if (account.kind == 2) all |= scan(patient, account.sponsor, permission, purpose, month);
    }

    function scan(address patient, address grantee, uint8 permission, uint16 purpose, int256 month)
        private
        view
        returns (uint64 all)
    {
        Grant[] storage given = grants[patient][grantee];
        for (uint256 i = 0; i < given.length; i++) {
            IConsent.Terms storage terms = given[i].terms;
            bool live = !given[i].ended && terms.notBefore <= block.timestamp && block.timestamp < terms.expires;
            bool within = month < 0 || (int256(uint256(terms.recordsFrom)) <= month && month <= int256(uint256(terms.recordsTo)));
            bool asked = terms.permissions & permission == permission && terms.purposes & purpose == purpose;
            if (live && within && asked) all |= terms.categories;
        }
    }

    function requirePatient(address who) private view {
        IIdentity.Account memory account = IDENTITY.account(who);
        if (account.kind != 3) revert IConsent.NotAPatient(who);
        if (account.status != 1) revert IConsent.NotActive(who);
    }

    /// Registered, and not active: suspended, closed, or of an organisation that is.
    function barred(address who) private view returns (bool) {
        return IDENTITY.account(who).kind != 0 && !IDENTITY.isActive(who);
    }

    function reserved(address who) private pure returns (bool) {
        return uint160(who) >> 8 == uint160(0x5E1e) << 136;
    }
}
