from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.engine.toy_files import untrained
from tests.stream.files import published_text, write_shards


@pytest.fixture(scope="module")
def pipe():
    return untrained()


@pytest.fixture(scope="module")
def published(pipe, tmp_path_factory):
    root = tmp_path_factory.mktemp("published")
    state = {name: value.bfloat16() for name, value in pipe.dit.state_dict().items()}
    write_shards(state, root / "transformer", "diffusion_pytorch_model")
    write_shards(published_text(pipe.text_encoder), root / "text_encoder", "model", 2)
    return root


@pytest.fixture
def model(published, tmp_path):
    """A copy of the files that a test may damage."""
    return Path(shutil.copytree(published, tmp_path / "model"))
