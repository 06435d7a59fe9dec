"""What pydantic finds wrong in a body, in words and without the value that was sent."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

_LONGEST_NAME: Final = 60
# What other programs call the same; each API takes the first of its own names.
_OTHER_NAMES: Final[Mapping[str, Sequence[str]]] = {
    "steps": ("num_inference_steps",),
    "step": ("num_inference_steps",),
    "cfg": ("guidance_scale",),
    "cfg_scale": ("guidance_scale",),
    "true_cfg_scale": ("guidance_scale",),
    "n": ("count",),
    "count": ("n",),
    "num_images": ("count", "n"),
    "batch_size": ("count", "n"),
    "width": ("size",),
    "height": ("size",),
    "size": ("width",),
}
# https://platform.openai.com/docs/guides/error-codes names none of them; these are what it answers.
_CODES: Final[Mapping[str, str]] = {
    "missing": "missing_required_parameter",
    "extra_forbidden": "unknown_parameter",
}


@dataclass(frozen=True, slots=True)
class BodyFault:
    """One fault of a body: the sentence, and its field and code as OpenAI's clients read them."""

    sentence: str
    field: str | None
    code: str


def fault_of(error: Mapping[str, Any], fields: Collection[str]) -> BodyFault:
    """Return one error of pydantic's as a fault; `fields` are those that there are."""
    place = cast("Sequence[Any]", error["loc"])[1:]
    name = ".".join(str(step)[:_LONGEST_NAME] for step in place if not isinstance(step, int))
    kind = str(error["type"])
    code = _CODES.get(kind, "invalid_type" if kind.endswith("_type") else "invalid_value")
    if kind == "json_invalid":
        return BodyFault("The body is not valid JSON", None, code)
    if not place and kind in {"missing", "model_attributes_type", "model_type"}:
        return BodyFault("The body must be a JSON object", None, code)
    if kind == "extra_forbidden":
        return BodyFault(_unknown(name, fields), name, code)
    reason = str(error["msg"])
    return BodyFault(f"{name}: {reason}" if name else reason, name or None, code)


def _unknown(name: str, fields: Collection[str]) -> str:
    """Return the refusal of a field that does not exist, with the one that may be meant."""
    other = [one for one in _OTHER_NAMES.get(name.lower(), ()) if one in fields]
    meant = other or difflib.get_close_matches(name.lower(), fields, n=1)
    sentence = f'There is no field "{name}"'
    return f'{sentence}; did you mean "{meant[0]}"?' if meant else sentence
