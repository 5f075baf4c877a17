-- Emergencies: who opened whose record, why by code, until when, and how it was judged.
CREATE TABLE openings (
    number INTEGER PRIMARY KEY,
    patient BLOB NOT NULL,
    clinician BLOB NOT NULL,
    grant_id INTEGER NOT NULL,
    reason INTEGER NOT NULL,
    details BLOB NOT NULL,
    until INTEGER NOT NULL,
    tx INTEGER NOT NULL,
    verdict INTEGER NOT NULL DEFAULT 0,
    reviewer BLOB,
    review_details BLOB,
    review_tx INTEGER
);
CREATE INDEX openings_patient ON openings (patient, number);
CREATE INDEX openings_clinician ON openings (clinician, number);
