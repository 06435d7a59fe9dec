-- What a picture was made from, and whether its owner or a moderator had it deleted.

ALTER TABLE jobs ADD COLUMN parent_id TEXT;
ALTER TABLE jobs ADD COLUMN deleted_at REAL;
