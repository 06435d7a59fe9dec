"""A small random model's published files, and what the code of commit c520ff5 made of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

MADE_AT = 1_700_000_000
"""Seconds; the FP8 cache knows its published files by their times, which an archive has to keep."""


def coarse(state: dict[str, Any]) -> dict[str, Any]:
    """Weights of few levels: they are as good here, and can be packed small."""
    import torch

    made = {}
    for number, (name, value) in enumerate(sorted(state.items())):
        generator = torch.Generator().manual_seed(number)
        levels = torch.randint(0, 16, value.shape, generator=generator)
        signs = (levels == 0).float() - (levels == 1).float()
        scale = 4 / max(4, value[0].numel()) ** 0.5 if value.ndim > 1 else 0.01
        made[name] = (signs * scale + float(value.ndim == 1 and "norm" in name)).bfloat16()
    return made


def write_model(root: Path) -> None:
    """Write published files, and have the old engine code make its FP8 cache of them."""
    import torch
    from bot.engine.weights import cache_home
    from safetensors.torch import save_file

    from bot.engine.stream import randomly
    from bot.engine.stream.cache import FOLDER
    from bot.engine.stream.device import Device
    from bot.engine.stream.layout import Geometry, Precision
    from bot.engine.stream.loading import load_text_encoder, load_transformer
    from bot.engine.stream.published import Sources
    from bot.engine.stream.settings import Settings
    from tests.engine.toy_files import untrained
    from tests.stream.files import published_text, write_shards

    torch.set_num_threads(1)
    # Relative, as the settings have it.
    models, name = Path("models/images/qwen-image"), "Qwen/Qwen-Image"
    home = cache_home(models, name)
    dit = randomly.random_dit(Geometry(2, 128, 2), 64, torch.device("cpu"), torch.float32)
    text = untrained().text_encoder
    write_shards(coarse(dit.state_dict()), home / "transformer", "diffusion_pytorch_model", 2)
    write_shards(coarse(published_text(text)), home / "text_encoder", "model", 1)
    for path in home.rglob("*"):
        os.utime(path, (MADE_AT, MADE_AT))
    config = text.config.text_config
    expected = root / "expected"
    (expected / "text_config.json").write_text(config.to_json_string())
    cache, none = home / FOLDER, lambda *_: None

    def source(part: str) -> Sources:
        return Sources(sorted((home / part).glob("*.safetensors")))

    settings = Settings(dtype=torch.bfloat16, precision=Precision.FP8)
    for origin in ("files", "cache"):
        streamed, stats = load_transformer(source("transformer"), settings, cache, none)
        encoder, told = load_text_encoder(
            source("text_encoder"), config, Device(), torch.bfloat16, cache, none
        )
        assert {stats.source, told.source} == {origin}
    generator = torch.Generator().manual_seed(1)
    inputs = {
        "prompt": torch.randn(9, 64, generator=generator),
        "negative": torch.randn(5, 64, generator=generator),
        "latents": torch.randn(1, 16, 12, 8, generator=generator).bfloat16(),
        "timesteps": torch.tensor([1000.0, 500.0]),
        "tokens": torch.arange(40),
    }
    prompts = [inputs["prompt"], inputs["negative"]]
    ready = streamed.prepare(prompts, inputs["timesteps"], width=64, height=96)
    with torch.no_grad():
        results = {
            "prediction": streamed.predict(ready, 1, inputs["latents"], 4.0),
            "embedding": encoder.encode([inputs["tokens"]])[0],
        }
    save_file(
        {key: value.contiguous() for key, value in (inputs | results).items()},
        expected / "reference.safetensors",
    )
    for path in [*(home / FOLDER).glob("*"), expected / "reference.safetensors"]:
        os.utime(path, (MADE_AT, MADE_AT))
