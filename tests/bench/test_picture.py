"""`bench picture --references`: whole edits through the engine's child."""

from __future__ import annotations

import json

import pytest

from bot.cli.main import main

pytestmark = [pytest.mark.slow, pytest.mark.engine]
EDIT = ["--rows", "edit", "--steps", "2", "--size", "64x64", "--references", "96x64,64x96"]


def test_whole_edits_are_measured(tmp_path, capsys):
    figures = tmp_path / "figures.json"
    command = ["bench", "picture", str(tmp_path), "--model", "tiny-edit", "--json", str(figures)]
    assert main([*command, *EDIT]) == 0
    first, second = json.loads(figures.read_text("utf-8"))["edit"]["jobs"]
    assert (first["steps"], second["steps"]) == (2, 2)
    for job in (first, second):
        assert {"encode", "denoise", "decode", "total"} <= set(job["seconds"])
        assert job["step_s"] is not None
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[-2:]] == ["edit"] * 2


@pytest.mark.parametrize(
    ("model", "references", "said"),
    [("tiny", "64x64", "tiny edits no pictures"), ("tiny-edit", "", "There is no row edit")],
)
def test_without_references_or_a_model_that_edits_it_says_so(
    tmp_path, capsys, model, references, said
):
    command = ["bench", "picture", str(tmp_path), "--model", model, "--rows", "edit"]
    assert main([*command, "--references", references]) == 1
    assert said in capsys.readouterr().err
