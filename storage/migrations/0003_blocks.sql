-- Who may not use the bot, in one server or (guild_id 0) anywhere, until when, and why.

CREATE TABLE blocks (
    user_id  INTEGER NOT NULL,
    guild_id INTEGER NOT NULL DEFAULT 0,
    at       REAL NOT NULL,
    until    REAL,
    reason   TEXT NOT NULL DEFAULT '',
    actor_id INTEGER NOT NULL,
    PRIMARY KEY (user_id, guild_id)
) STRICT;
