"""The judges see what is there: right on the renderer's pictures, wrong on others."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from bot.cli.main import main
from bot.lab.tiny.evaluate import judge
from bot.lab.tiny.evaluate.pixels import View, bounds, components, holes
from bot.lab.tiny.evaluate.prompts import held_out_plans, held_out_prompts, rendered
from bot.lab.tiny.evaluate.reading import read_line
from bot.lab.tiny.evaluate.score import percent, psnr, reached, tally
from bot.lab.tiny.train.scenes.letters import WORDS
from bot.lab.tiny.train.scenes.plan import Plan
from bot.lab.tiny.train.scenes.scene import paint

COUNT = 80


@pytest.fixture(scope="module")
def pictures():
    return rendered(COUNT)


def softened(image: Image.Image) -> Image.Image:
    """As a small model draws: little detail, a little noise."""
    small = image.resize((112, 112), Image.Resampling.BICUBIC).resize((256, 256))
    noise = np.random.default_rng(0).normal(0, 5, (256, 256, 3))
    return Image.fromarray((np.asarray(small) + noise).clip(0, 255).astype(np.uint8))


def test_prompts_are_held_out_and_stay_the_same():
    found = held_out_plans(COUNT)
    assert all(plan.held_out for plan, _ in found)
    assert [prompt for _, prompt in found] == held_out_prompts(COUNT)
    assert len({prompt.caption for _, prompt in found}) == COUNT
    assert len({prompt.seed for _, prompt in found}) == COUNT


@pytest.mark.slow
def test_judges_agree_with_the_renderer(pictures):
    shares, failed = tally((prompt, softened(picture)) for prompt, picture in pictures)
    assert len(shares) == 9
    assert {name: percent(share) for name, share in shares.items() if percent(share) < 97} == {}
    assert len(failed) == COUNT


@pytest.mark.slow
def test_judges_disagree_with_pictures_of_other_facts(pictures):
    kinds = defaultdict(list)
    for prompt, picture in pictures:
        kinds[prompt.facts["kind"]].append((prompt, picture))
    swapped = [
        (prompt, group[(index + 1) % len(group)][1])
        for group in kinds.values()
        for index, (prompt, _) in enumerate(group)
    ]
    shares, _ = tally(swapped)
    # What chance agrees on: one of three counts, one of two sizes, white behind every fourth.
    most = defaultdict(lambda: 25.0, count=60.0, size=80.0, background=35.0)
    assert {
        name: percent(share) for name, share in shares.items() if percent(share) > most[name]
    } == {}


@pytest.mark.slow
def test_judges_see_nothing_in_noise_nor_in_an_empty_picture(pictures):
    noise = np.random.default_rng(1).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    for picture in (Image.fromarray(noise), Image.new("RGB", (256, 256), (255, 0, 255))):
        verdicts = [
            verdict
            for prompt, _ in pictures[:50]
            for verdict in judge(prompt.facts, picture).values()
        ]
        assert sum(verdicts) < 0.03 * len(verdicts)


@pytest.mark.slow
def test_words_are_read_letter_by_letter():
    for number, word in enumerate(WORDS):
        plan = Plan("text", ground=("yellow",), text=word, colour="blue", face="sans")
        view = View.of(softened(paint(random.Random(number), plan)))
        assert read_line(view, digits=False) == word


def test_touching_letters_are_cut_apart():
    plan = Plan("text", ground=("white",), text="EHN", colour="black", face="sans")
    picture = paint(random.Random(0), plan)
    pixels = np.asarray(picture).copy()
    letters = sorted(bounds(part) for part in components(pixels[..., 0] < 128))
    for before, after in pairwise(letters):
        pixels[before[1] + 4 : before[1] + 10, before[2] - 2 : after[0] + 2] = 0
    assert len(components(pixels[..., 0] < 128)) == 1
    assert read_line(View.of(Image.fromarray(pixels)), digits=False) == "EHN"


def test_parts_and_holes():
    mask = np.zeros((12, 20), dtype=bool)
    mask[2:9, 2:9] = True
    mask[4:7, 4:7] = False
    mask[3:5, 12:15] = True
    found = components(mask)
    assert [int(part.sum()) for part in found] == [40, 6]
    assert [int(hole.sum()) for hole in holes(mask)] == [9]


def test_psnr_of_a_known_difference():
    grey, other = (Image.new("RGB", (8, 8), (value,) * 3) for value in (100, 110))
    assert psnr(grey, other) == pytest.approx(28.13, abs=0.01)
    assert psnr(grey, grey) == float("inf")


def test_text_is_judged_relative_to_the_judge():
    assert reached("text", (66, 100), (90, 100)) is True
    assert reached("text", (66, 100), (100, 100)) is False
    assert reached("size", (0, 100), (100, 100)) is None


@pytest.mark.slow
def test_pictures_made_elsewhere_are_judged(tmp_path, pictures, capsys):
    prompts, figures, sheet = (tmp_path / name for name in ("p.json", "f.json", "sheet.png"))
    assert main(["bench", "tiny", "--count", "6", "--write-prompts", str(prompts)]) == 0
    for prompt, picture in pictures[:6]:
        picture.save(tmp_path / f"{prompt.number}.png")
    command = ["bench", "tiny", "--pictures", str(tmp_path), "--prompts", str(prompts)]
    assert main([*command, "--json", str(figures), "--sheet", str(sheet)]) == 0
    found = json.loads(figures.read_text("utf-8"))
    assert found["prompts"] == 6
    assert set(found["percent"].values()) == {100.0}
    assert "| judge on renderer |" in capsys.readouterr().err
    with Image.open(sheet) as image:
        assert image.width > 1000


def test_a_missing_picture_is_said(tmp_path, capsys):
    assert main(["bench", "tiny", "--count", "1", "--pictures", str(tmp_path)]) == 1
    assert "no picture 0.png" in capsys.readouterr().err


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.timeout(300)
def test_the_engine_draws_what_is_judged(tmp_path):
    figures = tmp_path / "figures.json"
    command = ["bench", "tiny", "--count", "2", "--steps", "2", "--psnr", "1"]
    assert main([*command, "--keep", str(tmp_path), "--json", str(figures)]) == 0
    found = json.loads(figures.read_text("utf-8"))
    assert found["seconds_an_image"] > 0
    assert found["load_s"] >= found["load_beyond_imports_s"] > 0
    assert 20 < found["fp8_psnr_db"]["mean"] < 99
    assert (tmp_path / "fp8/1.png").is_file()
