"""The wish of a trial: which model is tried, with which of the engine's options; no torch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Self

from bot.catalogue.lightning import SERIES
from bot.catalogue.models import ModelSpec, Quality
from bot.domain.request import GUIDANCE_MIN
from bot.engine.options import EngineOptions


@dataclass(frozen=True, slots=True)
class Wish:
    """A picture of the default size with the qualities `standard` and `fast`, if there is one.

    `lightning` are the steps that there is a Lightning file for, which takes `lightning_bytes` of
    the card; `toy`: at toy size on the CPU. The model folder of `options` is a temporary one.
    """

    model: str
    family: str
    options: EngineOptions
    standard: Quality
    fast: Quality | None
    lightning: tuple[int, ...]
    lightning_bytes: int
    toy: bool

    @property
    def guided(self) -> bool:
        """Whether a step has two branches."""
        return self.standard.guidance > GUIDANCE_MIN

    @classmethod
    def of(cls, model: ModelSpec, options: EngineOptions) -> Self:
        """Return the wish for the model's own qualities."""
        series = SERIES.get(model.name)
        return cls(
            model=model.name,
            family=model.family,
            options=options,
            standard=model.qualities[model.default_quality],
            fast=model.qualities.get("fast"),
            lightning=() if series is None else series.steps,
            lightning_bytes=0 if series is None else series.file_bytes,
            toy=model.built_in,
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
        values["fast"] = Quality(**values["fast"]) if values["fast"] else None
        values["lightning"] = tuple(values["lightning"])
        return cls(**values)
