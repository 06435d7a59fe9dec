"""SQLite behind two calls, numbered migrations, one repository per group of tables, image files."""
