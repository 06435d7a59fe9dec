"""All that fuzzing tries, by name."""

from __future__ import annotations

from tests.fuzz.edit_targets import EDIT_TARGETS
from tests.fuzz.targets import TARGETS as OTHERS
from tests.fuzz.targets import Target

TARGETS: dict[str, Target] = {**OTHERS, **EDIT_TARGETS}
