-- What the ledger says, followed block by block and rebuilt from it alone. Addresses 20 bytes, hashes 32.

-- One row: how far the chain is followed.
CREATE TABLE followed (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    height INTEGER NOT NULL,
    hash BLOB NOT NULL,
    time_ms INTEGER NOT NULL
);

-- Transactions that left an event, to say when and by which transaction something happened.
CREATE TABLE transactions (
    id INTEGER PRIMARY KEY,
    hash BLOB NOT NULL,
    height INTEGER NOT NULL,
    time_ms INTEGER NOT NULL
);

CREATE TABLE accounts (
    address BLOB PRIMARY KEY,
    kind INTEGER NOT NULL,
    status INTEGER NOT NULL,
    sponsor BLOB NOT NULL,
    roles INTEGER NOT NULL,
    commitment BLOB NOT NULL,
    tx INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX accounts_sponsor ON accounts (sponsor, kind);

CREATE TABLE organizations (
    address BLOB PRIMARY KEY,
    kind INTEGER NOT NULL,
    endpoints BLOB NOT NULL,
    keys BLOB NOT NULL,
    tx INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE origins (
    organization BLOB NOT NULL,
    digest BLOB NOT NULL,
    PRIMARY KEY (organization, digest)
) WITHOUT ROWID;

-- Keys that speak for an account; is_removed also marks an account's own key as no longer speaking for it.
CREATE TABLE account_keys (
    account BLOB NOT NULL,
    key BLOB NOT NULL,
    kind INTEGER NOT NULL,
    rp_id_hash BLOB NOT NULL,
    is_removed INTEGER NOT NULL,
    PRIMARY KEY (account, key)
) WITHOUT ROWID;

-- One row for each part of a batch; `slots` has one byte and `leaves` 32 bytes for each record.
CREATE TABLE anchors (
    log BLOB NOT NULL,
    first INTEGER NOT NULL,
    root BLOB NOT NULL,
    author BLOB NOT NULL,
    slots BLOB NOT NULL,
    leaves BLOB NOT NULL,
    tx INTEGER NOT NULL,
    PRIMARY KEY (log, first)
) WITHOUT ROWID;

-- Erasures and deletions: `leaf` is the index of the record's leaf, `at` that of the tombstone's own.
CREATE TABLE tombstones (
    log BLOB NOT NULL,
    leaf INTEGER NOT NULL,
    at INTEGER NOT NULL,
    reason INTEGER NOT NULL,
    author BLOB NOT NULL,
    hash BLOB NOT NULL,
    tx INTEGER NOT NULL,
    PRIMARY KEY (log, leaf)
) WITHOUT ROWID;
CREATE UNIQUE INDEX tombstones_at ON tombstones (log, at);

CREATE TABLE disputes (
    log BLOB NOT NULL,
    leaf INTEGER NOT NULL,
    by BLOB NOT NULL,
    reason INTEGER NOT NULL,
    tx INTEGER NOT NULL
);
CREATE INDEX disputes_log ON disputes (log, leaf);

CREATE TABLE custody (log BLOB PRIMARY KEY, custodian BLOB NOT NULL, tx INTEGER NOT NULL) WITHOUT ROWID;

-- Grants, ended ones included. `categories` is the bit set as a signed integer of the same 64 bits.
CREATE TABLE grants (
    patient BLOB NOT NULL,
    grantee BLOB NOT NULL,
    id INTEGER NOT NULL,
    categories INTEGER NOT NULL,
    permissions INTEGER NOT NULL,
    purposes INTEGER NOT NULL,
    not_before INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    records_from INTEGER NOT NULL,
    records_to INTEGER NOT NULL,
    envelope BLOB NOT NULL,
    request INTEGER NOT NULL,
    tx INTEGER NOT NULL,
    revoked_tx INTEGER,
    PRIMARY KEY (patient, grantee, id)
) WITHOUT ROWID;
CREATE INDEX grants_grantee ON grants (grantee);

-- status: 1 open, 2 granted, 3 declined.
CREATE TABLE requests (
    patient BLOB NOT NULL,
    id INTEGER NOT NULL,
    requester BLOB NOT NULL,
    details BLOB NOT NULL,
    expires INTEGER NOT NULL,
    status INTEGER NOT NULL,
    tx INTEGER NOT NULL,
    closed_tx INTEGER,
    PRIMARY KEY (patient, id)
) WITHOUT ROWID;
CREATE INDEX requests_requester ON requests (requester);

CREATE TABLE directories (patient BLOB PRIMARY KEY, root BLOB NOT NULL, tx INTEGER NOT NULL) WITHOUT ROWID;

CREATE TABLE receipt_batches (
    organization BLOB NOT NULL,
    first INTEGER NOT NULL,
    count INTEGER NOT NULL,
    root BLOB NOT NULL,
    head BLOB NOT NULL,
    tx INTEGER NOT NULL,
    PRIMARY KEY (organization, first)
) WITHOUT ROWID;

-- status: 1 open, 2 executed, 3 rejected; an open one past its deadline has expired.
CREATE TABLE proposals (
    id INTEGER PRIMARY KEY,
    proposer BLOB NOT NULL,
    kind INTEGER NOT NULL,
    payload BLOB NOT NULL,
    deadline INTEGER NOT NULL,
    status INTEGER NOT NULL,
    tx INTEGER NOT NULL
);
CREATE TABLE votes (
    proposal INTEGER NOT NULL,
    voter BLOB NOT NULL,
    is_yes INTEGER NOT NULL,
    tx INTEGER NOT NULL,
    PRIMARY KEY (proposal, voter)
) WITHOUT ROWID;
CREATE TABLE parameters (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE deployers (account BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE validators (key BLOB PRIMARY KEY, organization BLOB NOT NULL) WITHOUT ROWID;
