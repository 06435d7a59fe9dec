"""Engines are named after their cards, in whatever order Ray hands these out."""

from __future__ import annotations

import asyncio
from itertools import count

import pytest

from bot.engine.cluster import membership as module
from bot.engine.cluster.fingerprint import report
from bot.errors import EngineError, EngineErrorKind
from tests.cluster.kit import membership


class Cluster:
    """A hub whose nodes have such cards, given out one after the other; None: it cannot be had."""

    def __init__(self, cards: dict[str, list[str | None]]) -> None:
        self.ended = asyncio.Event()
        self.number = count(1).__next__
        self.claimed: dict[int, str] = {}
        """Each engine's card, as node and number."""
        self._nodes = [
            {"id": node, "host": "GPUbox", "gpus": len(given), "card": None}
            for node, given in cards.items()
        ]
        self._cards = {node: iter(given) for node, given in cards.items()}

    async def call(self, do, _limit_s, **fields):
        if do == "nodes":
            return self._nodes
        if do == "claim":
            card = next(self._cards[fields["node"]], None)
            if card is None:
                raise EngineError(EngineErrorKind.DIED, "another program may hold its GPU")
            self.claimed[fields["engine"]] = f"{fields['node']}:{card}"
            return {**report(fields["model_path"], fields["lora_path"]), "gpu": card}
        return None

    async def close(self) -> None:
        pass


async def names(monkeypatch, folder, cards) -> tuple[dict[str, str], list[str]]:
    """Each engine's card by the engine's name, and what was said of those that cannot be had."""
    cluster, said = Cluster(cards), []
    wanted = sum(card is not None for given in cards.values() for card in given)

    async def join(*_address, **_options):
        return cluster

    monkeypatch.setattr(module, "require_ray", lambda _address: None)
    monkeypatch.setattr(module.Hub, "join", join)
    monkeypatch.setattr(module.log, "error", lambda text, *parts: said.append(text % parts))
    async with membership("10.0.0.1:6379", folder) as (members, watcher):
        watcher._poll_s = 3600
        await members.until(lambda: len(members.engines) == wanted)
        claims = [slot.claiming for slot in watcher._slots.values() if slot.claiming]
        await asyncio.gather(*claims)
        engines = members.engines.items()
        return {name: cluster.claimed[engine._number] for name, engine in engines}, said


@pytest.mark.parametrize("given", [["0", "1", "2"], ["1", "0", "2"], ["2", "0", "1"]])
async def test_an_engine_has_the_number_of_its_card(monkeypatch, tmp_path, given):
    found, _ = await names(monkeypatch, tmp_path, {"a": given})
    assert found == {"gpubox-0": "a:0", "gpubox-1": "a:1", "gpubox-2": "a:2"}


async def test_the_cards_of_a_node_need_not_begin_with_0(monkeypatch, tmp_path):
    found, _ = await names(monkeypatch, tmp_path, {"a": ["3", "2"]})
    assert found == {"gpubox-2": "a:2", "gpubox-3": "a:3"}


async def test_a_card_that_cannot_be_had_takes_no_name_from_another(monkeypatch, tmp_path):
    found, said = await names(monkeypatch, tmp_path, {"a": ["1", None]})
    assert found == {"gpubox-1": "a:1"}
    assert said == ["gpubox-0 is not used: another program may hold its GPU."]


@pytest.mark.parametrize("gpu", ["GPU-5f2c", "", "0,1"])
async def test_a_card_without_a_number_takes_the_next_name(monkeypatch, tmp_path, gpu):
    found, _ = await names(monkeypatch, tmp_path, {"a": ["0", gpu]})
    assert found == {"gpubox-0": "a:0", "gpubox-1": f"a:{gpu}"}


async def test_nodes_of_one_name_have_different_engines(monkeypatch, tmp_path):
    found, _ = await names(monkeypatch, tmp_path, {"a": ["0"], "b": ["0"]})
    assert found == {"gpubox-0": "a:0", "gpubox-1": "b:0"}
