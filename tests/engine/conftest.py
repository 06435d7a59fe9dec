from __future__ import annotations

from tests.engine.warm import warm_tiny

__all__ = ["warm_tiny"]
