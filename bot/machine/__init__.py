"""The machine: its graphics cards, disk and database, asked without torch."""
