"""ComfyUI's graphs, as its own templates and custom nodes wire them."""

from __future__ import annotations

import json
import math
import struct

import pytest
from PIL import Image

from tests.engine.test_inputs import chunk, saved
from tests.test_metadata import PIXELS, png, read

SAMPLER = {
    "class_type": "KSampler",
    "inputs": {"seed": 7, "steps": 20, "cfg": 2.5, "positive": ["6", 0], "negative": ["7", 0]},
}
SETTINGS = "seed: 7, steps: 20, cfg: 2.5"


def node(kind: str, **inputs) -> dict:
    return {"class_type": kind, "inputs": inputs}


def graph(**nodes) -> str:
    return json.dumps({name.removeprefix("n"): value for name, value in nodes.items()})


def words(text: str) -> dict:
    return node("CLIPTextEncode", text=text, clip=["4", 1])


QWEN = "TextEncodeQwenImageEditPlus"
ZERO = node("ConditioningZeroOut", conditioning=["6", 0])
CONTROL = node(
    "ControlNetApplyAdvanced", positive=["8", 0], negative=["9", 0], image=["5", 0], strength=1.0
)
GRAPHS = {
    "plain": (
        graph(n3=SAMPLER, n6=words("a boat"), n7=words("fog")),
        f"a boat\nNegative prompt: fog\n{SETTINGS}",
    ),
    "the negative one first": (
        graph(n7=words("fog"), n6=words("a boat"), n3=SAMPLER),
        f"a boat\nNegative prompt: fog\n{SETTINGS}",
    ),
    "Qwen-Image-Edit": (
        graph(
            n3=SAMPLER,
            n6=node(QWEN, prompt="put a hat on it", clip=["1", 0], vae=["2", 0], image1=["5", 0]),
            n7=node(QWEN, prompt="", clip=["1", 0]),
            n5=node("LoadImage", image="prompt.png"),
        ),
        f"put a hat on it\n{SETTINGS}",
    ),
    "linked text": (
        graph(
            n3=SAMPLER,
            n6=words(["8", 0]),
            n7=words("fog"),
            n8=node("StringConcatenate", string_a="a boat", string_b=["9", 0], delimiter=", "),
            n9=node("PrimitiveStringMultiline", value="in oil"),
        ),
        f"a boat\nin oil\nNegative prompt: fog\n{SETTINGS}",
    ),
    "Flux": (
        graph(
            n1=node("SamplerCustomAdvanced", noise=["2", 0], guider=["3", 0], sigmas=["9", 0]),
            n2=node("RandomNoise", noise_seed=7),
            n3=node("BasicGuider", model=["8", 0], conditioning=["4", 0]),
            n4=node("FluxGuidance", guidance=3.5, conditioning=["5", 0]),
            n5=node("CLIPTextEncodeFlux", clip_l="a boat", t5xxl="a boat at sea", clip=["8", 1]),
            n9=node("BasicScheduler", scheduler="simple", steps=20),
        ),
        "a boat\na boat at sea\nnoise_seed: 7, guidance: 3.5, steps: 20, scheduler: simple",
    ),
    "Flux, one text for both": (
        graph(
            n3=node("CFGGuider", positive=["5", 0], negative=["6", 0], cfg=1),
            n5=node("CLIPTextEncodeFlux", clip_l=["9", 0], t5xxl=["9", 0], clip=["8", 1]),
            n6=node("ConditioningZeroOut", conditioning=["5", 0]),
            n9=node("easy positive", positive="a boat"),
        ),
        "a boat\ncfg: 1",
    ),
    "nothing is unwanted": (graph(n3=SAMPLER, n6=words("a boat"), n7=ZERO), f"a boat\n{SETTINGS}"),
    "through a control net": (
        graph(
            n3={**SAMPLER, "inputs": {**SAMPLER["inputs"], "negative": ["6", 1]}},
            n6=CONTROL,
            n8=words("a boat"),
            n9=words("fog"),
        ),
        f"a boat\nNegative prompt: fog\n{SETTINGS}",
    ),
    "a node for all": (
        graph(
            n3={**SAMPLER, "inputs": {**SAMPLER["inputs"], "negative": ["6", 1]}},
            n6=node("Efficient Loader", ckpt_name="text.pt", positive="a boat", negative="fog"),
        ),
        f"a boat\nNegative prompt: fog\n{SETTINGS}",
    ),
    "a node that is all": (
        graph(n1=node("QwenDraw", prompt="a boat", negative_prompt="fog", seed=7)),
        "a boat\nNegative prompt: fog\nseed: 7",
    ),
    "not wired": (
        graph(n3=node("KSampler", seed=7), n6=words("a boat"), n8=node("Note", text="buy milk")),
        "a boat\nseed: 7",
    ),
    "numbers by links": (
        graph(
            n3=node("KSampler", seed=["8", 0], steps=["9", 0], cfg=["3", 0], positive=["6", 0]),
            n6=words("a boat"),
            n8=node("Seed", seed=["10", 0]),
            n10=node("PrimitiveInt", value=7),
            n9=node("PrimitiveInt", value=20),
        ),
        "a boat\nseed: 7, steps: 20",
    ),
    "a circle": (
        graph(
            n3=SAMPLER,
            n6=node("Mix", conditioning_1=["7", 0], conditioning_2=["6", 0], text="a boat"),
            n7=node("Mix", conditioning_1=["6", 0], text="fog", seed=["7", 0]),
        ),
        f"a boat\nfog\nNegative prompt: fog\na boat\n{SETTINGS}",
    ),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_the_words_are_found_where_they_stand(name):
    text, expected = GRAPHS[name]
    assert read(png({"prompt": text, "workflow": "{}"})) == ("ComfyUI", expected)


def test_not_a_number_is_no_word():
    changed = node("X", v=1) | {"is_changed": [math.nan, math.inf]}
    text = graph(n3=SAMPLER, n6=words("NaN bread"), n7=words("Infinity"), n9=changed)
    assert "[NaN, Infinity]" in text
    found = read(png({"prompt": text}))
    assert found == ("ComfyUI", f"NaN bread\nNegative prompt: Infinity\n{SETTINGS}")


PLAIN, FOUND = GRAPHS["plain"]


def exif(**tags: str) -> bytes:
    block = Image.Exif()
    for tag, text in tags.items():
        block[int(tag.removeprefix("t"), 16)] = text
    return block.tobytes()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize(
    "tags",
    [
        {"t0110": f"prompt:{PLAIN}", "t010f": 'workflow:{"nodes": []}'},
        {"t010f": f"Prompt: {PLAIN}", "t010e": "Workflow: {}"},
        {"t010e": f"prompt:{PLAIN}", "t010f": "Nikon", "t0110": "D70", "t0131": "v1"},
        {"t9286": PLAIN},
        {"t9286": f'{{"prompt": {PLAIN}, "workflow": {{}}}}'},
        {"t9286": f'{{"resource-stack": {{}}, "extra": 1, {PLAIN[1:]}'},
    ],
    ids=["model", "make", "description", "comment", "both in a comment", "more in it"],
)
def test_the_graph_is_found_in_every_container(kind, tags):
    assert read(saved(PIXELS, kind, exif=exif(**tags))) == ("ComfyUI", FOUND)


def test_the_graph_of_an_animation_and_one_packed_twice():
    data = saved(PIXELS)
    animated = data[:-12] + chunk(b"comf", b"prompt\0" + PLAIN.encode()) + data[-12:]
    assert read(animated) == ("ComfyUI", FOUND)
    assert read(png({"prompt": json.dumps(PLAIN)})) == ("ComfyUI", FOUND)


def test_a_graph_that_holds_a_picture_is_read():
    """Some nodes keep a picture in the graph, as megabytes of letters."""
    large = node("LoadBase64", image="QUJD" * 400_000, text="QUJD" * 400_000)
    text = graph(n1=large, n3=SAMPLER, n6=words("a boat"), n7=words("fog"))
    assert read(png({"prompt": text})) == ("ComfyUI", FOUND)
    assert read(saved(PIXELS, "WEBP", exif=exif(t0110=f"prompt:{text}"))) == ("ComfyUI", FOUND)


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_graph_in_exif_of_both_byte_orders(order):
    value = b"prompt:" + PLAIN.encode() + b"\0"
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, 1)
    block = head + struct.pack(f"{order}HHII", 0x0110, 2, len(value), 26) + bytes(4) + value
    data = saved(PIXELS)
    assert read(data[:33] + chunk(b"eXIf", block) + data[33:]) == ("ComfyUI", FOUND)


def test_many_links_take_no_time():
    """Each of many inputs leads through all nodes of a long chain."""
    nodes = {
        str(n): node("Mix", positive=[str(n + 1), 0], negative=[str(n + 1), 0], seed=[str(n), 0])
        for n in range(8000)
    }
    text = json.dumps({**nodes, "8000": words("a boat")})
    assert read(png({"prompt": text})) == ("ComfyUI", "a boat\nNegative prompt: a boat")
