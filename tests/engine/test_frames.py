from __future__ import annotations

import asyncio
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.engine.frames import (
    LIMIT,
    Frame,
    FrameError,
    decode,
    encode,
    read_frame,
    read_frame_blocking,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
frames = st.builds(
    lambda fields, kind, tail: Frame({**fields, "type": kind}, tail),
    st.dictionaries(st.text(), json_values, max_size=4),
    st.text(),
    st.binary(max_size=300),
)


async def read_all(data: bytes) -> list[Frame]:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    found = []
    while (frame := await read_frame(reader)) is not None:
        found.append(frame)
    return found


@pytest.mark.slow
@given(st.lists(frames, max_size=5))
def test_what_is_written_is_read_by_both_readers(sent: list[Frame]) -> None:
    data = b"".join(map(encode, sent))
    stream = io.BytesIO(data)
    blocking = list(iter(lambda: read_frame_blocking(stream), None))
    assert blocking == sent
    assert asyncio.run(read_all(data)) == sent


@pytest.mark.slow
@given(st.lists(frames, min_size=1, max_size=3), st.data())
def test_a_cut_stream_ends_before_the_cut_frame(sent: list[Frame], data: st.DataObject) -> None:
    whole = b"".join(map(encode, sent))
    last = len(encode(sent[-1]))
    cut = data.draw(st.integers(1, last))
    assert asyncio.run(read_all(whole[:-cut])) == sent[:-1]


@settings(max_examples=200)
@given(st.binary(max_size=60))
def test_junk_is_a_frame_error_and_nothing_else(junk: bytes) -> None:
    try:
        frame = decode(junk)
    except FrameError:
        return
    assert json.loads(junk.partition(b"\n")[0]) == frame.header


def test_a_lone_surrogate_survives() -> None:
    frame = Frame({"type": "generate", "prompt": "\ud83d"})
    assert read_frame_blocking(io.BytesIO(encode(frame))) == frame


async def test_an_announced_size_over_the_limit_is_refused_before_it_is_read() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data((LIMIT + 1).to_bytes(4, "big"))
    with pytest.raises(FrameError, match="over the limit"):
        await read_frame(reader)


def test_a_frame_over_the_limit_is_not_written() -> None:
    with pytest.raises(FrameError, match="over the limit"):
        encode(Frame({"type": "preview"}, bytes(LIMIT)))
