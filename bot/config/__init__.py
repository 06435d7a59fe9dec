"""The configuration: settings, keys, and what of it libraries are told."""
