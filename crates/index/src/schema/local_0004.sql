-- Doctors who registered themselves and whose licence an organisation has yet to verify, or has verified or declined.
-- The credential is the passkey that they made; the document is what they claim and where it stands.
CREATE TABLE applications (
    id BLOB PRIMARY KEY,
    organization BLOB NOT NULL,
    credential BLOB NOT NULL UNIQUE,
    document BLOB NOT NULL,
    expires_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX applications_organization ON applications (organization);

-- What somebody was writing and has not sent, by who writes and where.
CREATE TABLE drafts (
    owner BLOB NOT NULL,
    place TEXT NOT NULL,
    document BLOB NOT NULL,
    expires_ms INTEGER NOT NULL,
    PRIMARY KEY (owner, place)
) WITHOUT ROWID;

-- Acts of administration, by the place of their receipt in the organisation's sequence, which holds their digest.
CREATE TABLE acts (
    organization BLOB NOT NULL,
    sequence INTEGER NOT NULL,
    document BLOB NOT NULL,
    PRIMARY KEY (organization, sequence)
) WITHOUT ROWID;
