-- Prescriptions: when each was issued and ended, and what was dispensed.
CREATE TABLE prescriptions (
    id BLOB PRIMARY KEY,
    prescriber BLOB NOT NULL,
    tx INTEGER NOT NULL,
    cancelled_by BLOB,
    cancelled_tx INTEGER
) WITHOUT ROWID;

CREATE TABLE dispensings (
    id BLOB NOT NULL,
    sequence INTEGER NOT NULL,
    dispenser BLOB NOT NULL,
    portions INTEGER NOT NULL,
    remaining INTEGER NOT NULL,
    tx INTEGER NOT NULL,
    PRIMARY KEY (id, sequence)
) WITHOUT ROWID;
CREATE INDEX dispensings_dispenser ON dispensings (dispenser, tx);
