from __future__ import annotations

from tests.engine.warm import lora_folder, warm_tiny

__all__ = ["lora_folder", "warm_tiny"]
