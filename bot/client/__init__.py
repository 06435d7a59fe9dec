"""The Discord client, and what all its commands are built on."""
