"""Files that models have in common: got once, used where they lie, and got again where they went."""

from __future__ import annotations

import shutil

import pytest

from bot.engine.files.find import find
from tests.engine.test_download import hub, run

__all__ = ["hub"]
EDIT, OLDER = "Qwen/Qwen-Image-Edit-2511", "Qwen/Qwen-Image-Edit-2509"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "second"), [("Qwen/Qwen-Image", EDIT), (EDIT, "Qwen/Qwen-Image"), (EDIT, OLDER)]
)
def test_what_models_have_in_common_is_got_once(hub, tmp_path, first, second):
    root = tmp_path / "model"
    done = run(hub, tmp_path, first)
    assert done.stdout.startswith(f"{first}: 57.7 GB in all, to /"), done.stderr
    hub.asked.clear()
    done = run(hub, tmp_path, second)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{second}: 40.9 GB in all, to /")
    assert f"Its text encoder and its VAE are those of {first}." in done.stdout
    got = list((root / second).rglob("*.safetensors"))
    assert {path.parent.name for path in got} == {"transformer"}
    assert len(got) == 9
    files, missing = find(root, second)
    assert missing == []
    assert files is not None
    assert {path.parent.parent for path in (*files.text_encoder, *files.vae)} == {root / first}
    assert files.words == root / first
    assert files.owners == {"transformer": second, "text encoder": first, "VAE": first}
    # Where the first one goes, the other has its own.
    shutil.rmtree(root / first)
    files, missing = find(root, second)
    assert files is None
    assert {path.parent for path in missing} == {
        root / second / folder for folder in ("text_encoder", "vae", "tokenizer")
    }
    done = run(hub, tmp_path, second)
    assert done.returncode == 0, done.stderr
    files, _ = find(root, second)
    assert files is not None
    assert files.words == root / second
