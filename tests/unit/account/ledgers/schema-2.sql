-- A ledger that the exporter wrote when its schema was version 2, with SQLite 3.40.1, as Python's
-- sqlite3.Connection.iterdump gave it, with 9.0e999 in place of the Inf that SQLite does not read.
BEGIN TRANSACTION;
CREATE TABLE device (
    id          INTEGER PRIMARY KEY,
    kind        TEXT NOT NULL,
    name        TEXT NOT NULL,
    model       TEXT NOT NULL DEFAULT '',
    vendor      TEXT NOT NULL DEFAULT '',
    source      TEXT NOT NULL DEFAULT '',
    floor_watts REAL,
    UNIQUE (kind, name)
) STRICT;
INSERT INTO "device" VALUES(1,'gpu','GPU-1','model','vendor','source',21.5);
INSERT INTO "device" VALUES(2,'cpu','package-0','model','vendor','source',NULL);
INSERT INTO "device" VALUES(3,'dram','package-0-dram','model','vendor','source',NULL);
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
) STRICT;
INSERT INTO "factor" VALUES(0,'','',0.0,1.0,0.0,0.0,0.0,'','','',0,0);
INSERT INTO "factor" VALUES(1,'FR','a table',56.0,1.1,0.0,9.0e999,1704067200.0,'average','lifecycle','location',0,0);
INSERT INTO "factor" VALUES(2,'DE','a table',380.0,1.1,0.0,9.0e999,1704067200.0,'average','lifecycle','location',0,0);
CREATE TABLE factor_use (
    party_id  INTEGER NOT NULL REFERENCES party,
    factor_id INTEGER NOT NULL REFERENCES factor,
    energy_uj INTEGER NOT NULL,
    carbon_ng INTEGER NOT NULL,
    PRIMARY KEY (party_id, factor_id)
) STRICT, WITHOUT ROWID;
INSERT INTO "factor_use" VALUES(100,0,2061806820,0);
INSERT INTO "factor_use" VALUES(100,1,1341485777,4024457331);
INSERT INTO "factor_use" VALUES(100,2,302621084,907863252);
INSERT INTO "factor_use" VALUES(101,1,1680135987,5040407961);
INSERT INTO "factor_use" VALUES(101,2,2467881295,7403643885);
CREATE TABLE label (
    party_id INTEGER NOT NULL REFERENCES party,
    key      TEXT    NOT NULL,
    value    TEXT    NOT NULL,
    PRIMARY KEY (party_id, key)
) STRICT, WITHOUT ROWID;
INSERT INTO "label" VALUES(100,'group','nlp');
INSERT INTO "label" VALUES(100,'team','�caf\ud800');
CREATE TABLE meta (
    id        INTEGER PRIMARY KEY CHECK (id = 1),
    ledger_id TEXT    NOT NULL,
    seq       INTEGER NOT NULL,
    wall      REAL    NOT NULL,
    clean     INTEGER NOT NULL
) STRICT;
INSERT INTO "meta" VALUES(1,'360dacc53d10b6310a1dfb316a62447a',2,1700000002.0,0);
CREATE TABLE owner (
    user      TEXT    NOT NULL,
    namespace TEXT    NOT NULL,
    labels    TEXT    NOT NULL,
    energy_uj INTEGER NOT NULL,
    carbon_ng INTEGER NOT NULL,
    PRIMARY KEY (user, namespace, labels)
) STRICT, WITHOUT ROWID;
INSERT INTO "owner" VALUES('ada','','[]',4148017282,12444051846);
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
    departed         INTEGER NOT NULL DEFAULT 0, nodes INTEGER NOT NULL DEFAULT 0, namespace TEXT NOT NULL DEFAULT '', owner TEXT NOT NULL DEFAULT '',
    UNIQUE (uid, run_id, job_id)
) STRICT;
INSERT INTO "party" VALUES(1,-2,'idle','','','','',0.0,NULL,'','',0,0,'','',NULL,'',NULL,NULL,NULL,0,0,'','');
INSERT INTO "party" VALUES(2,-2,'other','','','','',0.0,NULL,'','',0,0,'','',NULL,'',NULL,NULL,NULL,0,0,'','');
INSERT INTO "party" VALUES(3,-2,'unallocated','','','','',0.0,NULL,'','',0,0,'','',NULL,'',NULL,NULL,NULL,0,0,'','');
INSERT INTO "party" VALUES(4,-2,'unknown_process','','','','',0.0,NULL,'','',0,0,'','',NULL,'',NULL,NULL,NULL,0,0,'','');
INSERT INTO "party" VALUES(5,-2,'restart','','','','',0.0,NULL,'','',0,0,'','',NULL,'',NULL,NULL,NULL,0,0,'','');
INSERT INTO "party" VALUES(99,-1,'','','','','',0.0,NULL,'','',0,0,'','',NULL,'',NULL,NULL,NULL,0,0,'','');
INSERT INTO "party" VALUES(100,1000,'bert','job','bert','ada','registered',1700000000.0,NULL,'','tree',0,0,'','',NULL,'bert',NULL,NULL,NULL,0,0,'','["ada", "", []]');
INSERT INTO "party" VALUES(101,1000,'gpt','job','gpt','ada','registered',1700000000.0,1700000060.0,'','tree',0,0,'','',NULL,'gpt',NULL,NULL,NULL,1,0,'','["ada", "", []]');
CREATE TABLE position (
    device_id         INTEGER PRIMARY KEY REFERENCES device,
    raw_uj            INTEGER NOT NULL,
    at_ns             INTEGER NOT NULL,
    epoch             TEXT    NOT NULL,
    power_watts       REAL    NOT NULL,
    provisional_uj    INTEGER NOT NULL,
    provisional_at_ns INTEGER NOT NULL,
    debt_uj           INTEGER NOT NULL,
    suspect_uj        INTEGER,
    suspect_at_ns     INTEGER NOT NULL,
    awake_ns          INTEGER NOT NULL
) STRICT;
INSERT INTO "position" VALUES(1,7,5000000000,'boot',41.5,0,0,0,9,3,0);
INSERT INTO "position" VALUES(2,123456,5000000000,'boot',41.5,0,0,0,NULL,0,0);
CREATE TABLE result (
    party_id INTEGER NOT NULL REFERENCES party,
    key      TEXT    NOT NULL,
    value    ANY     NOT NULL,
    PRIMARY KEY (party_id, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE total (
    party_id       INTEGER NOT NULL REFERENCES party,
    device_id      INTEGER NOT NULL REFERENCES device,
    method         INTEGER NOT NULL,
    split          INTEGER NOT NULL,
    energy_uj      INTEGER NOT NULL,
    held_uj        INTEGER NOT NULL,
    carbon_ng      INTEGER NOT NULL,
    base_energy_uj INTEGER NOT NULL,
    base_held_uj   INTEGER NOT NULL,
    base_carbon_ng INTEGER NOT NULL,
    PRIMARY KEY (party_id, device_id, method, split)
) STRICT, WITHOUT ROWID;
INSERT INTO "total" VALUES(1,1,1,1,1552687894,388171972,4658063682,0,0,0);
INSERT INTO "total" VALUES(1,1,1,4,0,0,0,0,0,0);
INSERT INTO "total" VALUES(1,2,1,2,1308533795,327133447,3925601385,0,0,0);
INSERT INTO "total" VALUES(1,2,1,4,0,0,0,0,0,0);
INSERT INTO "total" VALUES(1,3,1,4,0,0,0,0,0,0);
INSERT INTO "total" VALUES(2,1,1,1,1800892639,450223159,3976662801,0,0,0);
INSERT INTO "total" VALUES(2,2,1,2,1905690195,476422548,2786572779,0,0,0);
INSERT INTO "total" VALUES(99,1,1,1,2168084786,542021195,6504254358,0,0,0);
INSERT INTO "total" VALUES(99,2,1,2,1979932496,494983122,5939797488,0,0,0);
INSERT INTO "total" VALUES(99,3,1,3,0,0,0,0,0,0);
INSERT INTO "total" VALUES(100,1,1,1,1531481275,382870318,1304384154,0,0,0);
INSERT INTO "total" VALUES(100,2,1,2,2174432406,543608100,3627936429,0,0,0);
INSERT INTO "total" VALUES(100,3,1,3,0,0,0,0,0,0);
INSERT INTO "total" VALUES(101,1,1,1,2168084786,542021195,6504254358,0,0,0);
INSERT INTO "total" VALUES(101,2,1,2,1979932496,494983122,5939797488,0,0,0);
INSERT INTO "total" VALUES(101,3,1,3,0,0,0,0,0,0);
CREATE TABLE unit (
    party_id INTEGER NOT NULL REFERENCES party,
    name     TEXT    NOT NULL,
    amount   REAL    NOT NULL,
    base     REAL    NOT NULL,
    PRIMARY KEY (party_id, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE usage (
    minute    INTEGER NOT NULL,
    party_id  INTEGER NOT NULL REFERENCES party,
    device_id INTEGER NOT NULL REFERENCES device,
    factor_id INTEGER NOT NULL REFERENCES factor,
    method    INTEGER NOT NULL,
    split     INTEGER NOT NULL,
    energy_uj INTEGER NOT NULL,
    held_uj   INTEGER NOT NULL,
    carbon_ng INTEGER NOT NULL,
    PRIMARY KEY (minute, party_id, device_id, factor_id, method, split)
) STRICT, WITHOUT ROWID;
INSERT INTO "usage" VALUES(28333333,1,1,2,1,1,626401695,156600423,1879205085);
INSERT INTO "usage" VALUES(28333333,1,2,1,1,2,43469773,10867443,130409319);
INSERT INTO "usage" VALUES(28333333,2,1,2,1,1,541903389,135475847,1625710167);
INSERT INTO "usage" VALUES(28333333,2,2,1,1,2,548977048,137244262,1646931144);
INSERT INTO "usage" VALUES(28333333,100,1,1,1,1,434794718,108698679,1304384154);
INSERT INTO "usage" VALUES(28333333,100,2,1,1,2,906691059,226672764,2720073177);
INSERT INTO "usage" VALUES(28333333,101,1,1,1,1,511742081,127935520,1535226243);
INSERT INTO "usage" VALUES(28333333,101,2,1,1,2,813847339,203461834,2441542017);
INSERT INTO "usage" VALUES(28333334,1,1,2,1,1,333018422,83254605,999055266);
INSERT INTO "usage" VALUES(28333334,1,2,1,1,2,663968655,165992163,1991905965);
INSERT INTO "usage" VALUES(28333334,2,1,2,1,1,783650878,195912719,2350952634);
INSERT INTO "usage" VALUES(28333334,2,2,0,1,2,976832602,244208150,0);
INSERT INTO "usage" VALUES(28333334,100,1,0,1,1,757172936,189293234,0);
INSERT INTO "usage" VALUES(28333334,100,2,2,1,2,302621084,75655271,907863252);
INSERT INTO "usage" VALUES(28333334,101,1,2,1,1,968693314,242173328,2906079942);
INSERT INTO "usage" VALUES(28333334,101,2,2,1,2,811538590,202884647,2434615770);
INSERT INTO "usage" VALUES(28333335,1,1,1,1,1,593267777,148316944,1779803331);
INSERT INTO "usage" VALUES(28333335,1,2,2,1,2,601095367,150273841,1803286101);
INSERT INTO "usage" VALUES(28333335,2,1,0,1,1,475338372,118834593,0);
INSERT INTO "usage" VALUES(28333335,2,2,1,1,2,379880545,94970136,1139641635);
INSERT INTO "usage" VALUES(28333335,100,1,0,1,1,339513621,84878405,0);
INSERT INTO "usage" VALUES(28333335,100,2,0,1,2,965120263,241280065,0);
INSERT INTO "usage" VALUES(28333335,101,1,2,1,1,687649391,171912347,2062948173);
INSERT INTO "usage" VALUES(28333335,101,2,1,1,2,354546567,88636641,1063639701);
CREATE TABLE usage_hour (
    hour      INTEGER NOT NULL,
    party_id  INTEGER NOT NULL REFERENCES party,
    device_id INTEGER NOT NULL REFERENCES device,
    factor_id INTEGER NOT NULL REFERENCES factor,
    method    INTEGER NOT NULL,
    split     INTEGER NOT NULL,
    energy_uj INTEGER NOT NULL,
    held_uj   INTEGER NOT NULL,
    carbon_ng INTEGER NOT NULL,
    PRIMARY KEY (hour, party_id, device_id, factor_id, method, split)
) STRICT, WITHOUT ROWID;
CREATE INDEX party_here ON party (id) WHERE departed = 0;
CREATE INDEX party_shown ON party (shown_id);
CREATE INDEX party_started ON party (started);
COMMIT;
PRAGMA user_version = 2;
