"""A self-hosted Discord bot that draws with Qwen-Image on one consumer GPU."""

__version__ = "0.1.0"
