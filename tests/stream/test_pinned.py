"""Pinned memory that is refused, in part or in whole: the weights stay pageable, nothing else changes."""

from __future__ import annotations

import gc
import threading

import pytest
import torch

from bot.engine import host_memory
from bot.engine.stream import pinned
from bot.engine.stream.device import Device
from bot.engine.stream.layout import Precision
from bot.engine.stream.pinned import PAGE, HostBuffer, PinnedMemory, page_aligned
from tests.stream.kit import predicted, streamed

OUT_OF_MEMORY = 2


class Driver:
    """CUDA's calls about main memory, which refuse from the given one on."""

    def __init__(self, allowed: int) -> None:
        self.allowed = allowed
        self.asked: list[torch.Tensor] = []
        self.held: list[int] = []
        self.cleared = 0

    def register(self, buffer: torch.Tensor) -> int:
        self.asked.append(buffer)
        if len(self.asked) > self.allowed:
            return OUT_OF_MEMORY
        self.held.append(buffer.data_ptr())
        return 0

    def unregister(self, buffer: torch.Tensor) -> None:
        self.held.remove(buffer.data_ptr())

    def forget_error(self) -> None:
        self.cleared += 1


@pytest.fixture
def driver(monkeypatch):
    def driven(allowed: int) -> Driver:
        made = Driver(allowed)
        for name in ("register", "unregister", "forget_error"):
            monkeypatch.setattr(pinned, name, getattr(made, name))
        return made

    return driven


class Pinning(Device):
    """A CPU whose buffers are pinned as a GPU's are."""

    def __init__(self) -> None:
        super().__init__("cpu")
        self.pinned = PinnedMemory()

    def host_buffer(self, size, *, pinned=False, held=None):
        return HostBuffer(size, self.pinned if pinned else None, held)


@pytest.mark.slow
@pytest.mark.parametrize("allowed", [0, 1, 3, 100])
def test_a_model_loads_and_draws_whatever_is_refused(driver, monkeypatch, caplog, allowed):
    monkeypatch.setattr("bot.engine.stream.transformer.open_device", lambda _: Pinning())
    plain = predicted(streamed(Precision.FP8))
    made = driver(allowed)
    dit = streamed(Precision.FP8)
    dit.weights.keep(frozenset({0}), scratch=True)  # all but one block leave the card
    assert torch.equal(predicted(dit), plain)
    streamed_blocks = dit.geometry.layers - 1
    size = dit.layouts[0].size
    pinned_blocks = min(allowed, streamed_blocks)
    assert dit.weights.pinned_bytes == (pinned_blocks * size, streamed_blocks * size)
    assert len(made.held) == min(allowed, streamed_blocks)
    refusals = int(allowed < streamed_blocks)
    assert len(made.asked) == len(made.held) + refusals  # once refused, never asked again
    assert caplog.text.count("refuses to pin") == refusals == made.cleared


def test_only_streamed_blocks_are_pinned(driver, monkeypatch):
    """What a prompt or a schedule needs once is fetched from pageable memory."""
    monkeypatch.setattr("bot.engine.stream.transformer.open_device", lambda _: Pinning())
    made = driver(100)
    dit = streamed(Precision.FP8)
    predicted(dit)
    assert dit.resident == frozenset(range(dit.geometry.layers))
    assert made.asked == []
    assert dit.weights.host_bytes > 0


@pytest.mark.slow
def test_buffers_share_no_page_and_are_released(driver):
    made = driver(100)
    account = PinnedMemory()
    buffers = [HostBuffer(size, account) for size in (1, PAGE, PAGE + 1, 5 * PAGE - 3)]
    assert all(buffer.pinned for buffer in buffers)
    assert [buffer.tensor.numel() for buffer in buffers] == [1, PAGE, PAGE + 1, 5 * PAGE - 3]
    pages = [
        page
        for buffer in made.asked
        for page in range(
            buffer.data_ptr() // PAGE, -(-(buffer.data_ptr() + buffer.numel()) // PAGE)
        )
    ]
    assert all(buffer.data_ptr() % PAGE == 0 for buffer in made.asked)
    assert len(pages) == len(set(pages)) == 1 + 1 + 2 + 5
    assert account.bytes == len(pages) * PAGE
    made.asked.clear()
    buffers.clear()
    gc.collect()
    assert made.held == []
    assert account.bytes == 0


def test_what_fills_its_pages_is_pinned_where_it_lies(driver):
    made = driver(100)
    device = Pinning()
    read, other = (
        page_aligned(2 * PAGE - 5)[: 2 * PAGE - 5],
        torch.ones(4 * PAGE)[1:].view(torch.uint8),
    )
    kept = [device.keep(flat, pinned=True) for flat in (read, other[: PAGE + 1])]
    assert all(buffer.pinned for buffer in kept)
    assert kept[0].tensor.data_ptr() == read.data_ptr() == made.asked[0].data_ptr()
    assert made.asked[0].numel() == 2 * PAGE
    assert kept[1].tensor.data_ptr() != other.data_ptr()
    assert torch.equal(kept[1].tensor, other[: PAGE + 1])
    assert len(made.held) == 2


def test_no_more_is_pinned_than_the_system_bears(driver):
    made = driver(100)
    account = PinnedMemory(most=3 * PAGE)
    kept = [HostBuffer(2 * PAGE, account), HostBuffer(2 * PAGE, account), HostBuffer(PAGE, account)]
    assert [buffer.pinned for buffer in kept] == [True, False, True]
    assert len(made.held) == 2
    assert not account.refused


def test_what_is_read_next_does_not_wait_for_pinning(driver, monkeypatch):
    """The driver takes its time for the first buffer; meanwhile others are filled."""
    made, may = driver(100), threading.Event()
    register = made.register

    def slowly(buffer: torch.Tensor) -> int:
        assert may.wait(30)
        return register(buffer)

    monkeypatch.setattr(pinned, "register", slowly)
    device = Pinning()
    kept = [
        device.keep(torch.full((PAGE,), number, dtype=torch.uint8), pinned=True)
        for number in (1, 2)
    ]
    assert made.asked == []
    may.set()
    assert [(int(one.tensor[-1]), one.pinned) for one in kept] == [(1, True), (2, True)]


@pytest.mark.parametrize(
    ("system", "release", "share"),
    [
        ("linux", "6.8.0-generic", None),
        ("linux", "5.15.167.4-microsoft-standard-WSL2", 2**29),
        ("win32", "10", 0.4 * 2**35),
    ],
)
def test_what_each_system_bears(monkeypatch, system, release, share):
    monkeypatch.setattr(host_memory.sys, "platform", system)
    monkeypatch.setattr(host_memory.platform, "uname", lambda: type("U", (), {"release": release}))
    most = host_memory.most_pinned(2**35)
    assert most == (None if share is None else int(share))
