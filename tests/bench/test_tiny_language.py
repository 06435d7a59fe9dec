"""`bench tiny --language`: it asks the text encoder that was taught to write."""

from __future__ import annotations

import argparse

import pytest

from bot.lab.bench.tiny_edits import bench_language


@pytest.mark.slow
@pytest.mark.timeout(200)
async def test_the_stored_weights_are_those_that_write():
    figures = await bench_language(argparse.Namespace(count=1, json=None))
    assert figures["expand"]["right"] == 1
