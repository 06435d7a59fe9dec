"""The training data: a closed world of captioned pictures, drawn on the fly."""

from bot.lab.tiny.train.scenes.scene import Scene, draw_scene

__all__ = ["Scene", "draw_scene"]
