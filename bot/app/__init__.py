"""The composition: what runs as one process, and what it runs beside."""
