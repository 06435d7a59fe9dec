"""The Discord client, and what all its commands stand on."""
