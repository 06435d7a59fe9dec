"""ComfyUI's graphs: the words and the sampler's settings, however the nodes are wired.

A graph is JSON, `{id: {"class_type": …, "inputs": {name: value or [id, output]}}}`. The words stand
in text encoders of many kinds, or in other nodes that are linked to them; whether they are wanted
or not tells the sampler's input that they lead to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

_SAMPLED: Final = (
    *("seed", "noise_seed", "steps", "cfg", "guidance", "shift"),
    *("sampler_name", "scheduler", "denoise"),
)
# Inputs that hold words: `text`, `prompt`, Flux's `clip_l` and `t5xxl`, `string_a`, `value` …
_WORDS: Final = re.compile(
    r"text|prompt|string|value|caption|instruction|positive|negative|wildcard|tags|words"
    r"|clip_[lgh]|t5|llama|bert",
    re.IGNORECASE,
)
_NO_WORDS: Final = re.compile(
    r"name|mode|model|encoder|delimiter|separator|format|path|file|type|weight|strength",
    re.IGNORECASE,
)
# Links that lead to no words, and to nodes that would bring others' in.
_ELSEWHERE: Final = re.compile(
    r"^(model|clip|vae|control_net|mask|noise|sigmas|sampler|style_model)$"
    r"|^clip_vision|^lora|image|latent|pixels|samples|video|audio",
    re.IGNORECASE,
)
_ENCODER: Final = re.compile(r"encode|prompt", re.IGNORECASE)
_REMARK: Final = re.compile(r"note|save|load|show|preview|display", re.IGNORECASE)
_HOPS_LIMIT: Final = 20
_OTHER: Final = {"positive": "negative", "negative": "positive"}

Node = Mapping[str, Any]


def graph_of(value: object) -> dict[str, Node] | None:
    """Return a graph's nodes; None where `value`, which was JSON, is not one.

    What else stands among the nodes, as some writers put it there, is left out.
    """
    if not isinstance(value, dict):
        return None
    nodes: dict[str, Node] = {}
    for name, entry in cast("dict[str, Any]", value).items():
        if isinstance(entry, dict):
            node = cast("Node", entry)
            if isinstance(node.get("inputs"), dict):
                nodes[name] = node
    return nodes or None


def graph_text(nodes: Mapping[str, Node]) -> str:
    """Return the words, a line of those that are not wanted, and one of settings; may be empty."""
    unwanted = _words(nodes, "negative", list(_ends(nodes, "negative")))
    wanted = _words(nodes, "positive", list(_ends(nodes, "positive")))
    if not wanted:
        wanted = _words(nodes, "positive", list(_senseless_ends(nodes)))
    if not wanted:
        wanted = [text for text in _loose_words(nodes) if text not in set(unwanted)]
    lines = [*wanted]
    if unwanted:
        lines.append("Negative prompt: " + "\n".join(unwanted))
    if settings := ", ".join(dict.fromkeys(_settings(nodes))):
        lines.append(settings)
    return "\n".join(lines)


def _ends(nodes: Mapping[str, Node], sense: str) -> Iterator[object]:
    """Yield what inputs of one sense, `positive` or `negative`, have: a link, or words."""
    for node in nodes.values():
        for name, value in node["inputs"].items():
            if sense in name.lower() and not _NO_WORDS.search(name):
                yield value


def _senseless_ends(nodes: Mapping[str, Node]) -> Iterator[object]:
    """Yield what leads to samplers and guiders that have one sense alone, such as Flux's."""
    for node in nodes.values():
        if re.search("sampler|guider", str(node.get("class_type")), re.IGNORECASE):
            for name, value in node["inputs"].items():
                if name.startswith(("cond", "guider")):
                    yield value


def _loose_words(nodes: Mapping[str, Node]) -> Iterator[str]:
    """Yield the words of nodes that are wired to no input known here."""
    for node in nodes.values():
        kind = str(node.get("class_type") or "encode")
        if _ENCODER.search(kind):
            yield from _strings(node["inputs"], "positive")
        elif not _REMARK.search(kind):
            inputs = node["inputs"]
            named = {name: inputs[name] for name in ("prompt", "text") if name in inputs}
            yield from _strings(named, "positive")


def _linked(nodes: Mapping[str, Node], value: object) -> str | None:
    """Return the id of the node that an input is linked to, if it is."""
    if not isinstance(value, list):
        return None
    link = cast("list[object]", value)
    target = str(link[0]) if len(link) == 2 else ""  # noqa: PLR2004
    return target if target in nodes else None


def _words(nodes: Mapping[str, Node], sense: str, ends: list[object]) -> list[str]:
    """Return the words that lead to some inputs, each once; no node is looked at twice."""
    found: dict[str, None] = {}
    seen: set[str] = set()
    waiting = ends[::-1]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str) and value.strip():
            found[value.strip()] = None
        name = _linked(nodes, value)
        if name is None or name in seen:
            continue
        seen.add(name)
        node = nodes[name]
        if node.get("class_type") == "ConditioningZeroOut":  # Takes the words' effect away.
            continue
        found.update(dict.fromkeys(_strings(node["inputs"], sense)))
        inputs = cast("dict[str, object]", node["inputs"])
        waiting += [
            value
            for key, value in reversed(inputs.items())
            if isinstance(value, list) and _OTHER[sense] not in key and not _ELSEWHERE.search(key)
        ]
    return list(found)


def _strings(inputs: Mapping[str, Any], sense: str) -> Iterator[str]:
    for key, value in inputs.items():
        named = _WORDS.search(key) and not _NO_WORDS.search(key)
        if named and _OTHER[sense] not in key.lower() and isinstance(value, str) and value.strip():
            yield value.strip()


def _settings(nodes: Mapping[str, Node]) -> Iterator[str]:
    for node in nodes.values():
        for name in _SAMPLED:
            value = _number(nodes, name, node["inputs"].get(name))
            if value is not None:
                yield f"{name}: {value}"


def _number(nodes: Mapping[str, Node], name: str, value: object) -> str | int | float | None:
    """Return a setting, through the links of nodes that only hold a number."""
    for _ in range(_HOPS_LIMIT):
        target = _linked(nodes, value)
        if target is None:
            break
        inputs = nodes[target]["inputs"]
        value = inputs.get(name, inputs.get("value", inputs.get("seed", inputs.get("int"))))
    return value if isinstance(value, str | int | float) and not isinstance(value, bool) else None
