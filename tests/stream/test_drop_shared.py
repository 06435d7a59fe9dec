"""A download that drops what it has packed, of a model whose text encoder another one has."""

from __future__ import annotations

import pytest

from bot.catalogue.models import find_model
from bot.cli.download import download_model
from bot.config.settings import load_settings
from bot.engine.files import find
from tests.engine.hub import REPOSITORY
from tests.stream.test_drop import files, hub

__all__ = ["files", "hub"]


@pytest.mark.slow
@pytest.mark.parametrize("drop_first", [True, False])
def test_a_text_encoder_that_another_model_has_is_left_there(
    hub, tmp_path, capsys, drop_first
) -> None:
    edit = "Qwen/Qwen-Image-Edit-2511"
    settings = load_settings(image_model_path=tmp_path, image_precision="fp8", _env_file=None)
    told = download_model(settings, settings.model, drop=drop_first)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / REPOSITORY).rglob("*")}
    hub.asked.clear()
    told = download_model(settings, find_model(edit), drop=True)
    assert told.startswith("Complete: ")
    got = {path for method, path, _ in hub.asked if method == "GET" and path in hub.files}
    assert {path.split("/")[0] for path in got} == {"transformer"}
    left = [path.name for path in (tmp_path / edit).rglob("*") if path.is_file()]
    assert not [name for name in left if name.endswith(".safetensors")]
    assert {"transformer.json", "transformer.weights"} <= set(left)
    assert "text-encoder.json" not in left
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / REPOSITORY).rglob("*")}
    assert after == before
    assert "Its text encoder and its VAE are those of Qwen/Qwen-Image." in capsys.readouterr().out
    files, missing = find.find(tmp_path, edit, "fp8")
    assert (files is not None, missing) == (True, [])
    indexes = find.cache_indexes(tmp_path, edit, "fp8")
    assert indexes["transformer"].complete
    assert indexes["text encoder"].folder == tmp_path / REPOSITORY / "fp8-cache"
