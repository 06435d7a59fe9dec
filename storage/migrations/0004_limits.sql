-- The ledger learns what a job is expected to cost the graphics card, which share of it was given
-- back, and when the card last worked on it. A job carries its user's weight in the fair order.

ALTER TABLE usage ADD COLUMN charged_seconds REAL NOT NULL DEFAULT 0;
ALTER TABLE usage ADD COLUMN refunded REAL NOT NULL DEFAULT 0;
ALTER TABLE usage ADD COLUMN served_at REAL;
UPDATE usage SET refunded = 1 WHERE refunded_at IS NOT NULL;
UPDATE usage SET served_at = charged_at WHERE gpu_seconds > 0;
CREATE INDEX usage_guild ON usage (guild_id, charged_at);
CREATE INDEX usage_served ON usage (served_at) WHERE served_at IS NOT NULL;

ALTER TABLE jobs ADD COLUMN weight REAL NOT NULL DEFAULT 1;
