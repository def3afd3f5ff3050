-- One row. seq counts the journal writes; clean is set by an orderly stop and taken away at start.
CREATE TABLE meta (
    id        INTEGER PRIMARY KEY CHECK (id = 1),
    ledger_id TEXT    NOT NULL,
    seq       INTEGER NOT NULL,
    wall      REAL    NOT NULL,
    clean     INTEGER NOT NULL
);
INSERT INTO meta VALUES (1, lower(hex(randomblob(16))), 0, 0.0, 0);

CREATE TABLE device (
    id          INTEGER PRIMARY KEY,
    kind        TEXT NOT NULL,
    name        TEXT NOT NULL,
    model       TEXT NOT NULL DEFAULT '',
    vendor      TEXT NOT NULL DEFAULT '',
    source      TEXT NOT NULL DEFAULT '',
    floor_watts REAL,
    UNIQUE (kind, name)
);

-- Where each device's counter stood when the totals were what they are.
CREATE TABLE position (
    device_id         INTEGER PRIMARY KEY REFERENCES device,
    raw_uj            INTEGER NOT NULL CHECK (typeof(raw_uj) = 'integer'),
    at_ns             INTEGER NOT NULL CHECK (typeof(at_ns) = 'integer'),
    epoch             TEXT    NOT NULL,
    power_watts       REAL    NOT NULL,
    provisional_uj    INTEGER NOT NULL CHECK (typeof(provisional_uj) = 'integer'),
    provisional_at_ns INTEGER NOT NULL CHECK (typeof(provisional_at_ns) = 'integer'),
    debt_uj           INTEGER NOT NULL CHECK (typeof(debt_uj) = 'integer'),
    suspect_uj        INTEGER CHECK (typeof(suspect_uj) IN ('integer', 'null')),
    suspect_at_ns     INTEGER NOT NULL CHECK (typeof(suspect_at_ns) = 'integer'),
    awake_ns          INTEGER NOT NULL CHECK (typeof(awake_ns) = 'integer')
);

-- Whoever energy is booked on: a run, for ever, or one of the fixed parties below.
-- departed: the run's totals are also inside those of party 99, which has besides them what came
-- too late for its run: that alone is what party 99 has in `usage`.
-- enclosing: the key of the run around this one.
CREATE TABLE party (
    id               INTEGER PRIMARY KEY,
    uid              INTEGER NOT NULL,
    run_id           TEXT    NOT NULL,
    job_id           TEXT    NOT NULL,
    name             TEXT    NOT NULL DEFAULT '',
    user             TEXT    NOT NULL DEFAULT '',
    origin           TEXT    NOT NULL DEFAULT '',
    started          REAL    NOT NULL,
    ended            REAL,
    end_reason       TEXT    NOT NULL DEFAULT '',
    scope            TEXT    NOT NULL DEFAULT '',
    lead_pid         INTEGER NOT NULL DEFAULT 0,
    lead_start       INTEGER NOT NULL DEFAULT 0,
    cgroup           TEXT    NOT NULL DEFAULT '',
    account          TEXT    NOT NULL DEFAULT '',
    budget_grams     REAL,
    shown_id         TEXT    NOT NULL DEFAULT '',
    enclosing_uid    INTEGER,
    enclosing_run_id TEXT,
    enclosing_job_id TEXT,
    departed         INTEGER NOT NULL DEFAULT 0,
    UNIQUE (uid, run_id, job_id)
);
CREATE INDEX party_here ON party (id) WHERE departed = 0;
CREATE INDEX party_shown ON party (shown_id);
CREATE INDEX party_started ON party (started);
INSERT INTO party (id, uid, run_id, job_id, started) VALUES
    (1, -2, 'idle', '', 0.0),
    (2, -2, 'other', '', 0.0),
    (3, -2, 'unallocated', '', 0.0),
    (4, -2, 'unknown_process', '', 0.0),
    (5, -2, 'restart', '', 0.0),
    (99, -1, '', '', 0.0);

CREATE TABLE label (
    party_id INTEGER NOT NULL REFERENCES party,
    key      TEXT    NOT NULL,
    value    TEXT    NOT NULL,
    PRIMARY KEY (party_id, key)
) WITHOUT ROWID;

-- 0 is "no factor was known": energy without grams.
CREATE TABLE factor (
    id            INTEGER PRIMARY KEY,
    zone          TEXT    NOT NULL,
    source        TEXT    NOT NULL,
    grams_per_kwh REAL    NOT NULL,
    pue           REAL    NOT NULL,
    valid_from    REAL    NOT NULL,
    valid_until   REAL    NOT NULL,
    as_of         REAL    NOT NULL,
    signal        TEXT    NOT NULL,
    basis         TEXT    NOT NULL,
    accounting    TEXT    NOT NULL,
    estimated     INTEGER NOT NULL,
    step          INTEGER NOT NULL,
    UNIQUE (zone, source, grams_per_kwh, pue, valid_from, valid_until, as_of,
            signal, basis, accounting, estimated, step)
);
INSERT INTO factor VALUES (0, '', '', 0.0, 1.0, 0.0, 0.0, 0.0, '', '', '', 0, 0);

-- Totals since the ledger began. A counter shows the total less its base.
CREATE TABLE total (
    party_id       INTEGER NOT NULL REFERENCES party,
    device_id      INTEGER NOT NULL REFERENCES device,
    method         INTEGER NOT NULL,
    split          INTEGER NOT NULL,
    energy_uj      INTEGER NOT NULL CHECK (typeof(energy_uj) = 'integer'),
    held_uj        INTEGER NOT NULL CHECK (typeof(held_uj) = 'integer'),
    carbon_ng      INTEGER NOT NULL CHECK (typeof(carbon_ng) = 'integer'),
    base_energy_uj INTEGER NOT NULL CHECK (typeof(base_energy_uj) = 'integer'),
    base_held_uj   INTEGER NOT NULL CHECK (typeof(base_held_uj) = 'integer'),
    base_carbon_ng INTEGER NOT NULL CHECK (typeof(base_carbon_ng) = 'integer'),
    PRIMARY KEY (party_id, device_id, method, split)
) WITHOUT ROWID;

-- What each run's totals were converted with, kept as long as the totals.
CREATE TABLE factor_use (
    party_id  INTEGER NOT NULL REFERENCES party,
    factor_id INTEGER NOT NULL REFERENCES factor,
    energy_uj INTEGER NOT NULL CHECK (typeof(energy_uj) = 'integer'),
    carbon_ng INTEGER NOT NULL CHECK (typeof(carbon_ng) = 'integer'),
    PRIMARY KEY (party_id, factor_id)
) WITHOUT ROWID;

-- Usage over time; minutes and hours are counted from 1970 in UTC. Time comes first in the keys,
-- so that all that is written at one time lies in neighbouring pages.
CREATE TABLE usage (
    minute    INTEGER NOT NULL,
    party_id  INTEGER NOT NULL REFERENCES party,
    device_id INTEGER NOT NULL REFERENCES device,
    factor_id INTEGER NOT NULL REFERENCES factor,
    method    INTEGER NOT NULL,
    split     INTEGER NOT NULL,
    energy_uj INTEGER NOT NULL CHECK (typeof(energy_uj) = 'integer'),
    held_uj   INTEGER NOT NULL CHECK (typeof(held_uj) = 'integer'),
    carbon_ng INTEGER NOT NULL CHECK (typeof(carbon_ng) = 'integer'),
    PRIMARY KEY (minute, party_id, device_id, factor_id, method, split)
) WITHOUT ROWID;
CREATE TABLE usage_hour (
    hour      INTEGER NOT NULL,
    party_id  INTEGER NOT NULL REFERENCES party,
    device_id INTEGER NOT NULL REFERENCES device,
    factor_id INTEGER NOT NULL REFERENCES factor,
    method    INTEGER NOT NULL,
    split     INTEGER NOT NULL,
    energy_uj INTEGER NOT NULL CHECK (typeof(energy_uj) = 'integer'),
    held_uj   INTEGER NOT NULL CHECK (typeof(held_uj) = 'integer'),
    carbon_ng INTEGER NOT NULL CHECK (typeof(carbon_ng) = 'integer'),
    PRIMARY KEY (hour, party_id, device_id, factor_id, method, split)
) WITHOUT ROWID;
