-- The minutes with energy that has no grams yet.
CREATE INDEX usage_unpriced ON usage (minute) WHERE factor_id = 0;

-- The last fill; no id is given out twice.
ALTER TABLE meta ADD COLUMN filled INTEGER NOT NULL DEFAULT 0;

-- One row: what the sources of intensity said, and when they may be asked again; JSON. Not in meta,
-- which is written with every commit.
CREATE TABLE intensity (
    id     INTEGER PRIMARY KEY CHECK (id = 1),
    memory TEXT NOT NULL
);
INSERT INTO intensity VALUES (1, '');

-- Grams that came after their energy: they are in the totals here, and a journal may lack them yet.
-- party_id is who used the energy, whether or not it has left since.
CREATE TABLE fill (
    id        INTEGER NOT NULL,
    party_id  INTEGER NOT NULL REFERENCES party,
    device_id INTEGER NOT NULL REFERENCES device,
    method    INTEGER NOT NULL,
    split     INTEGER NOT NULL,
    carbon_ng INTEGER NOT NULL CHECK (typeof(carbon_ng) = 'integer'),
    PRIMARY KEY (id, party_id, device_id, method, split)
) WITHOUT ROWID;
