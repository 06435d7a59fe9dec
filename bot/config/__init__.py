"""The configuration: settings, keys, and what of them libraries are told."""
