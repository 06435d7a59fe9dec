"""The training data: a closed world of captioned pictures, drawn on the fly."""

from bot.lab.tiny.train.scenes.scene import DRAWN_STYLES, Scene, draw_scene

__all__ = ["DRAWN_STYLES", "Scene", "draw_scene"]
