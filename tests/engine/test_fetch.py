"""One file from servers that answer ranges in every way that there is, over real sockets."""

from __future__ import annotations

import random

import pytest

from bot.engine.files import download, fetch
from bot.errors import EngineError
from bot.words import speaking
from tests.engine.hub import REPOSITORY, Hub

NAME = "transformer/a.safetensors"
DATA = random.Random(5).randbytes(200_000)
CUT = 120_000


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr(fetch, "_PIECE", 1000)
    monkeypatch.setattr(fetch, "_PAUSE_S", 0)
    with Hub({NAME: DATA}) as running:
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", running.url)
        yield running


def get(root, **changes) -> None:
    """Download as `python -m bot download` does."""
    options = {"patterns": ["*"], "lacking": NAME} | changes
    download.download(root, REPOSITORY, "modelscope", lambda *_: None, **options)


def refused(root) -> EngineError:
    with pytest.raises(EngineError) as caught:
        get(root)
    return caught.value


@pytest.mark.parametrize(
    ("ranges", "whole"),
    [
        ("as they should be", 1),
        ("with 200", 1),
        ("before", 1),
        ("with all", 2),
        ("elsewhere", 2),
        ("with 416", 2),
        ("untold", 2),
    ],
)
@pytest.mark.parametrize("runs", [1, 2])
def test_a_cut_file_is_completed_whatever_a_range_gets(
    hub, tmp_path, monkeypatch, ranges, whole, runs
):
    """Within one run, and in the next one, which finds a part of the file."""
    hub.ranges = ranges
    hub.cuts[NAME] = [CUT]
    if runs == 2:
        monkeypatch.setattr(fetch, "_TRIES", -1)
        assert "the connection was cut" in (refused(tmp_path).sentence or "")
        monkeypatch.undo()
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", hub.url)
        monkeypatch.setattr(fetch, "_PAUSE_S", 0)
        assert 0 < (tmp_path / ".download" / NAME.replace("/", "--")).stat().st_size <= CUT
    get(tmp_path)
    assert (tmp_path / NAME).read_bytes() == DATA
    asked = hub.bytes_sent_of(NAME)
    fresh = [one for one in asked if one is None]
    # "with all" is the whole file under a request for a part.
    assert len(fresh) + (ranges == "with all") == whole
    assert len(asked) <= 3


def test_a_part_of_another_file_is_found_by_its_hash_and_begun_anew(hub, tmp_path):
    part = tmp_path / ".download" / NAME.replace("/", "--")
    part.parent.mkdir()
    part.write_bytes(bytes(CUT))
    get(tmp_path)
    assert (tmp_path / NAME).read_bytes() == DATA
    assert hub.bytes_sent_of(NAME) == [f"bytes={CUT}-", None]
    (tmp_path / NAME).unlink()
    part.parent.mkdir(exist_ok=True)
    part.write_bytes(bytes(len(DATA) + 1))  # longer than it can be
    get(tmp_path)
    assert (tmp_path / NAME).read_bytes() == DATA


def test_a_server_that_never_gets_on_comes_to_an_end(hub, tmp_path):
    hub.cuts[NAME] = [CUT] * 100
    hub.ranges = "untold"  # so each cut begins anew
    assert "is kept, and the next try goes on" in (refused(tmp_path).sentence or "")
    assert len(hub.bytes_sent_of(NAME)) < 20


def test_a_file_of_another_size_than_it_was_listed_with(hub, tmp_path):
    hub.sizes[NAME] = len(DATA) - 10_000
    assert "was damaged on its way" in (refused(tmp_path).sentence or "")
    hub.sizes[NAME] = len(DATA) + 10
    assert "answer is not as expected" in (refused(tmp_path).sentence or "")


def test_why_a_download_failed_is_said_in_words_of_the_readers_language(hub, tmp_path, monkeypatch):
    hub.status = 503
    assert "(HTTP 503)" in (refused(tmp_path).sentence or "")
    hub.status = 200  # with a body that is JSON, and of another kind
    assert "the answer is not as expected" in (refused(tmp_path).sentence or "")
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:9")
    failure = refused(tmp_path)
    assert "(no connection)" in (failure.sentence or "")
    with speaking("zh_CN"):
        assert "无法连接" in (failure.spoken() or "")
