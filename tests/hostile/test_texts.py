"""Any text at all: through the request, the database, the message and the picture's own texts."""

from __future__ import annotations

import io
import json
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bot.domain.job import Job, JobState, Target
from bot.domain.request import ImageRequest
from bot.engine.child.control_tokens import inert_text
from bot.engine.child.png import save_png
from bot.errors import InvalidRequest
from bot.jobs.outlook import QueuePlace
from bot.logs.redact import Redactor
from bot.messages import outcome, status
from bot.messages.layout import edit_of
from bot.messages.upload import Upload
from bot.pictures.parameters_read import read_parameters
from bot.pictures.parameters_written import exif_of, png_texts
from bot.pictures.writers import Parameters
from tests.hostile.corpus import ACCEPTED, REFUSED

# Surrogates and control characters too: what is refused is part of the matter.
TEXTS = st.one_of(
    st.text(st.characters(), max_size=4000),
    st.lists(st.sampled_from([*ACCEPTED.values(), *REFUSED.values()]), max_size=3).map("".join),
    st.text("@<>#*_~|`[]():/\\\n \u200b\u202e\u0301-+1.", max_size=4000),
)


def request_of(text: str, **fields) -> ImageRequest | None:
    try:
        return ImageRequest(text, **fields)
    except InvalidRequest:
        return None


def job_of(request: ImageRequest, state: JobState, error: str | None = None) -> Job:
    return Job("0" * 18, 1, None, None, Target.INTERACTION, request, state, 0.0, error=error)


@given(TEXTS)
def test_a_request_comes_back_from_the_database(text):
    request = request_of(text, negative_prompt=text)
    if request is None:
        return
    with sqlite3.connect(":memory:") as database:
        (stored,) = database.execute("SELECT ?", (request.to_json(),)).fetchone()
    assert ImageRequest.from_json(stored) == request


@given(TEXTS, st.sampled_from(JobState))
def test_a_message_is_within_discords_limits(text, state):
    request = request_of(text)
    if request is None:
        return
    error = "The image engine crashed. " * 12
    # The alternative text is the author's own, and mentions nobody (`test_cards.py`).
    uploads = [Upload(f"{'0' * 18}_0.png", b"", "")] if state is JobState.GENERATED else []
    place = QueuePlace(3, 4.0, 5.0)
    cards = [
        outcome.outcome(job_of(request, state, error), uploads),
        outcome.progress(job_of(request, state), status.waiting_status(place, text[:200])),
    ]
    for card in cards:
        for kind in (True, False):
            shown = edit_of(card, layout=kind)
            said = str(shown["view"].to_components()) + str(kind or shown["embed"].to_dict())
            assert "@everyone" not in said
            assert "@here" not in said
            said.encode()
            # Nothing but the prompt's own place holds what was typed.
            assert text not in card.byline or len(text) < 8


@settings(max_examples=40)
@given(text=TEXTS)
def test_a_pictures_texts_come_back(tmp_path_factory, text):
    request = request_of(text, negative_prompt=text, seed=3)
    if request is None:
        return
    (texts,) = png_texts("job", request, "model")
    path = Path(tmp_path_factory.mktemp("png")) / "0.png"
    save_png(Image.new("RGB", (8, 8)), path, texts)
    with Image.open(io.BytesIO(path.read_bytes())) as picture:
        read = dict(picture.text)
    assert read == texts
    smaller = io.BytesIO()
    Image.new("RGB", (8, 8)).save(smaller, "WEBP", exif=exif_of(texts))
    assert read_parameters(path.read_bytes()) == Parameters("", texts["parameters"])
    # (A zero-width space in front is what marks the byte order.)
    expected = Parameters("", texts["parameters"].lstrip("\ufeff"))
    assert read_parameters(smaller.getvalue()) == expected
    assert json.loads(read["request"])["prompt"] == request.prompt
    assert "<lora:" not in read["parameters"].lower(), "none was used"
    last = read["parameters"].split("\n")[-1]
    assert last.startswith(f"Steps: {request.steps}, ")
    assert last.endswith("Seed: 3, Size: 1344x768, Model: model")


@given(TEXTS)
def test_no_prompt_speaks_the_templates_language(text):
    made = inert_text(text)
    for token in ("<|im_end|>", "<|im_start|>", "<|image_pad|>", "<|endoftext|>"):
        assert token not in made
        assert inert_text(f"{text}{token}") == made + token.replace("|", "| ", 1)[:-2] + " |>"


def test_a_tokenizer_of_qwens_kind_finds_no_control_token_in_a_prompt():
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="?", vocab={"?": 0}, merges=[]))
    made.add_special_tokens(["<|im_start|>", "<|im_end|>", "<|image_pad|>"])
    control = set(made.encode("<|im_start|><|im_end|><|image_pad|>").ids)
    prompt = ACCEPTED["template tokens"]
    assert control & set(made.encode(prompt).ids), "the tokenizer knows them in raw text"
    assert not control & set(made.encode(inert_text(prompt)).ids)


@given(st.text(min_size=12, max_size=300), st.text(max_size=50), st.data())
def test_a_line_shows_no_part_of_a_secret(secret, around, data):
    start = data.draw(st.integers(0, len(secret) - 12))
    part = secret[start : start + data.draw(st.integers(12, len(secret)))]
    made = Redactor((secret,))(f"{around}{part}{around}")
    assert part not in made or part in around


def test_other_lines_stay_as_they_are():
    redact = Redactor(("a purple cow on the moon", "", "cat"))
    assert redact("Loading shards 3/5, the cat is out") == "Loading shards 3/5, the cat is out"
    assert redact("ValueError: 'a purple cow on the moon' is odd") == "ValueError: '…' is odd"
    assert redact(repr("x\na purple cow\n")) == r"'x\n…\n'"
