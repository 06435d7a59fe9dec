"""How well the tiny model draws what is asked: judges on the pixels, and the benchmark."""

from bot.lab.tiny.evaluate.judge import judge

__all__ = ["judge"]
