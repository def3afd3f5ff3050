-- nodes: how many the run spans as its launcher says; 0 is unknown.
ALTER TABLE party ADD COLUMN nodes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE party ADD COLUMN namespace TEXT NOT NULL DEFAULT '';

-- Whose counter the run is added to as long as it is on the page: JSON; '' is not settled.
ALTER TABLE party ADD COLUMN owner TEXT NOT NULL DEFAULT '';

-- What a run counts of its own: tokens, requests. A counter shows the amount less its base.
CREATE TABLE unit (
    party_id INTEGER NOT NULL REFERENCES party,
    name     TEXT    NOT NULL,
    amount   REAL    NOT NULL,
    base     REAL    NOT NULL,
    PRIMARY KEY (party_id, name)
) WITHOUT ROWID;

-- The last value of each result that a run logged, a number or a text.
CREATE TABLE result (
    party_id INTEGER NOT NULL REFERENCES party,
    key      TEXT    NOT NULL,
    value    BLOB    NOT NULL,
    PRIMARY KEY (party_id, key)
) WITHOUT ROWID;

-- What counters showed of the runs that left the page, by whose they were. labels: JSON.
CREATE TABLE owner (
    user      TEXT    NOT NULL,
    namespace TEXT    NOT NULL,
    labels    TEXT    NOT NULL,
    energy_uj INTEGER NOT NULL CHECK (typeof(energy_uj) = 'integer'),
    carbon_ng INTEGER NOT NULL CHECK (typeof(carbon_ng) = 'integer'),
    PRIMARY KEY (user, namespace, labels)
) WITHOUT ROWID;
