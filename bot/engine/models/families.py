"""The families of models: how each is loaded."""

from __future__ import annotations

from typing import Final

# Each has `load(options, progress)`, which returns a pipeline and its budget in GiB. It is called
# as a QwenImagePipeline is (see adapted.py). A published model's is told its name, too.
_BUILDERS: Final = {
    "qwen-image": "bot.engine.models.qwen_image",
    "qwen-image-21": "bot.engine.models.qwen_image_21",
    "sdxl": "bot.engine.models.sdxl",
    "tiny": "bot.engine.tiny.model",
}
