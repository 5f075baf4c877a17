-- A patient's record in the order in which people read it: newest first by clinical date.
CREATE INDEX resources_when ON resources (log, coalesce(clinical_ms, updated_ms));
