"""Whatever is asked for, in every language: what is sent fits Discord's limits."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.archive.gallery import Page
from bot.catalogue.models import MODELS
from bot.catalogue.styles import MOST_OWN, NAME_LIMIT, Style
from bot.domain.job import ImageRecord, Job, JobState, Target
from bot.domain.request import COUNT_MAX
from bot.jobs.chosen_model import Models
from bot.jobs.derive import Offers
from bot.jobs.offered_models import OfferedModels
from bot.messages.card import POST
from bot.messages.details import details
from bot.messages.layout import message_of
from bot.messages.names import ASPECT_NAMES, QUALITY_NAMES
from bot.messages.outcome import (
    broken,
    elsewhere,
    kept,
    moved,
    outcome,
    picked,
    progress,
    withheld,
)
from bot.messages.settings_panel import Panel
from bot.messages.text import plain
from bot.messages.upload import Upload
from bot.rules.preferences import Defaults
from bot.sandbox.layouts import ROW
from bot.sandbox.model import TEXT_DISPLAY, Flag, walk
from bot.sandbox.uploads import Upload as Sent
from bot.sandbox.validate import check_message
from bot.words import LANGUAGES, speaking
from cogs.help import help_text
from cogs.history import _content, _view
from tests.hostile.test_texts import TEXTS, request_of

pytestmark = pytest.mark.slow

ID = "0" * 18


def judge_view(view) -> None:
    ids = [item.custom_id for item in view.children]
    assert len(set(ids)) == len(ids)
    for item in view.children:
        assert 1 <= len(item.custom_id) <= 100
        assert len(getattr(item, "label", None) or "") <= 80
        for option in getattr(item, "options", []):
            assert 1 <= len(option.label) <= 100
            assert 1 <= len(option.value) <= 100
        assert len(getattr(item, "options", [])) <= 25
    assert len(view.to_components()) <= 5


LONGEST_ID = 2**63


def judge(card) -> None:
    """What the card is sent as fits, by the sandbox's rules, which are Discord's."""
    given = message_of(card, mention=LONGEST_ID)
    components = given["view"].to_components()
    uploads = [Sent(index, file.filename, b"", 0) for index, file in enumerate(given["files"])]
    body = {"flags": int(Flag.COMPONENTS_V2), "components": components}
    check_message(body, uploads, limit=2**20)
    for item in walk(components):
        if item["type"] == ROW:
            assert len(item["components"]) <= 5
    texts = [item["content"] for item in walk(components) if item["type"] == TEXT_DISPLAY]
    for text in texts:
        assert "@everyone" not in text
        assert "@here" not in text
        text.encode()
    # As the answer of a message that an earlier version posted.
    old = message_of(card, layout=False, mention=LONGEST_ID)
    body = {"embeds": [old["embed"].to_dict()], "components": old["view"].to_components()}
    check_message(body, uploads, limit=2**20)
    assert len(old["content"]) <= 2000


@pytest.mark.parametrize("language", LANGUAGES)
@settings(deadline=None)
@given(text=TEXTS, state=st.sampled_from(JobState), count=st.integers(1, COUNT_MAX))
def test_cards_and_pages(language, text, state, count):
    request = request_of(
        text,
        count=count,
        negative_prompt=text,
        style=text[:40],
        loras=tuple(f"{'_' * 60}{n}:1" for n in range(3)),
        added=text[:500],
        parent=ID,
    )
    if request is None:
        return
    job = Job(ID, 1, 2, 3, Target.INTERACTION, request, state, 0.0, error="It broke.")
    job = replace(job, parent_id=ID, timings={"total": 3.0, "denoise": 2.5}, finished_at=5.0)
    image = ImageRecord(ID, 2, "a.png", "0" * 64, 1, 256, 256, 2**53 - 1)
    alt = plain(text, 1000)
    uploads = [Upload(f"{ID}_{n}.png", b"", alt) for n in range(count)]
    able, model = Offers(upscale=True, finish=True), "[" * 100
    with speaking(language):
        for hidden in ("", "x" * 200):
            card = outcome(job, uploads, made=count, hidden=hidden, model=model, offers=able)
            judge(card)
            judge(replace(card, buttons=(*card.buttons, POST)))
        judge(progress(job, "x" * 1000, b"preview", model=model))
        judge(picked(job, image, uploads[0], offers=able, model=model))
        for ended in (withheld(job, "x" * 300), elsewhere(job, "x" * 300), kept(job, "x" * 300)):
            judge(ended)
        judge(moved(job, 3, LONGEST_ID))
        judge(broken(job.id, "abc123"))
        assert details(job, "tiny", 0).count("```") == 2
        page = Page([replace(job, id=f"{n:018}") for n in range(6)], newer=True, older=True)
        assert len(_content(page, text[:60], OfferedModels(("tiny", "b")), "")) <= 2000
        judge_view(_view(page, text[:60], [page.jobs[:2]]))


@pytest.mark.parametrize("language", LANGUAGES)
@settings(deadline=None)
@given(names=st.lists(st.text(min_size=1, max_size=NAME_LIMIT), max_size=MOST_OWN, unique=True))
def test_settings_with_any_styles(language, names):
    own = [Style(name, "x") for name in names if name.strip()]
    chosen = own[-1].name if own else None
    with speaking(language):
        for model in MODELS.values():
            models = Models(tuple(MODELS.values()) if own else (model,))
            defaults = Defaults(style=chosen, negative="[](" * 1300, aspect="16:9", private=True)
            panel = Panel(
                "user", models, defaults, defaults, model, own, ASPECT_NAMES, QUALITY_NAMES
            )
            assert len(panel.embed()) <= 6000
            assert all(len(field.value or "") <= 1024 for field in panel.embed().fields)
            judge_view(panel.view())
            assert len(help_text(models.offered)) <= 2000
