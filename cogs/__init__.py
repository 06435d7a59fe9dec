"""Slash commands, buttons and direct messages: parse, hand over to the jobs, answer."""
