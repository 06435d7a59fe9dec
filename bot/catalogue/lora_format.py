"""What the names, shapes and header of a LoRA file mean; whatever is not understood is refused.

A file in which something is left out is drawn with all the same, and nobody sees why the picture is
wrong. So each tensor has to be one of a plain LoRA's (Hu et al. 2021, arXiv:2106.09685): two
matrices for each layer, and perhaps an alpha.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NoReturn

from bot.catalogue.lora_layers import QWEN_IMAGE, LoraTarget
from bot.catalogue.lora_scales import Scales, other_model
from bot.errors import EngineError, EngineErrorKind, filled
from bot.words import mark

_PREFIXES: Final = (
    "base_model.model.",
    "model.diffusion_model.",
    "diffusion_model.",
    "transformer.",
    "dit.",
    "lora_unet_",
    "lora_transformer_",
    "lycoris_",
)
# `.default` and the like are the names that PEFT gives to adapters.
_PART: Final = re.compile(
    r"(?P<target>.+?)\.(?:(?P<down>lora_A|lora_down|lora\.down)|(?P<up>lora_B|lora_up|lora\.up))"
    r"(?:\.(?!weight$|bias$)(?P<adapter>\w[\w-]*))?(?:\.weight)?"
)
_KOHYA: Final = re.compile(r"\.lora_(down|up)(\.|$)")
_BLOCK: Final = re.compile(r"transformer_blocks[._](\d+)[._](.+)")
# The endings of tensors by which other kinds are known: PEFT's and LyCORIS' names
# (https://github.com/KohakuBlueleaf/LyCORIS/blob/main/docs/Algo-List.md).
_KINDS: Final = (
    (re.compile(r"\.(lora_magnitude_vector|dora_scale|magnitude)(\.|$)"), "DoRA"),
    (re.compile(r"\.lokr_\w+$"), "LoKr"),
    (re.compile(r"\.hada_\w+$"), "LoHa"),
    (re.compile(r"\.(oft|boft)_\w+(\.|$)"), "OFT"),
    (re.compile(r"\.[ab][12]\.weight$"), "GLoRA"),
    (re.compile(r"\.(ia3_l|on_input)(\.|$)"), "IA3"),
    (re.compile(r"(^|\.)vera_\w+(\.|$)"), "VeRA"),
    (re.compile(r"\.lora_mid(\.|$)"), "LoCon (Tucker)"),
    (re.compile(r"\.(lora_[AB]|lora_down|lora_up)(\.\w+)?\.bias$"), "LoRA (biases)"),
    (re.compile(r"\.(diff|diff_b|w_norm|b_norm)$"), "full (diff)"),
)
_DIMENSIONS: Final = (2, 4)
_SHOWN: Final = 80
_STRANGE: Final = re.compile(r"[^\w.,()/ -]")


@dataclass(slots=True)
class LoraLayer:
    """A layer's part of a file: the keys of its tensors, and its scale where that is known.

    `block` is None for a layer around the blocks. The scale is alpha / rank (or over its root), of
    the tensor `alpha_key`'s value or of the header's `alpha`; 1 where both are None.
    """

    target: str
    block: int | None = None
    layer: str = ""
    down_key: str = ""
    up_key: str = ""
    alpha_key: str | None = None
    rank: int = 0
    alpha: float | None = None
    by_root: bool = False
    adapters: set[str | None] = field(default_factory=set)

    @property
    def module(self) -> str:
        """The layer's name in the model."""
        return self.layer if self.block is None else f"transformer_blocks.{self.block}.{self.layer}"

    def scale(self, alpha: float | None) -> float:
        """Return by what the product of the matrices is multiplied; `alpha` is the tensor's."""
        alpha = self.alpha if alpha is None else alpha
        return 1.0 if alpha is None else alpha / (self.rank**0.5 if self.by_root else self.rank)


def read_format(
    name: str,
    shapes: Mapping[str, Sequence[int]],
    metadata: Mapping[str, str],
    target: LoraTarget = QWEN_IMAGE,
) -> list[LoraLayer]:
    """Return the layers that the LoRA `name` changes; each of its tensors belongs to one of them.

    `shapes` are its tensors' by key, `metadata` is its header's, `target` is what it has to be made
    for. DiffSynth's, PEFT's, diffusers'
    and kohya's ways of naming are read. Raises `EngineError` (`REFUSED`) with a sentence that names
    what is not understood.
    """
    kinds = {kind for key in shapes for ending, kind in _KINDS if ending.search(key)}
    if kinds:
        sentence = mark(
            "The LoRA {name} is of a kind that is not supported, {kind}; only plain LoRAs are."
        )
        refuse(sentence, name, kind=", ".join(sorted(kinds)))
    if (model := other_model(metadata)) is not None:
        refuse(_OTHER_MODEL, name, model=model, wanted=target.model)
    scales = _scales(name, metadata, kohya=any(map(_KOHYA.search, shapes)))
    layers = _grouped(name, shapes)
    if not layers:
        refuse(mark("The LoRA {name} is empty."), name)
    _place(name, layers.values(), target)
    for layer in layers.values():
        _check(name, layer, shapes)
        scale = scales.of(layer.module)
        layer.alpha, layer.by_root = scale.alpha, scale.by_root
    return list(layers.values())


def refuse(sentence: str, name: str, **values: str) -> NoReturn:
    """Raise the `EngineError` (`REFUSED`) of the LoRA `name`."""
    # A stranger's file may have anything for a name.
    shown = {key: _STRANGE.sub("?", value[:_SHOWN]) for key, value in values.items()}
    values = {"name": name, **shown}
    raise EngineError(
        EngineErrorKind.REFUSED, filled(sentence, values), sentence=sentence, values=values
    )


_OTHER_MODEL: Final = mark("The LoRA {name} is made for {model}, not for {wanted}.")


def _scales(name: str, metadata: Mapping[str, str], *, kohya: bool) -> Scales:
    try:
        return Scales.read(metadata, kohya=kohya)
    except ValueError as error:
        sentence = mark("The LoRA {name} has {key} in its header, which is not understood.")
        refuse(sentence, name, key=str(error))


def _grouped(name: str, keys: Iterable[str]) -> dict[str, LoraLayer]:
    """Put the keys of each layer together."""
    layers: dict[str, LoraLayer] = {}
    for key in sorted(keys):
        short = _without_prefix(key)
        match = _PART.fullmatch(short)
        target = match["target"] if match else short.removesuffix(".alpha")
        if match is None and target == short:
            refuse(_key_sentence(), name, key=short)
        # In one spelling: a file that changes a layer twice is found by that.
        layer = layers.setdefault(target.replace(".", "_"), LoraLayer(target))
        place = "alpha_key" if match is None else "down_key" if match["down"] else "up_key"
        if match is not None:
            layer.adapters.add(match["adapter"])
        if len(layer.adapters) > 1:
            adapters = ", ".join(sorted(str(adapter) for adapter in layer.adapters))
            sentence = mark("The LoRA {name} holds several adapters ({adapters}); one can be used.")
            refuse(sentence, name, adapters=adapters)
        if getattr(layer, place):
            refuse(mark("The LoRA {name} changes {target} twice."), name, target=target)
        setattr(layer, place, key)
    return layers


def _key_sentence() -> str:
    return mark("The LoRA {name} has the tensor {key}, which is not understood.")


def _without_prefix(key: str) -> str:
    shorter = True
    while shorter:
        shorter = False
        for prefix in _PREFIXES:
            if key.startswith(prefix):
                key, shorter = key.removeprefix(prefix), True
    return key


def _place(name: str, layers: Iterable[LoraLayer], target: LoraTarget) -> None:
    """Find the model's layer of each target."""
    unknown: list[str] = []
    for layer in layers:
        if (block := _BLOCK.fullmatch(layer.target)) is not None:
            layer.block = int(block[1])
            layer.layer = target.flat_blocks.get(block[2].replace(".", "_"), "")
        else:
            layer.layer = target.flat_outer.get(layer.target.replace(".", "_"), "")
        if not layer.layer:
            unknown.append(layer.target)
    if not unknown:
        return
    if (model := other_model({}, unknown)) is not None:
        refuse(_OTHER_MODEL, name, model=model, wanted=target.model)
    not_there(name, unknown[0], target.model)


def not_there(name: str, target: str, wanted: str) -> NoReturn:
    """Refuse the LoRA `name`, which changes a layer that the model `wanted` has not."""
    sentence = mark(
        "The LoRA {name} is not made for {wanted}: it changes {target}, which is not there."
    )
    refuse(sentence, name, target=target, wanted=wanted)


def _check(name: str, layer: LoraLayer, shapes: Mapping[str, Sequence[int]]) -> None:
    if not (layer.down_key and layer.up_key):
        if not (layer.down_key or layer.up_key):
            refuse(_key_sentence(), name, key=f"{layer.target}.alpha")
        sentence = mark("The LoRA {name} is incomplete: {target} lacks one of its two matrices.")
        refuse(sentence, name, target=layer.target)
    down, up = shapes[layer.down_key], shapes[layer.up_key]
    matrices = all(
        len(one) in _DIMENSIONS and all(size > 0 for size in one) and set(one[2:]) <= {1}
        for one in (down, up)
    )
    numbers = 1
    for size in shapes[layer.alpha_key] if layer.alpha_key else ():
        numbers *= size
    if not matrices or up[1] != down[0] or numbers != 1:
        sentence = mark("The LoRA {name} is damaged: the tensors of {target} do not fit together.")
        refuse(sentence, name, target=layer.target)
    layer.rank = down[0]
