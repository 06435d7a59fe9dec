"""The HTTP door: the same queue, limits and rules for programs; off unless API_KEYS is set."""
