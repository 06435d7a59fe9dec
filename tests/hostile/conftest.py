from __future__ import annotations

from tests.wire.conftest import _route, judge, sandbox, stage

__all__ = ["_route", "judge", "sandbox", "stage"]
