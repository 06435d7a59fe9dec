-- What every command asks is found by index, however many jobs there were. A kept answer names whom
-- it is kept for (NULL where nobody of Discord's has to fetch it).

CREATE INDEX jobs_open_user ON jobs (user_id, state) WHERE state IN ('queued', 'running');
CREATE INDEX jobs_open_guild ON jobs (guild_id, state) WHERE state IN ('queued', 'running');
CREATE INDEX jobs_created ON jobs (created_at, guild_id, state, started_at);
CREATE INDEX jobs_deleted ON jobs (id) WHERE deleted_at IS NOT NULL;

ALTER TABLE deliveries ADD COLUMN kept_for INTEGER;
UPDATE deliveries SET kept_for = (
    SELECT user_id FROM jobs WHERE jobs.id = deliveries.job_id AND target <> 'http'
) WHERE state = 'undeliverable';
CREATE INDEX deliveries_kept ON deliveries (kept_for, job_id)
    WHERE state = 'undeliverable' AND kept_for IS NOT NULL;
