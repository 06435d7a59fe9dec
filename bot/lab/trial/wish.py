"""The wish of a trial: which model is tried, with which of the engine's options; no torch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from bot.catalogue.lightning import SERIES, STEPS
from bot.catalogue.models import ModelSpec, Quality
from bot.engine.options import EngineOptions

_DEFAULT: Final = "standard"


@dataclass(frozen=True, slots=True)
class Wish:
    """A picture of `width` x `height` pixels with the qualities `standard` and `fast`.

    `lightning` are the steps that there is a Lightning file for; `toy`: at toy size on the CPU.
    The model folder of `options` is a temporary one.
    """

    model: str
    options: EngineOptions
    width: int
    height: int
    standard: Quality
    fast: Quality
    lightning: tuple[int, ...]
    toy: bool

    @classmethod
    def of(cls, model: ModelSpec, options: EngineOptions) -> Self:
        """Return the wish for the model's default shape and its own qualities."""
        width, height = model.sizes[model.default_aspect]
        return cls(
            model.name,
            options,
            width,
            height,
            model.qualities[_DEFAULT],
            model.qualities.get("fast", model.qualities[_DEFAULT]),
            STEPS if model.name in SERIES else (),
            model.built_in,
        )

    def to_json(self) -> str:
        """Return it as a line of JSON."""
        return json.dumps(asdict(self) | {"options": self.options.to_header()})

    @classmethod
    def from_json(cls, line: str) -> Self:
        """Read what `to_json` wrote."""
        values: dict[str, Any] = json.loads(line)
        values["options"] = EngineOptions.from_header(values["options"])
        values["standard"] = Quality(**values["standard"])
        values["fast"] = Quality(**values["fast"])
        values["lightning"] = tuple(values["lightning"])
        return cls(**values)
