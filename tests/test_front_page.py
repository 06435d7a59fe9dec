"""The front page in both languages: the same figures, a light picture, forms that ask for the right things."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from PIL import Image

from bot.client.command_names import NAMES
from bot.words import _, speaking
from tests.documents import CHINESE, ENGLISH, ROOT, blocks, links
from tests.test_packaging import PROJECT

READMES = (ENGLISH, CHINESE)
MOST_LINES = 120
MOST_BYTES = 2_000_000
FORMS = ROOT / ".github" / "ISSUE_TEMPLATE"
CARDS = ROOT / "docs" / "cards.md"


def rows(page: Path, begin: str) -> list[list[str]]:
    """Return the cells of a table's rows that begin so, with every way of writing a range alike."""
    lines = [line for line in page.read_text("utf-8").splitlines() if line.startswith(begin)]
    return [
        [cell.strip().replace(" 到 ", " to ") for cell in line[1:-1].split("|")] for line in lines
    ]


@pytest.mark.parametrize("page", READMES, ids=lambda page: page.name)
def test_it_is_short(page):
    assert len(page.read_text("utf-8").splitlines()) <= MOST_LINES
    for shell, text in blocks(page):
        lines = text.rstrip().splitlines()
        assert len(lines) <= 6, shell
        assert all(len(line) <= 130 for line in lines)


@pytest.mark.parametrize("page", READMES, ids=lambda page: page.name)
def test_the_address_is_the_packages(page):
    (cloned,) = re.findall(r"git clone (https?://\S+)", page.read_text("utf-8"))
    assert cloned == PROJECT["urls"]["Source"]


def test_no_other_page_names_the_address():
    pages = [*ROOT.glob("*.md"), ROOT / "Makefile", *(ROOT / "docs").rglob("*.*")]
    address = PROJECT["urls"]["Source"].encode()
    assert {page for page in pages if address in page.read_bytes()} == set(READMES)


def test_the_moving_picture_moves_and_is_light():
    path = ROOT / "docs" / "images" / "demo.gif"
    assert path.stat().st_size <= MOST_BYTES
    with Image.open(path) as image:
        assert image.n_frames > 20
        assert image.info["loop"] == 0


def test_both_languages_have_the_same_content():
    def targets(page: Path) -> set[tuple[Path, str]]:
        return {link for link in links(page) if link[0] not in READMES}

    assert targets(ENGLISH) == targets(CHINESE)
    assert rows(ENGLISH, "| RTX") == rows(CHINESE, "| RTX")
    (english,), (chinese,) = rows(ENGLISH, "| **measured**"), rows(CHINESE, "| **实测**")
    assert english[1:] == chinese[1:]
    headings = [re.findall(r"^## ", page.read_text("utf-8"), re.MULTILINE) for page in READMES]
    assert len(headings[0]) == len(headings[1])
    # What can be reached from there.
    assert all("bot setup --source modelscope" in block[1] for block in blocks(CHINESE))


def test_the_cards_seconds_are_those_of_all_cards():
    """The table of all cards is compared with the engine's own plan by its own test."""
    known = {
        (re.sub(r" \d+ GB$", "", card), seconds, fast)
        for card, *_, seconds, _int8, fast in rows(CARDS, "| RTX")
    }
    shown = {(card, seconds, fast) for card, _, seconds, fast in rows(ENGLISH, "| RTX")}
    assert len(shown) >= 8
    assert shown <= known
    assert {memory for _, memory, *_ in rows(ENGLISH, "| RTX")} >= {"8", "12", "16", "24", "32"}


def test_the_measured_seconds_are_those_of_the_measurements():
    (cells,) = rows(ENGLISH, "| **measured**")
    measured = (ROOT / "docs" / "performance.md").read_text("utf-8")
    lightning = (ROOT / "docs" / "loras.md").read_text("utf-8")
    assert f"| **{cells[2]}** |" in measured
    assert f"| **{cells[3]} s** |" in lightning


def test_chinese_names_are_those_of_the_commands():
    with speaking("zh_CN"):
        names = {_(name) for name in NAMES}
    shown = set(re.findall(r"`/([一-鿿]+)`", CHINESE.read_text("utf-8")))
    assert len(shown) > 5
    assert shown <= names


def test_the_forms_ask_for_what_a_report_needs():
    forms = {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in FORMS.glob("it-*.yml")}
    assert forms.keys() == {"it-drew", "it-did-not"}
    for form in forms.values():
        assert form["name"] in ENGLISH.read_text("utf-8")
        fields = {one["id"]: one for one in form["body"] if one["type"] != "markdown"}
        needed = {
            name for name, one in fields.items() if one.get("validations", {}).get("required")
        }
        assert {"card", "doctor"} <= needed
        assert all(one["attributes"]["label"] for one in fields.values())
    drew = {one.get("id") for one in forms["it-drew"]["body"]}
    assert {"card", "driver", "seconds", "doctor"} <= drew
