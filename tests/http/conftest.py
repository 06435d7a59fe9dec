from __future__ import annotations

from tests.wire.conftest import _route, judge, sandbox  # noqa: F401 - fixtures
