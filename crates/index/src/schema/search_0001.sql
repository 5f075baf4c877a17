-- Search values of the resources that this organisation may open.
-- Rebuilt from the vault; holds nothing that is not there.

CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;

-- Logs: patients' and organisations' addresses (20 bytes).
CREATE TABLE accounts (id INTEGER PRIMARY KEY, address BLOB NOT NULL UNIQUE);

-- Resources by type and logical id, existing or only referred to; type 0: a URI, in full.
CREATE TABLE names (
    id INTEGER PRIMARY KEY,
    type INTEGER NOT NULL,
    logical TEXT NOT NULL,
    UNIQUE (logical, type)
);

-- Codes and identifiers with their system and normalised words; units of measured amounts. Absent parts are ''.
CREATE TABLE concepts (
    id INTEGER PRIMARY KEY,
    system TEXT NOT NULL,
    code TEXT NOT NULL,
    text TEXT NOT NULL,
    UNIQUE (code, system, text)
);
CREATE INDEX concepts_system ON concepts (system);
CREATE INDEX concepts_text ON concepts (text);

-- Newest version of each resource. The id is that of its name, so a reference leads here without a detour.
CREATE TABLE resources (
    id INTEGER PRIMARY KEY,
    type INTEGER NOT NULL,
    version INTEGER NOT NULL,
    record BLOB NOT NULL,
    log INTEGER NOT NULL,
    leaf INTEGER NOT NULL,
    is_patients INTEGER NOT NULL,
    slot INTEGER NOT NULL,
    category INTEGER NOT NULL,
    month INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    clinical_ms INTEGER,
    is_deleted INTEGER NOT NULL
);
CREATE INDEX resources_type ON resources (type);
CREATE INDEX resources_record ON resources (record);
CREATE INDEX resources_log ON resources (log, type);

-- All versions, the newest included.
CREATE TABLE versions (
    resource INTEGER NOT NULL,
    version INTEGER NOT NULL,
    log INTEGER NOT NULL,
    leaf INTEGER NOT NULL,
    is_patients INTEGER NOT NULL,
    slot INTEGER NOT NULL,
    category INTEGER NOT NULL,
    month INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    clinical_ms INTEGER,
    is_deleted INTEGER NOT NULL,
    PRIMARY KEY (resource, version)
) WITHOUT ROWID;
CREATE UNIQUE INDEX versions_leaf ON versions (log, leaf);

-- Search values of newest versions. `pt` is resource type * 65536 + parameter. Each table is ordered by resource
-- (to test one, to sort, to delete) and has an index by value (to find).
CREATE TABLE tokens (
    resource INTEGER NOT NULL,
    pt INTEGER NOT NULL,
    concept INTEGER NOT NULL,
    PRIMARY KEY (resource, pt, concept)
) WITHOUT ROWID;
CREATE UNIQUE INDEX tokens_value ON tokens (pt, concept, resource);

CREATE TABLE refs (
    resource INTEGER NOT NULL,
    pt INTEGER NOT NULL,
    target INTEGER NOT NULL,
    PRIMARY KEY (resource, pt, target)
) WITHOUT ROWID;
CREATE UNIQUE INDEX refs_value ON refs (target, pt, resource);

CREATE TABLE strings (
    resource INTEGER NOT NULL,
    pt INTEGER NOT NULL,
    value TEXT NOT NULL,
    exact TEXT NOT NULL,
    PRIMARY KEY (resource, pt, value, exact)
) WITHOUT ROWID;
CREATE INDEX strings_value ON strings (pt, value, resource);

-- Dates (whole milliseconds, half-open), numbers and quantities (closed); concept 0: no unit.
CREATE TABLE ranges (
    resource INTEGER NOT NULL,
    pt INTEGER NOT NULL,
    low NOT NULL,
    high NOT NULL,
    concept INTEGER NOT NULL,
    PRIMARY KEY (resource, pt, low, high, concept)
) WITHOUT ROWID;
CREATE INDEX ranges_value ON ranges (pt, low, high, resource);

-- One row for each combination of values, three components at most (FHIR R4 has no composite of more).
-- vN: id of a concept or name, or a text; lN, hN: bounds.
CREATE TABLE composites (
    resource INTEGER NOT NULL,
    pt INTEGER NOT NULL,
    instance INTEGER NOT NULL,
    v0, l0, h0,
    v1, l1, h1,
    v2, l2, h2,
    PRIMARY KEY (resource, pt, instance)
) WITHOUT ROWID;
CREATE INDEX composites_value ON composites (pt, v0, resource);

-- Words of narratives and of whole resources; the texts themselves are not kept.
CREATE VIRTUAL TABLE texts USING fts5 (
    narrative, content,
    content = '', contentless_delete = 1, detail = column,
    tokenize = 'unicode61 remove_diacritics 2'
);
