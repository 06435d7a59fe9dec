"""Evaluation of the tiny model: judges that look at the pixels, and how verdicts add up."""

from bot.lab.tiny.evaluate.judge import judge

__all__ = ["judge"]
