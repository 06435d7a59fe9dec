"""Messages as Discord shows them, as data; nothing is sent here."""
