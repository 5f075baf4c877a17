-- Passkeys that people sign in with, by credential id; the document is what the service knows of each.
CREATE TABLE passkeys (
    credential BLOB PRIMARY KEY,
    account BLOB NOT NULL,
    document BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX passkeys_account ON passkeys (account);
