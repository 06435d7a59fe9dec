"""The tiny model: how it is trained and judged."""
