-- uncounted: the counters began at zero after `raw_uj` was read, so what was used since then belongs
-- to the totals alone.
ALTER TABLE position ADD COLUMN uncounted INTEGER NOT NULL DEFAULT 0;
