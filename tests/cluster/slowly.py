"""The storm's pipeline, slow enough for a kill to fall into a job."""

from __future__ import annotations

from tests.crash import pipeline
from tests.crash.pipeline import build

__all__ = ["build"]

pipeline.STEP_S = 0.03
