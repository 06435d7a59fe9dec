-- For how many expected seconds of the graphics card a waiting job was passed over by jobs of the
-- loaded model. A waiting job's `model` is the one that it is to be drawn by (NULL: the configured).

ALTER TABLE jobs ADD COLUMN passed_s REAL NOT NULL DEFAULT 0;
