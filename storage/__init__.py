"""SQLite behind two calls, numbered migrations, one repository a table group, image files."""
