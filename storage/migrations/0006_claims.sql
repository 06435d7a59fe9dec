-- How often a job was ever claimed. `attempts` does not count a claim that was given back, so that
-- two claims could have the same number, and a late result of the first pass for one of the second.

ALTER TABLE jobs ADD COLUMN claims INTEGER NOT NULL DEFAULT 0;
