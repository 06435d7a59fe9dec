"""The scenarios of a model's files and of what is made of them; torch is imported late."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, ClassVar

from tests.engine.hub import Hub
from tests.faults.scenario import Scenario


class WeightsScenario(Scenario):
    """A small transformer in `folder`; `files` are its published ones, `want` their items."""

    long = True
    damaged: frozenset[str] = frozenset()
    net: ClassVar[Any] = None
    files: ClassVar[dict[str, bytes]]
    want: ClassVar[dict[str, dict[str, bytes]]]
    forms: ClassVar[dict[str, str]]

    async def set_up(self) -> None:
        if WeightsScenario.net is None:
            hub = Hub({})
            hub.__enter__()  # until the process ends
            # Read when the hub's client is imported.
            os.environ |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(self.folder.parent.parent)}
            from tests.faults import small_network

            WeightsScenario.net = small_network
            WeightsScenario.files = hub.files = small_network.published()
            small_network.offer()
            model = self.folder / "model"
            small_network.write(model, self.files)
            WeightsScenario.want = small_network.loaded(small_network.checkpoint(model, None))
            WeightsScenario.forms = small_network.forms(model)
            shutil.rmtree(model)

    @property
    def cache(self) -> Path:
        return self.folder / "fp8-cache"

    def gone(self, model: Path) -> set[str]:
        """Return the published files that are not there; those that are, are what they were."""
        missing = {name for name in self.files if not (model / name).is_file()}
        for name in self.files.keys() - missing:
            assert (model / name).read_bytes() == self.files[name]
        return missing

    def kept(self, cache: Path) -> set[str]:
        """Return the names of tensors that the cache has; what it has of any is right."""
        net = self.net
        found, index = net.cached(cache), net.CacheIndex.load(cache, net.PART)
        # What is damaged on purpose is found out where it is read.
        assert index.items.keys() - found.keys() <= self.damaged
        for key, values in found.items():
            assert values == self.want[key]
        assert {key: item.form for key, item in index.items.items()}.items() <= self.forms.items()
        if index.complete and not self.damaged:
            assert found == self.want
        return set(found)

    def no_file_open(self) -> None:
        for link in Path("/proc/self/fd").iterdir():
            try:
                to = str(link.readlink())
            except FileNotFoundError:
                continue  # what listed them
            assert not to.startswith(str(self.folder)), f"{to} stays open"


class Convert(WeightsScenario):
    """The weights cache is made: it is whole, or nothing is left, and the model is loaded."""

    async def begin(self) -> None:
        self.net.write(self.folder, self.files)
        self.notice: str | None = None

    async def act(self) -> None:
        made = self.net.checkpoint(self.folder, self.cache)
        assert self.net.loaded(made) == self.want
        self.notice = made.stats.notice

    async def check(self, *, done: bool) -> None:
        assert self.gone(self.folder) == set()
        self.kept(self.cache)
        names = {path.name for path in self.cache.glob("[!.]*")}
        if done and self.notice is None:
            assert self.net.CacheIndex.load(self.cache, self.net.PART).complete
            assert names == {"transformer.json", "transformer.weights"}
        elif done and not self.lasting and "could not be read" not in str(self.notice):
            assert names == set()


class Mend(Convert):
    """A cache that was not finished goes on, and a part of it is damaged."""

    longest = True  # its calls are those of `Convert`, nearly all

    async def begin(self) -> None:
        await super().begin()
        self.damaged = frozenset({"outer"})
        loading = self.net.checkpoint(self.folder, self.cache).load(self.net.CPU, lambda *_: None)
        for _ in self.want:
            next(loading)
        loading.close()  # No word yet that it is whole.
        index = self.net.CacheIndex.load(self.cache, self.net.PART)
        assert index.items.keys() == self.want.keys()
        assert not index.complete
        with (self.cache / "transformer.weights").open("r+b") as file:
            file.seek(index.items["outer"].end - 1)
            (last,) = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([last ^ 1]))

    async def check(self, *, done: bool) -> None:
        if done and self.notice is None:
            self.damaged = frozenset()
        await super().check(done=done)


class Load(WeightsScenario):
    """A cache without the files that it was made of is read, and outlives a disk that fails."""

    made: ClassVar[dict[str, bytes]] = {}

    async def set_up(self) -> None:
        await super().set_up()
        if not self.made:
            self.net.write(self.folder, self.files)
            self.net.loaded(self.net.checkpoint(self.folder, self.cache))
            shutil.rmtree(self.folder / self.net.PART)
            Load.made = {path.name: path.read_bytes() for path in self.cache.glob("[!.]*")}
            shutil.rmtree(self.cache)

    async def begin(self) -> None:
        self.cache.mkdir()
        for name, data in self.made.items():
            (self.cache / name).write_bytes(data)

    async def act(self) -> None:
        made = self.net.checkpoint(self.folder, self.cache)
        assert self.net.loaded(made) == self.want
        assert made.stats.source == "cache"

    async def check(self, *, done: bool) -> None:
        del done  # Nothing may change.
        found = {path.name: path.read_bytes() for path in self.cache.glob("[!.]*")}
        assert found == self.made


class Drop(WeightsScenario):
    """Each file is downloaded, packed into the cache and deleted: no weight is lost."""

    anew = False
    longest = True

    async def set_up(self) -> None:
        await super().set_up()
        from bot.engine.stream import drop

        self.drop = drop
        model = self.folder / "model"
        self.net.write(model, self.files)
        self.homes = self.net.homes(model)
        self.tensors = {path.name: self.net.tensors(path) for path in self.net.weights(model)}
        shutil.rmtree(model)

    @property
    def model(self) -> Path:
        return self.folder / self.net.REPOSITORY

    @property
    def cache(self) -> Path:
        return self.model / "fp8-cache"

    async def begin(self) -> None:
        shutil.rmtree(self.model, ignore_errors=True)

    async def act(self) -> None:
        from bot.errors import EngineError

        try:
            self.drop.download_and_drop(
                self.folder,
                lambda *_: None,
                repository=self.net.REPOSITORY,
                source="huggingface",
                precision="fp8",
            )
        except EngineError:
            raise
        except OSError as error:
            raise AssertionError("the user reads nothing of it") from error

    async def check(self, *, done: bool) -> None:
        net, gone = self.net, self.gone(self.model)
        self.no_file_open()
        items, carried = self.kept(self.cache), net.carried(self.cache)
        index = net.CacheIndex.load(self.cache, net.PART)
        noted = net.noted_hashes(self.model)
        arriving = {path.name.replace("--", "/") for path in self.model.glob(".download/*")}
        dropped = {Path(name).name for name in (gone & noted.keys()) - arriving}
        assert dropped <= index.taken
        for file in dropped:
            for name, data in self.tensors[file].items():
                assert self.homes[name] in items or carried[name] == data, f"{name} is lost"
        if done:
            assert gone == {name for name in self.files if name.endswith(".safetensors")}
            assert index.complete
            assert noted.keys() == self.files.keys()
            marker = self.model / ".model"
            assert not marker.exists() or marker.read_text("utf-8").strip() == net.REPOSITORY
            names = {path.name for path in self.cache.glob("[!.]*")}
            assert names == {"transformer.json", "transformer.weights"}
            assert not list(self.model.glob(".download/*"))


WEIGHTS: dict[str, type[Scenario]] = {one.__name__: one for one in (Convert, Mend, Load, Drop)}
