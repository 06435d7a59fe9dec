"""What a LoRA file's names, shapes and header mean, and what is refused by name."""

from __future__ import annotations

import json
import random

import pytest

from bot.catalogue.lora_format import LoraLayer, read_format
from bot.catalogue.lora_layers import BLOCK_LAYERS, OUTER_LAYERS
from bot.errors import EngineError, EngineErrorKind

DOWN, UP = (4, 128), (128, 4)
LAYER = "transformer_blocks.0.attn.to_q"


def pair(target: str = LAYER, up: str = "lora_B.weight", down: str = "lora_A.weight"):
    return {f"{target}.{down}": DOWN, f"{target}.{up}": UP}


def adapter(**values: object) -> dict[str, str]:
    """A header as diffusers writes it."""
    return {"lora_adapter_metadata": json.dumps({f"transformer.{k}": v for k, v in values.items()})}


def refused(shapes, metadata=None) -> str:
    with pytest.raises(EngineError) as caught:
        read_format("ink", shapes, metadata or {})
    assert caught.value.kind is EngineErrorKind.REFUSED
    assert caught.value.sentence is not None
    return caught.value.sentence.removeprefix("The LoRA ink ")


def only(shapes, metadata=None) -> LoraLayer:
    (layer,) = read_format("ink", shapes, metadata or {})
    return layer


@pytest.mark.parametrize(
    "shapes",
    [
        pair(),
        pair(up="lora_B", down="lora_A"),
        pair(up="lora_B.default.weight", down="lora_A.default.weight"),
        pair(up="lora_B.default_0.weight", down="lora_A.default_0.weight"),
        pair(up="lora_B.my-style.weight", down="lora_A.my-style.weight"),
        pair(up="lora_B.my_style", down="lora_A.my_style"),
        pair(f"base_model.model.transformer.{LAYER}"),
        pair(f"model.diffusion_model.{LAYER}", "lora_up.weight", "lora_down.weight"),
        pair(f"diffusion_model.{LAYER}", "lora.up.weight", "lora.down.weight"),
        pair("lora_unet_" + LAYER.replace(".", "_"), "lora_up.weight", "lora_down.weight"),
        pair("lycoris_" + LAYER.replace(".", "_"), "lora_up.weight", "lora_down.weight"),
    ],
)
def test_every_way_of_naming_is_the_same_layer(shapes):
    layer = only(shapes)
    assert (layer.block, layer.layer, layer.rank) == (0, "attn.to_q", 4)
    assert {layer.down_key, layer.up_key} == set(shapes)
    assert layer.scale(None) == 1.0


def test_every_layer_is_known_dotted_and_flat():
    names = [*(f"transformer_blocks.7.{layer}" for layer in BLOCK_LAYERS), *OUTER_LAYERS]
    for name in names:
        for spelt in (name, "lora_unet_" + name.replace(".", "_")):
            assert only(pair(spelt)).module == name


@pytest.mark.parametrize(
    ("metadata", "target", "scale"),
    [
        (adapter(r=4, lora_alpha=8), LAYER, 2.0),
        (adapter(r=4, lora_alpha=8, use_rslora=True), LAYER, 4.0),
        (adapter(r=4, lora_alpha=8, alpha_pattern={"attn.to_q": 2}), LAYER, 0.5),
        (adapter(r=4, lora_alpha=8, alpha_pattern={f"^{LAYER}": 2}), LAYER, 0.5),
        (adapter(r=4, lora_alpha=8, alpha_pattern={"^attn.to_q": 2, "o_q": 1}), LAYER, 2.0),
        (adapter(r=4, lora_alpha=8, alpha_pattern={"attn.to_q": 2}), "lora_unet_" + LAYER.replace(".", "_"), 0.5),
        ({"transformer.lora_alpha": "8", "transformer.r": "4"}, LAYER, 2.0),
        ({"lora_alpha": "8.0", "use_rslora": "True"}, LAYER, 4.0),
        ({"lora_adapter_metadata": '{"text_encoder.lora_alpha": 99, "transformer.lora_alpha": 8}'}, LAYER, 2.0),
        ({"lora_adapter_metadata": "{}"}, LAYER, 1.0),
        # Converted from kohya's names: it is in the weights already, and the header was kept.
        ({"ss_network_alpha": "8", "ss_network_dim": "4"}, LAYER, 1.0),
    ],
)  # fmt: skip
def test_an_alpha_in_the_header_counts(metadata, target, scale):
    assert only(pair(target), metadata).scale(None) == scale


def test_an_alpha_in_kohyas_header_counts_for_kohyas_names():
    shapes = pair(up="lora_up.weight", down="lora_down.weight")
    assert only(shapes, {"ss_network_alpha": "8.0"}).scale(None) == 2.0
    assert only(shapes, {"ss_network_alpha": "None"}).scale(None) == 1.0
    own = only(shapes | {f"{LAYER}.alpha": ()}, {"ss_network_alpha": "8"})
    assert own.alpha_key == f"{LAYER}.alpha"
    assert own.scale(4.0) == 1.0  # the layer's own tensor counts before the header


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (f"{LAYER}.lora_magnitude_vector", "DoRA"),
        (f"{LAYER}.lora_magnitude_vector.default.weight", "DoRA"),
        (f"{LAYER}.dora_scale", "DoRA"),
        ("lycoris_transformer_blocks_0_attn_to_k.lokr_w1", "LoKr"),
        ("lycoris_transformer_blocks_0_attn_to_k.lokr_w2_a", "LoKr"),
        ("lycoris_transformer_blocks_0_attn_to_k.hada_w1_a", "LoHa"),
        (f"{LAYER}.oft_R.weight", "OFT"),
        (f"{LAYER}.oft_blocks", "OFT"),
        (f"{LAYER}.b1.weight", "GLoRA"),
        (f"{LAYER}.on_input", "IA3"),
        (f"{LAYER}.vera_lambda_b", "VeRA"),
        (f"{LAYER}.lora_mid.weight", "LoCon (Tucker)"),
        (f"{LAYER}.lora_B.bias", "LoRA (biases)"),
        (f"{LAYER}.diff", "full (diff)"),
    ],
)
def test_another_kind_is_named(key, kind):
    said = f"is of a kind that is not supported, {kind}; only plain LoRAs are."
    assert refused({**pair(), key: (128,)}) == said
    assert refused({key: (128,)}) == said


@pytest.mark.parametrize(
    ("shapes", "metadata", "said"),
    [
        ({}, {}, "is empty."),
        ({**pair(), f"{LAYER}.lora_C.weight": DOWN}, {}, "has the tensor transformer_blocks.0.attn.to_q.lora_C.weight, which is not understood."),
        ({**pair(), "@everyone\n*x*": DOWN}, {}, "has the tensor ?everyone??x?, which is not understood."),
        ({**pair(), "img_in.alpha": ()}, {}, "has the tensor img_in.alpha, which is not understood."),
        ({f"{LAYER}.lora_A.weight": DOWN}, {}, f"is incomplete: {LAYER} lacks one of its two matrices."),
        ({**pair(), **pair("img_in", down="lora_A.weight"), "txt_in.lora_B.weight": UP}, {}, "is incomplete: txt_in lacks one of its two matrices."),
        ({**pair(), **pair(up="lora_B.b.weight", down="lora_A.b.weight")}, {}, "holds several adapters (None, b); one can be used."),
        ({**pair(), **pair(f"transformer.{LAYER}")}, {}, f"changes {LAYER} twice."),
        (pair() | {f"{LAYER}.lora_B.weight": (128, 5)}, {}, f"is damaged: the tensors of {LAYER} do not fit together."),
        ({f"{LAYER}.lora_A.weight": (4,), f"{LAYER}.lora_B.weight": (4,)}, {}, f"is damaged: the tensors of {LAYER} do not fit together."),
        ({f"{LAYER}.lora_A.weight": (), f"{LAYER}.lora_B.weight": ()}, {}, f"is damaged: the tensors of {LAYER} do not fit together."),
        ({f"{LAYER}.lora_A.weight": (0, 128), f"{LAYER}.lora_B.weight": (128, 0)}, {}, f"is damaged: the tensors of {LAYER} do not fit together."),
        ({f"{LAYER}.lora_A.weight": (4, 128, 3, 3), f"{LAYER}.lora_B.weight": (128, 4, 1, 1)}, {}, f"is damaged: the tensors of {LAYER} do not fit together."),
        (pair() | {f"{LAYER}.alpha": (2,)}, {}, f"is damaged: the tensors of {LAYER} do not fit together."),
        ({**pair(), **pair("transformer.single_transformer_blocks.0.attn.to_k")}, {}, "is made for FLUX, not for Qwen-Image."),
        (pair("double_blocks.0.img_attn.qkv"), {}, "is made for FLUX, not for Qwen-Image."),
        (pair("lora_unet_down_blocks_0_attentions_0_proj_in", "lora_up.weight", "lora_down.weight"), {}, "is made for Stable Diffusion, not for Qwen-Image."),
        (pair("diffusion_model.blocks.0.self_attn.q"), {}, "is made for Wan, not for Qwen-Image."),
        (pair(), {"modelspec.architecture": "flux-1-dev/lora"}, "is made for FLUX, not for Qwen-Image."),
        (pair(), {"ss_base_model_version": "sdxl_base_v1-0"}, "is made for Stable Diffusion, not for Qwen-Image."),
        ({**pair(), **pair("transformer_blocks.0.ff.net.2")}, {}, "is not made for Qwen-Image: it changes transformer_blocks.0.ff.net.2, which is not there."),
        ({**pair(), **pair("text_encoder.layers.0.q_proj")}, {}, "is not made for Qwen-Image: it changes text_encoder.layers.0.q_proj, which is not there."),
        (pair(), {"lora_adapter_metadata": "{"}, "has lora_adapter_metadata in its header, which is not understood."),
        (pair(), {"lora_adapter_metadata": "[1]"}, "has lora_adapter_metadata in its header, which is not understood."),
        (pair(), {"lora_adapter_metadata": "[" * 100_000}, "has lora_adapter_metadata in its header, which is not understood."),
        (pair(), adapter(lora_alpha="much"), "has lora_alpha in its header, which is not understood."),
        (pair(), adapter(lora_alpha=float("nan")), "has lora_alpha in its header, which is not understood."),
        (pair(), adapter(lora_alpha=True), "has lora_alpha in its header, which is not understood."),
        (pair(), adapter(lora_alpha=8, alpha_pattern=["x"]), "has alpha_pattern in its header, which is not understood."),
        (pair(), adapter(lora_alpha=8, alpha_pattern={"x": None}), "has alpha_pattern in its header, which is not understood."),
        (pair(), adapter(lora_alpha=10**400), "has lora_alpha in its header, which is not understood."),
        (pair(), adapter(lora_alpha=8, use_rslora=[1]), "has use_rslora in its header, which is not understood."),
        (pair(), adapter(lora_alpha=8, use_rslora="so"), "has use_rslora in its header, which is not understood."),
        (pair(), adapter(lora_alpha=8, use_dora=True), "has use_dora in its header, which is not understood."),
        (pair(up="lora_up.weight", down="lora_down.weight"), {"ss_network_alpha": "Dynamic"}, "has ss_network_alpha in its header, which is not understood."),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused_by_name(shapes, metadata, said):
    assert refused(shapes, metadata) == said


@pytest.mark.parametrize("architecture", ["Qwen-Image", "qwen-image-edit/lora", "", "something"])
def test_a_header_that_names_this_model_or_none_is_fine(architecture):
    assert only(pair(), {"modelspec.architecture": architecture})


def test_no_tensor_is_ever_left_out():
    """Made of pieces of names at random, a file is refused, or each of its tensors is used."""
    dice = random.Random(7)
    targets = [LAYER, f"transformer.{LAYER}", "img_in", "lora_unet_txt_in", "x", ""]
    ends = ["lora_A.weight", "lora_B.weight", "lora_A", "lora_B", "alpha", "lora_A.default.weight",
            "lora_B.default.weight", "lora_B.weight.weight", "weight", "lora_E.weight"]  # fmt: skip
    taken = 0
    for _ in range(5000):
        keys = {f"{dice.choice(targets[:2])}.{dice.choice(ends[:5])}" for _ in range(2)}
        if dice.random() < 0.5:
            keys.add(f"{dice.choice(targets)}.{dice.choice(ends)}")
        shapes = {key: () if key.endswith("alpha") else (4, 4) for key in keys}
        try:
            layers = read_format("ink", shapes, {})
        except EngineError:
            continue
        used = {key for one in layers for key in (one.down_key, one.up_key, one.alpha_key) if key}
        assert used == set(shapes)
        taken += 1
    assert taken > 50
