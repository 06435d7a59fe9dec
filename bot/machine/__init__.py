"""The machine: its cards, disk, database and sockets, asked without torch."""
