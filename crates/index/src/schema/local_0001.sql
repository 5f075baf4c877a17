-- What exists nowhere else. Never dropped by a rebuild.

-- SMART clients, by client id; the document is the registration as the service writes it.
CREATE TABLE clients (id TEXT PRIMARY KEY, document BLOB NOT NULL) WITHOUT ROWID;

-- Assertion ids that were used, so that none is accepted twice.
CREATE TABLE used_assertions (
    issuer TEXT NOT NULL,
    jti TEXT NOT NULL,
    expires_ms INTEGER NOT NULL,
    PRIMARY KEY (issuer, jti)
) WITHOUT ROWID;
CREATE INDEX used_assertions_expires ON used_assertions (expires_ms);

-- Sessions and drafts, by a digest of their secret id.
CREATE TABLE sessions (id BLOB PRIMARY KEY, document BLOB NOT NULL, expires_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX sessions_expires ON sessions (expires_ms);

-- Answers already given to requests that may be repeated.
CREATE TABLE answers (
    scope TEXT NOT NULL,
    key TEXT NOT NULL,
    answer BLOB NOT NULL,
    expires_ms INTEGER NOT NULL,
    PRIMARY KEY (scope, key)
) WITHOUT ROWID;
CREATE INDEX answers_expires ON answers (expires_ms);

-- Access receipts: RLP of each, its digest, and the hash chain's head after it.
CREATE TABLE receipts (
    organization BLOB NOT NULL,
    sequence INTEGER NOT NULL,
    receipt BLOB NOT NULL,
    head BLOB NOT NULL,
    log BLOB NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (organization, sequence)
) WITHOUT ROWID;
CREATE INDEX receipts_log ON receipts (log, at_ms);

-- Work to be done later: messages and notices, in order of when they are due.
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    queue TEXT NOT NULL,
    payload BLOB NOT NULL,
    due_ms INTEGER NOT NULL,
    attempts INTEGER NOT NULL
);
CREATE INDEX outbox_due ON outbox (queue, due_ms, id);

-- Work begun: what a reconciler finishes after a crash.
CREATE TABLE journal (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    state BLOB NOT NULL
);
CREATE INDEX journal_kind ON journal (kind, id);
