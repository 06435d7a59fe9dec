"""The table of families: complete, its modules there and called alike, none inside another."""

from __future__ import annotations

import inspect

import pytest

from bot.catalogue.models import MODELS
from bot.engine.models.families import FAMILIES, StockLoad, StreamedLoad
from tests.test_arrows import imports_of, module_of, sources, within

KIT = "bot.engine.models"


def home_of(module: str) -> str:
    """A family's room: the module itself in bot/engine/models, else the whole folder."""
    folder = module.rpartition(".")[0]
    return module if folder == KIT else folder


HOMES = {
    name: {home_of(module) for module in (family.stock, family.streamed) if module is not None}
    for name, family in FAMILIES.items()
}


def test_the_catalogue_and_the_table_know_the_same_families():
    assert {spec.family for spec in MODELS.values()} == set(FAMILIES)


@pytest.mark.parametrize("name", MODELS)
def test_the_catalogue_says_streamed_where_the_table_has_a_module_for_it(name):
    spec = MODELS[name]
    assert spec.streamed == (FAMILIES[spec.family].streamed is not None)


@pytest.mark.engine
@pytest.mark.parametrize("name", FAMILIES)
def test_every_named_module_has_a_load_with_the_same_parameters(name):
    family = FAMILIES[name]
    loads: list = [(family.stock_load(), StockLoad)]
    if family.streamed is not None:
        loads.append((family.streamed_load(), StreamedLoad))
    for load, protocol in loads:
        wanted = list(inspect.signature(protocol.__call__).parameters.values())[1:]
        found = list(inspect.signature(load).parameters.values())
        assert [(one.name, one.kind, one.default) for one in found] == [
            (one.name, one.kind, one.default) for one in wanted
        ]


@pytest.mark.parametrize("name", FAMILIES)
def test_no_family_imports_from_another(name):
    others = set[str]().union(*(homes for other, homes in HOMES.items() if other != name))
    mine = [p for p in sources() if any(within(module_of(p), home) for home in HOMES[name])]
    assert mine
    for path in mine:
        foreign = {i for i in imports_of(path) for other in others if within(i, other)}
        assert not foreign, path


def test_the_kit_is_inside_no_family():
    every = set[str]().union(*HOMES.values())
    shared = [
        path
        for path in sources()
        if module_of(path).rpartition(".")[0] == KIT and module_of(path) not in every
    ]
    assert shared
    for path in shared:
        assert not {i for i in imports_of(path) for home in every if within(i, home)}, path
