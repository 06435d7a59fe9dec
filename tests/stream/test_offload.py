"""Networks that leave the card for main memory and return: what they say stays the same."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from bot.engine.card_budget import GIB, Bound, CardBudget
from bot.engine.host_memory import RESERVE, _left_in_group
from bot.engine.models.shelf import Content, NetworkShelf
from bot.engine.stream.compiling import KernelSet
from bot.engine.stream.device import Device
from bot.engine.stream.layout import Precision
from bot.engine.stream.offload import OffloadableTransformer
from bot.engine.stream.streamer import Streamer
from bot.engine.stream.transformer import StreamedDiT
from tests.stream.kit import budget_for, predicted, streamed

PRECISIONS = [Precision.PLAIN, Precision.FP8, Precision.INT8]


@pytest.mark.engine
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_transformer_returns_as_it_was_with_any_budget(precision) -> None:
    """With some blocks on the device, with all of them and with none: bit by bit."""
    dit = streamed(precision)
    before, offloadable = predicted(dit), OffloadableTransformer(dit)
    layers = dit.geometry.layers
    for count in (layers // 2, 0, layers):
        offloadable.offload()
        assert dit.resident == frozenset()
        assert offloadable.to_copy == offloadable.bytes - dit.weights.host_bytes
        budget = CardBudget(budget_for(dit, count), Bound.CEILING, 0)
        offloadable.onload(budget)
        assert len(dit.resident) == count
        assert torch.equal(predicted(dit), before)
    offloadable.offload()
    offloadable.onload(None)
    assert len(dit.resident) == layers
    assert torch.equal(predicted(dit), before)


@pytest.mark.engine
def test_blocks_that_are_copied_when_they_come_need_no_copying_later() -> None:
    device, flat = Device(), torch.arange(64, dtype=torch.uint8)
    for copied in (False, True):
        streamer = Streamer(device)
        streamer.add(0, flat, resident=True, pinned=True, copied=copied)
        assert streamer.is_resident(0)
        assert streamer.host_bytes == (64 if copied else 0)
        assert streamer.pinned_bytes == (0, 0)  # nothing is fetched from there
        streamer.evict(0, rests=True)
        assert streamer.host_bytes == 64
        streamer.begin([0])
        with streamer.visit(0) as seen:
            assert torch.equal(seen, flat)


@pytest.mark.engine
def test_transformers_of_a_kind_share_what_is_compiled() -> None:
    kernels, dit = KernelSet(), streamed()
    others = [
        StreamedDiT(dit.network.outer, dit.geometry, dit.settings, kernels=kernels)
        for _ in range(2)
    ]
    assert others[0].execution.kernels is others[1].execution.kernels
    assert others[0].execution.kernels is not dit.execution.kernels


class Network:
    """Bytes, of which it has to copy all."""

    def __init__(self, size: int, error: Exception | None = None) -> None:
        self.network = torch.nn.Identity()
        self.bytes = self.to_copy = size
        self.error = error
        self.on_card = True

    def offload(self) -> None:
        if self.error is not None:
            raise self.error
        self.on_card = False

    def onload(self, _budget) -> None:
        self.on_card = True


class Memory:
    """Main memory that networks on a shelf take."""

    def __init__(self, free: int | None) -> None:
        self.free = free
        self.shelf: NetworkShelf

    def __call__(self) -> int | None:
        return None if self.free is None else self.free - self.shelf.waiting_bytes


def content(name: str) -> Content:
    return Content("transformer", name)


def shelf(free: int | None, keep_gib: float | None = None) -> NetworkShelf:
    memory = Memory(free)
    memory.shelf = NetworkShelf(keep_gib, available=memory)
    return memory.shelf


def switched(held: NetworkShelf, *names: str, error: Exception | None = None) -> list[bool]:
    """Switch to these by turns, each 10 GiB; tell which of them had waited."""
    waited = []
    for name in names:
        held.settle([content(name)])
        found = held.take(content(name), None)
        waited.append(found is not None)
        if found is None:
            held.make_room(10 * GIB)
            held.add(content(name), Network(10 * GIB, error))
    return waited


@pytest.mark.parametrize(
    ("free", "keep_gib", "waited"),
    [
        (100 * GIB, None, [False, False, True, False, True, True]),
        (100 * GIB, 0.0, [False] * 6),
        (100 * GIB, 10.0, [False, False, True, False, False, False]),
        (None, 100.0, [False, False, True, False, True, True]),
        (None, None, [False] * 6),
        (10 * GIB + RESERVE - 1, None, [False] * 6),
        (20 * GIB + RESERVE, None, [False, False, True, False, False, False]),
    ],
)
def test_as_much_waits_as_has_room(free, keep_gib, waited) -> None:
    """The one that was used least lately goes first."""
    assert switched(shelf(free, keep_gib), *"abacba") == waited


@pytest.mark.slow
def test_memory_that_is_refused_drops_the_network() -> None:
    held = shelf(100 * GIB)
    assert switched(held, *"aba", error=MemoryError()) == [False] * 3
    assert held.waiting_bytes == 0


def test_what_is_dropped_is_gone() -> None:
    held = shelf(100 * GIB, 0.0)
    network = Network(GIB)
    network.network.around = network.network  # a circle
    held.add(content("a"), network)
    gone = weakref.ref(network.network)
    del network
    gc.disable()
    try:
        held.settle([])
    finally:
        gc.enable()
    assert gone() is None


def test_a_model_that_is_here_as_a_whole_needs_no_file() -> None:
    held = shelf(100 * GIB)
    recipe = (content("a"), Content("text encoder", "t"), Content("VAE", "v"))
    held.note("model", recipe)
    assert held.recipe("model") is None
    for one in recipe:
        held.add(one, Network(GIB))
    assert held.recipe("model") == recipe
    held.settle(recipe[1:])
    assert held.recipe("model") == recipe
    assert held.waiting_bytes == GIB


def test_a_containers_limit_counts(tmp_path) -> None:
    assert _left_in_group(tmp_path) is None
    for name, text in {
        "memory.max": "1000\n",
        "memory.current": "700\n",
        "memory.stat": "anon 500\ninactive_file 150\nactive_file 50\n",
    }.items():
        (tmp_path / name).write_text(text)
    assert _left_in_group(tmp_path) == 450
    (tmp_path / "memory.max").write_text("max\n")
    assert _left_in_group(tmp_path) is None
