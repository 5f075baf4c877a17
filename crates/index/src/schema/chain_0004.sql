-- Grants that let somebody add, in the order they were given: what is new among them is looked for at every block.
CREATE INDEX grants_writers ON grants (tx) WHERE permissions & 2;
