"""A loopback Discord: the unmodified discord.py client connects to it over real sockets."""
