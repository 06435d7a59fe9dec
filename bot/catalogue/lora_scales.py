"""What the header of a LoRA file says: the scale that it was trained with, and its model."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Self, cast

# diffusers' loaders, `LORA_ADAPTER_METADATA_KEY`: PEFT's configuration, each name with the part of
# the pipeline before it. Trainers of theirs (SimpleTuner) write the same names into the header.
_ADAPTER: Final = "lora_adapter_metadata"
_OF_PEFT: Final = ("lora_alpha", "use_rslora", "use_dora", "alpha_pattern")
_COMPONENT: Final = "transformer"
# kohya's trainers. Files that were converted to other names have it in their weights already, and
# keep their header (musubi-tuner, convert_lora.py).
_KOHYA_ALPHA: Final = "ss_network_alpha"
_NONE: Final = frozenset({"", "none", "null"})

# https://github.com/Stability-AI/ModelSpec, kohya's `ss_base_model_version`.
_MODEL_KEYS: Final = ("modelspec.architecture", "ss_base_model_version")
_OTHERS: Final = (
    (re.compile(r"^flux", re.IGNORECASE), "FLUX"),
    (re.compile(r"^(stable-diffusion|sdxl|sd[_-]?\d|sd3)", re.IGNORECASE), "Stable Diffusion"),
    (re.compile(r"^wan", re.IGNORECASE), "Wan"),
    (re.compile(r"^hunyuan", re.IGNORECASE), "HunyuanVideo"),
)
_THEIR_LAYERS: Final = (
    (re.compile(r"^(single_transformer_blocks|double_blocks|single_blocks)[._]"), "FLUX"),
    (
        re.compile(r"^(down_blocks|up_blocks|mid_block|input_blocks|output_blocks|middle_block)[._]"),
        "Stable Diffusion",
    ),
    (re.compile(r"^blocks[._]\d+[._](self|cross)_attn"), "Wan"),
)  # fmt: skip


class Scale(NamedTuple):
    """Alpha of a layer (None: as large as its rank), over the rank or over the rank's root."""

    alpha: float | None
    by_root: bool


@dataclass(frozen=True, slots=True)
class Scales:
    """The header's alpha, and that of the layers that have another."""

    alpha: float | None = None
    by_root: bool = False
    patterns: Mapping[str, float] = field(default_factory=dict[str, float])

    @classmethod
    def read(cls, metadata: Mapping[str, str], *, kohya: bool) -> Self:
        """Read a header; raise `ValueError` with the name of an entry that is not understood.

        `kohya` says that the tensors have kohya's names.
        """
        config = _peft(metadata)
        if config.get("use_dora") is True:
            raise ValueError("use_dora")
        alpha = _number(config.get("lora_alpha"), "lora_alpha")
        if alpha is None and kohya:
            alpha = _number(metadata.get(_KOHYA_ALPHA), _KOHYA_ALPHA)
        patterns = {
            pattern: _required(value, "alpha_pattern")
            for pattern, value in _mapping(
                config.get("alpha_pattern") or {}, "alpha_pattern"
            ).items()
        }
        rooted = config.get("use_rslora")
        if rooted is not None and not isinstance(rooted, bool):
            raise ValueError("use_rslora")
        return cls(alpha, bool(rooted), patterns)

    def of(self, target: str) -> Scale:
        """Return the scale of a layer, by its dotted name."""
        for pattern, alpha in self.patterns.items():
            if _fits(pattern, target):
                return Scale(alpha, self.by_root)
        return Scale(self.alpha, self.by_root)


def other_model(metadata: Mapping[str, str], targets: Iterable[str] = ()) -> str | None:
    """Return the model that a header or the names of its layers speak of, where that is another."""
    for key in _MODEL_KEYS:
        for begins, model in _OTHERS:
            if begins.search(str(metadata.get(key, "")).strip()):
                return model
    for target in targets:
        for begins, model in _THEIR_LAYERS:
            if begins.search(target):
                return model
    return None


def _fits(pattern: str, target: str) -> bool:
    """Tell whether an entry of PEFT's `alpha_pattern` means a layer: the end of its name, or all.

    PEFT takes them as regular expressions. A stranger's could take hours, so only what its own
    trainers write is read: names, with `^` before a whole one.
    """
    name = pattern.removeprefix("^").removesuffix("$").replace("\\.", ".")
    return target == name or (not pattern.startswith("^") and target.endswith(f".{name}"))


def _peft(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return PEFT's configuration of the transformer, without the names' beginnings."""
    entries: dict[str, Any] = {
        key: _value(text) for key, text in metadata.items() if key.rpartition(".")[2] in _OF_PEFT
    }
    if (text := metadata.get(_ADAPTER)) is not None:
        try:
            entries |= _mapping(json.loads(text), _ADAPTER)
        except (ValueError, RecursionError):
            raise ValueError(_ADAPTER) from None
    components: dict[str, dict[str, Any]] = {}
    for key, value in entries.items():
        component, _, leaf = str(key).rpartition(".")
        components.setdefault(component, {})[leaf] = value
    for component in (_COMPONENT, ""):
        if component in components:
            return components[component]
    return next(iter(components.values())) if len(components) == 1 else {}


def _value(text: str) -> Any:
    """Return an entry of the header itself, where all values are text."""
    try:
        return json.loads(text.lower() if text in {"True", "False"} else text)
    except (ValueError, RecursionError):
        return text


def _mapping(value: Any, key: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(key)  # noqa: TRY004 - as all that is not understood
    return cast("dict[str, Any]", value)


def _required(value: Any, key: str) -> float:
    number = _number(value, key)
    if number is None:
        raise ValueError(key)
    return number


def _number(value: Any, key: str) -> float | None:
    if value is None or (isinstance(value, str) and value.strip().lower() in _NONE):
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(key)
    return number
