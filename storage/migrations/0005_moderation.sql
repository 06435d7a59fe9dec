-- What the image check said of a picture (NULL: it was off), the channel that a thread belongs to,
-- further messages that show a picture, and what was reported to moderators.

ALTER TABLE images ADD COLUMN verdict TEXT CHECK (verdict IN ('clear', 'flagged', 'failed'));
ALTER TABLE images ADD COLUMN score REAL;
ALTER TABLE jobs ADD COLUMN parent_channel_id INTEGER;

CREATE TABLE postings (
    message_id INTEGER PRIMARY KEY,
    channel_id INTEGER NOT NULL,
    job_id     TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE
) STRICT;
CREATE INDEX postings_job ON postings (job_id);

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
CREATE INDEX reports_reporter ON reports (reporter_id, at);
