"""The child process that draws: torch lives here."""
