-- Where a sequence of access receipts goes on after some of them were lost: number of the next one, and the head before it.
CREATE TABLE receipt_heads (organization BLOB PRIMARY KEY, sequence INTEGER NOT NULL, head BLOB NOT NULL) WITHOUT ROWID;
