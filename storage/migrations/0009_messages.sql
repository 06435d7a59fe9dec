-- Whether a job's message is one of layout components (Components V2). Those of jobs that were
-- accepted before are embeds, and stay so. An answer may come by a new message: when the bot tries
-- next to remove the one that waited (NULL: nothing is to be removed).

ALTER TABLE deliveries ADD COLUMN layout INTEGER NOT NULL DEFAULT 0;
ALTER TABLE deliveries ADD COLUMN remove_at REAL;
CREATE INDEX deliveries_remove ON deliveries (remove_at) WHERE remove_at IS NOT NULL;

-- The states of forms that are too long for a custom_id.

CREATE TABLE form_states (
    key        TEXT PRIMARY KEY,
    user_id    INTEGER NOT NULL,
    state      TEXT NOT NULL,
    expires_at REAL NOT NULL
) STRICT;
CREATE INDEX form_states_user ON form_states (user_id, key);
CREATE INDEX form_states_expiry ON form_states (expires_at);

-- A job may write a text instead of drawing ('text'), or have its prompt rewritten before it draws:
-- `tokens` is how long what is still to be written is expected to be. What was written lies beside
-- the job.

ALTER TABLE jobs ADD COLUMN kind TEXT NOT NULL DEFAULT 'picture' CHECK (kind IN ('picture', 'text'));
ALTER TABLE jobs ADD COLUMN tokens REAL NOT NULL DEFAULT 0;

CREATE TABLE texts (
    job_id TEXT PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    text   TEXT NOT NULL
) STRICT;
