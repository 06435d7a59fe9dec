"""The listed warnings are still announcements, and about others' calls alone."""

from __future__ import annotations

import re
import warnings
from importlib import metadata
from pathlib import Path

import pytest
from packaging.version import Version

from tests.announcements import ANNOUNCEMENTS, Announcement

ROOT = Path(__file__).parent.parent
each = pytest.mark.parametrize("announced", ANNOUNCEMENTS, ids=lambda one: one.name)


def there(package: str) -> bool:
    return any(True for _ in metadata.distributions(name=package))


@each
def test_it_has_not_come_true(announced: Announcement):
    if announced.replacement and there(announced.replacement):
        return
    assert Version(announced.installed) < Version(announced.until), (
        f"{announced.library} {announced.installed} no longer takes {announced.name} from "
        f"{announced.caller}: see that it works, then take the announcement out of the list"
    )


@each
def test_our_own_code_does_not_use_what_will_go(announced: Announcement):
    for part in ("bot", "cogs", "storage"):
        for path in (ROOT / part).rglob("*.py"):
            assert not re.search(rf"\b{announced.name}\b", path.read_text("utf-8")), path


def test_nothing_else_is_let_pass(pytestconfig):
    assert pytestconfig.getini("filterwarnings") == [
        "error",
        *(announced.filter for announced in ANNOUNCEMENTS),
    ]
    for category in (DeprecationWarning, FutureWarning, UserWarning, RuntimeWarning):
        with pytest.raises(category, match="something else"):
            warnings.warn("something else", category, stacklevel=1)
