-- What a person wants to be told of, and how.
CREATE TABLE notice_settings (account BLOB PRIMARY KEY, document BLOB NOT NULL) WITHOUT ROWID;

-- What a person was told at the portal. Nothing clinical; the source says what it came of, so that nothing is told twice.
CREATE TABLE notices (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account BLOB NOT NULL,
    source TEXT NOT NULL,
    document BLOB NOT NULL,
    at_ms INTEGER NOT NULL,
    UNIQUE (account, source)
);
CREATE INDEX notices_at ON notices (at_ms);

-- How far something has been followed: a height, a sequence number.
CREATE TABLE marks (name TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;

-- Tests that were ordered from a laboratory here: the slip, which is all that the laboratory sees of the record.
CREATE TABLE orders (
    id TEXT PRIMARY KEY,
    laboratory BLOB NOT NULL,
    document BLOB NOT NULL,
    is_open INTEGER NOT NULL,
    at_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX orders_laboratory ON orders (laboratory, is_open, at_ms);
