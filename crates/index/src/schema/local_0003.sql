-- Whose a session is, so that a person can see and end them; drafts and other documents have no owner here.
ALTER TABLE sessions ADD COLUMN account BLOB;
CREATE INDEX sessions_account ON sessions (account);
