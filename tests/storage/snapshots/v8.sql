BEGIN TRANSACTION;
CREATE TABLE audit (
    id       INTEGER PRIMARY KEY,
    at       REAL NOT NULL,
    actor_id INTEGER NOT NULL,
    guild_id INTEGER,
    action   TEXT NOT NULL,
    target   TEXT,
    detail   TEXT
) STRICT;
INSERT INTO "audit" VALUES(1,1800000001.0,5,77,'pause',NULL,'maintenance');
CREATE TABLE blocks (
    user_id  INTEGER NOT NULL,
    guild_id INTEGER NOT NULL DEFAULT 0,
    at       REAL NOT NULL,
    until    REAL,
    reason   TEXT NOT NULL DEFAULT '',
    actor_id INTEGER NOT NULL,
    PRIMARY KEY (user_id, guild_id)
) STRICT;
INSERT INTO "blocks" VALUES(9,77,1800000002.0,1800086402.0,'spam',5);
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
, kept_for INTEGER) STRICT;
INSERT INTO "deliveries" VALUES('01mcc5rm00b9gazg3q','pending',99,'a-secret-token',1800000900.0,1,88,NULL,0,1800000000.0,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "deliveries" VALUES('01mcc5rm00b5q5ywte','waiting',99,'a-secret-token',1800000900.0,1,88,NULL,0,0.0,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "deliveries" VALUES('01mcc5rmz87nrn39dj','waiting',99,'a-secret-token',1800000900.0,1,88,NULL,0,0.0,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE facts (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;
INSERT INTO "facts" VALUES('paused','maintenance');
CREATE TABLE guilds (
    id         INTEGER PRIMARY KEY,
    first_seen REAL NOT NULL,
    settings   TEXT NOT NULL DEFAULT '{}'
) STRICT;
INSERT INTO "guilds" VALUES(77,1800000000.0,'{}');
CREATE TABLE images (
    job_id     TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    position   INTEGER NOT NULL,
    file       TEXT NOT NULL,
    sha256     TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    width      INTEGER NOT NULL,
    height     INTEGER NOT NULL,
    seed       INTEGER NOT NULL, verdict TEXT CHECK (verdict IN ('clear', 'flagged', 'failed')), score REAL,
    PRIMARY KEY (job_id, position)
) STRICT;
INSERT INTO "images" VALUES('01mcc5rm00b9gazg3q',0,'2027/01/15/01mcc5rm00b9gazg3q_0.png','0000000000000000000000000000000000000000000000000000000000000000',1,256,256,0,'flagged',0.75);
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
, parent_id TEXT, deleted_at REAL, weight REAL NOT NULL DEFAULT 1, parent_channel_id INTEGER, claims INTEGER NOT NULL DEFAULT 0, passed_s REAL NOT NULL DEFAULT 0) STRICT;
INSERT INTO "jobs" VALUES('01mcc5rm00b9gazg3q','i1',1,77,88,'interaction','en-US',0,'{"v": 1, "prompt": "done", "negative_prompt": "", "width": 256, "height": 256, "steps": 3, "guidance": 4.0, "seed": 0, "count": 1, "aspect": null, "quality": null, "style": null, "input_image": null, "strength": null, "loras": [], "private": false}',0,1,0.196608,'generated',1800000000.0,1800000000.0,1800000000.0,1,0,0,NULL,NULL,NULL,NULL,'tiny','{"denoise": 3.0}',NULL,NULL,NULL,1.0,NULL,0,0.0);
INSERT INTO "jobs" VALUES('01mcc5rm00b5q5ywte','i2',1,77,88,'interaction','en-US',0,'{"v": 1, "prompt": "a lighthouse; it''s night", "negative_prompt": "", "width": 256, "height": 256, "steps": 3, "guidance": 4.0, "seed": 0, "count": 1, "aspect": null, "quality": null, "style": null, "input_image": null, "strength": null, "loras": [], "private": false}',0,1,0.196608,'running',1800000000.0,1800000000.0,NULL,1,0,0,NULL,NULL,NULL,NULL,NULL,'{}',NULL,NULL,NULL,1.0,NULL,0,0.0);
INSERT INTO "jobs" VALUES('01mcc5rmz87nrn39dj','i3',2,77,88,'interaction','en-US',0,'{"v": 1, "prompt": "人工智能", "negative_prompt": "", "width": 256, "height": 256, "steps": 3, "guidance": 4.0, "seed": 0, "count": 2, "aspect": null, "quality": null, "style": null, "input_image": null, "strength": null, "loras": [], "private": false}',0,2,0.393216,'queued',1800000001.0,NULL,NULL,0,0,0,NULL,NULL,NULL,NULL,NULL,'{}',NULL,'01mcc5rm00b9gazg3q',NULL,1.0,NULL,0,0.0);
CREATE TABLE postings (
    message_id INTEGER PRIMARY KEY,
    channel_id INTEGER NOT NULL,
    job_id     TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE
) STRICT;
INSERT INTO "postings" VALUES(4242,88,'01mcc5rm00b9gazg3q');
CREATE TABLE reports (
    job_id           TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    reporter_id      INTEGER NOT NULL,
    guild_id         INTEGER NOT NULL,
    channel_id       INTEGER NOT NULL,
    message_id       INTEGER NOT NULL,
    at               REAL NOT NULL,
    reason           TEXT NOT NULL DEFAULT '',
    filed_channel_id INTEGER,
    filed_message_id INTEGER,
    PRIMARY KEY (job_id, reporter_id)
) STRICT;
INSERT INTO "reports" VALUES('01mcc5rm00b9gazg3q',6,77,88,4242,1800000050.0,'not nice',99,4343);
CREATE TABLE usage (
    job_id      TEXT PRIMARY KEY,
    user_id     INTEGER NOT NULL,
    guild_id    INTEGER,
    charged_at  REAL NOT NULL,
    images      INTEGER NOT NULL,
    refunded_at REAL,
    gpu_seconds REAL NOT NULL DEFAULT 0
, charged_seconds REAL NOT NULL DEFAULT 0, refunded REAL NOT NULL DEFAULT 0, served_at REAL) STRICT;
INSERT INTO "usage" VALUES('01mcc5rm00b9gazg3q',1,77,1800000000.0,1,NULL,3.0,0.0,0.0,1800000000.0);
INSERT INTO "usage" VALUES('01mcc5rm00b5q5ywte',1,77,1800000000.0,1,NULL,0.0,0.0,0.0,NULL);
INSERT INTO "usage" VALUES('01mcc5rkz000000gone',1,77,1799999999.0,2,1800000003.0,1.5,0.0,1.0,1799999999.0);
INSERT INTO "usage" VALUES('01mcc5rmz87nrn39dj',2,77,1800000001.0,2,NULL,0.0,0.0,0.0,NULL);
CREATE TABLE users (
    id         INTEGER PRIMARY KEY,
    name       TEXT NOT NULL,
    first_seen REAL NOT NULL,
    last_seen  REAL NOT NULL,
    locale     TEXT,
    settings   TEXT NOT NULL DEFAULT '{}'
) STRICT;
INSERT INTO "users" VALUES(1,'user 1',1800000000.0,1800000000.0,'en-US','{}');
INSERT INTO "users" VALUES(2,'user 2',1800000001.0,1800000001.0,'en-US','{}');
CREATE INDEX jobs_open ON jobs (state, created_at) WHERE state IN ('queued', 'running');
CREATE INDEX jobs_user ON jobs (user_id, created_at);
CREATE INDEX jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL;
CREATE TRIGGER jobs_state BEFORE UPDATE OF state ON jobs
WHEN OLD.state <> NEW.state AND NOT (
       (OLD.state = 'queued'  AND NEW.state IN ('running', 'cancelled'))
    OR (OLD.state = 'running' AND NEW.state IN ('generated', 'failed', 'cancelled', 'queued')))
BEGIN
    SELECT RAISE(ABORT, 'job state transition not allowed');
END;
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
CREATE INDEX usage_user ON usage (user_id, charged_at);
CREATE INDEX usage_time ON usage (charged_at);
CREATE INDEX usage_guild ON usage (guild_id, charged_at);
CREATE INDEX usage_served ON usage (served_at) WHERE served_at IS NOT NULL;
CREATE INDEX postings_job ON postings (job_id);
CREATE INDEX reports_reporter ON reports (reporter_id, at);
CREATE INDEX jobs_open_user ON jobs (user_id, state) WHERE state IN ('queued', 'running');
CREATE INDEX jobs_open_guild ON jobs (guild_id, state) WHERE state IN ('queued', 'running');
CREATE INDEX jobs_created ON jobs (created_at, guild_id, state, started_at);
CREATE INDEX jobs_deleted ON jobs (id) WHERE deleted_at IS NOT NULL;
CREATE INDEX deliveries_kept ON deliveries (kept_for, job_id)
    WHERE state = 'undeliverable' AND kept_for IS NOT NULL;
COMMIT;
