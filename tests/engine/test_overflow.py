"""Arithmetic that overflows makes a sentence and never a picture; the backends in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from bot.engine.models.diffsynth import DiffSynthModel
from bot.engine.models.overflow import overflowed
from bot.engine.models.streamed import StreamedQwenImage
from bot.engine.options import EngineOptions
from bot.errors import EngineError, EngineErrorKind
from tests.engine.kit import Quiet, request

pytestmark = [pytest.mark.engine, pytest.mark.slow]
PLAIN = "The model's numbers overflowed, so there is no picture."
FAST = "The model's numbers overflowed, so there is no picture: IMAGE_PRECISION=fp8 is more exact"


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Other tests' work beside these makes two threads wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pictures(backend: Any, folder: Path, quiet: Quiet) -> int:
    wanted = request(folder, steps=2, width=64, height=64)
    return len(list(backend.generate(wanted, quiet)))


def refused(backend: Any, folder: Path) -> str:
    quiet = Quiet()
    with pytest.raises(EngineError) as caught:
        pictures(backend, folder, quiet)
    assert caught.value.kind is EngineErrorKind.REFUSED
    assert caught.value.sentence is not None
    return caught.value.sentence


def spoil(network: torch.nn.Module) -> None:
    for parameter in network.parameters():
        parameter.data.fill_(torch.nan)


def test_a_streamed_model_whose_weights_overflow(tmp_path) -> None:
    options = EngineOptions(Path("unused"), precision="fp8-fast", compile=False)
    backend = StreamedQwenImage("tiny", options)
    backend.load(lambda *_: None)
    networks, quiet = backend._networks, Quiet()
    assert pictures(backend, tmp_path, quiet) == 1
    weight = networks.dit.network.outer.proj_out.weight.data
    kept = weight.clone()
    weight.fill_(torch.inf)
    spoilt = Quiet()
    with pytest.raises(EngineError) as caught:
        pictures(backend, tmp_path, spoilt)
    assert (caught.value.sentence or "").startswith(FAST)
    assert spoilt.previews == 0 < quiet.previews  # it ends at the first step
    weight.copy_(kept)
    assert pictures(backend, tmp_path, quiet) == 1
    spoil(networks.codec._vae)
    assert refused(backend, tmp_path).startswith(FAST)
    assert overflowed("fp8").sentence == PLAIN


def test_diffsynths_own_pipeline_whose_weights_overflow(tmp_path) -> None:
    backend = DiffSynthModel("tiny", EngineOptions(Path("unused"), offload="stock"))
    backend.load(lambda *_: None)
    assert pictures(backend, tmp_path, Quiet()) == 1
    spoil(backend._pipe.dit.proj_out)
    assert refused(backend, tmp_path) == PLAIN
