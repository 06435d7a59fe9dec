-- Jobs, pictures, deliveries, the usage ledger, users, guilds, audit.
-- Times are Unix seconds (REAL); Discord ids are integers; JSON is text.

CREATE TABLE jobs (
    id                  TEXT PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 20),
    source_id           TEXT NOT NULL UNIQUE,
    user_id             INTEGER NOT NULL,
    guild_id            INTEGER,
    channel_id          INTEGER,
    target              TEXT NOT NULL CHECK (target IN ('interaction', 'message', 'http', 'cli')),
    locale              TEXT NOT NULL DEFAULT 'en-US',
    private             INTEGER NOT NULL DEFAULT 0 CHECK (private IN (0, 1)),
    request             TEXT NOT NULL,
    seed                INTEGER NOT NULL,
    images              INTEGER NOT NULL,
    work                REAL NOT NULL,
    state               TEXT NOT NULL DEFAULT 'queued'
                        CHECK (state IN ('queued', 'running', 'generated', 'failed', 'cancelled')),
    created_at          REAL NOT NULL,
    started_at          REAL,
    finished_at         REAL,
    attempts            INTEGER NOT NULL DEFAULT 0,
    engine_faults       INTEGER NOT NULL DEFAULT 0,
    interruptions       INTEGER NOT NULL DEFAULT 0,
    cancel_requested_at REAL,
    error               TEXT,
    error_kind          TEXT,
    error_detail        TEXT,
    model               TEXT,
    timings             TEXT NOT NULL DEFAULT '{}',
    peak_gpu_bytes      INTEGER
) STRICT;
CREATE INDEX jobs_open ON jobs (state, created_at) WHERE state IN ('queued', 'running');
CREATE INDEX jobs_user ON jobs (user_id, created_at);
CREATE INDEX jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL;

-- The table of allowed transitions stands in bot/jobs/model.py; a CHECK cannot see the old row.
CREATE TRIGGER jobs_state BEFORE UPDATE OF state ON jobs
WHEN OLD.state <> NEW.state AND NOT (
       (OLD.state = 'queued'  AND NEW.state IN ('running', 'cancelled'))
    OR (OLD.state = 'running' AND NEW.state IN ('generated', 'failed', 'cancelled', 'queued')))
BEGIN
    SELECT RAISE(ABORT, 'job state transition not allowed');
END;

CREATE TABLE images (
    job_id     TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    position   INTEGER NOT NULL,
    file       TEXT NOT NULL,
    sha256     TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    width      INTEGER NOT NULL,
    height     INTEGER NOT NULL,
    seed       INTEGER NOT NULL,
    PRIMARY KEY (job_id, position)
) STRICT;

-- The outbox. A row is made with its job ('waiting': the address), and becomes 'pending' in the
-- transaction that ends the job. `token` is the only place an interaction token is ever stored.
CREATE TABLE deliveries (
    job_id           TEXT PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    state            TEXT NOT NULL DEFAULT 'waiting'
                     CHECK (state IN ('waiting', 'pending', 'sending', 'delivered', 'undeliverable')),
    application_id   INTEGER,
    token            TEXT,
    token_expires_at REAL,
    bot_in_channel   INTEGER NOT NULL DEFAULT 1 CHECK (bot_in_channel IN (0, 1)),
    channel_id       INTEGER,
    message_id       INTEGER,
    attempts         INTEGER NOT NULL DEFAULT 0,
    next_attempt_at  REAL NOT NULL DEFAULT 0,
    rung             TEXT,
    intent_at        REAL,
    delivered_at     REAL,
    sent_channel_id  INTEGER,
    sent_message_id  INTEGER,
    error            TEXT
) STRICT;
CREATE INDEX deliveries_due ON deliveries (next_attempt_at) WHERE state IN ('pending', 'sending');
CREATE INDEX deliveries_token ON deliveries (token_expires_at) WHERE token IS NOT NULL;

CREATE TRIGGER deliveries_state BEFORE UPDATE OF state ON deliveries
WHEN OLD.state <> NEW.state AND NOT (
       (OLD.state = 'waiting' AND NEW.state = 'pending')
    OR (OLD.state = 'pending' AND NEW.state = 'sending')
    OR (OLD.state = 'sending' AND NEW.state IN ('pending', 'delivered', 'undeliverable'))
    OR (OLD.state = 'undeliverable' AND NEW.state = 'delivered'))
BEGIN
    SELECT RAISE(ABORT, 'delivery state transition not allowed');
END;

-- What was charged to whom; kept apart from prompts, so that deleting data resets no limit.
CREATE TABLE usage (
    job_id      TEXT PRIMARY KEY,
    user_id     INTEGER NOT NULL,
    guild_id    INTEGER,
    charged_at  REAL NOT NULL,
    images      INTEGER NOT NULL,
    refunded_at REAL,
    gpu_seconds REAL NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX usage_user ON usage (user_id, charged_at);
CREATE INDEX usage_time ON usage (charged_at);

CREATE TABLE users (
    id         INTEGER PRIMARY KEY,
    name       TEXT NOT NULL,
    first_seen REAL NOT NULL,
    last_seen  REAL NOT NULL,
    locale     TEXT,
    settings   TEXT NOT NULL DEFAULT '{}'
) STRICT;

CREATE TABLE guilds (
    id         INTEGER PRIMARY KEY,
    first_seen REAL NOT NULL,
    settings   TEXT NOT NULL DEFAULT '{}'
) STRICT;

CREATE TABLE audit (
    id       INTEGER PRIMARY KEY,
    at       REAL NOT NULL,
    actor_id INTEGER NOT NULL,
    guild_id INTEGER,
    action   TEXT NOT NULL,
    target   TEXT,
    detail   TEXT
) STRICT;

-- Small facts of the whole bot: the pause and its reason, the hash of the synced commands.
CREATE TABLE facts (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;
