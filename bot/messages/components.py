"""The components of a message as Discord shows them, however deep they stand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any


def every(components: Iterable[Any]) -> Iterator[Any]:
    """Yield components and what stands in them: rows in a container, a section's accessory."""
    for component in components:
        yield component
        yield from every(getattr(component, "children", None) or ())
        if accessory := getattr(component, "accessory", None):
            yield from every([accessory])


def custom_ids(components: Iterable[Any]) -> Iterator[str]:
    """Yield the ids of all controls, in reading order."""
    for component in every(components):
        if custom_id := getattr(component, "custom_id", None):
            yield str(custom_id)
