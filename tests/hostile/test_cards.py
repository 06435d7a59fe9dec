"""Whatever is asked for, in every language: what is sent fits Discord's limits."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.archive.gallery import Page
from bot.catalogue.models import MODELS
from bot.catalogue.styles import MOST_OWN, NAME_LIMIT, Style
from bot.domain.job import ImageRecord, Job, JobState, Target
from bot.domain.request import COUNT_MAX
from bot.jobs.chosen_model import Models
from bot.jobs.offered_models import OfferedModels
from bot.messages.details import details
from bot.messages.names import ASPECT_NAMES, QUALITY_NAMES
from bot.messages.outcome import outcome, picked, progress
from bot.messages.settings_panel import Panel
from bot.messages.upload import Upload
from bot.rules.preferences import Defaults
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


def judge(card) -> None:
    assert len(card.embed.description or "") <= 4096
    assert len(card.embed) <= 6000
    judge_view(card.view())


@pytest.mark.parametrize("language", LANGUAGES)
@given(text=TEXTS, state=st.sampled_from(JobState), count=st.integers(1, COUNT_MAX))
def test_cards_and_pages(language, text, state, count):
    request = request_of(
        text, count=count, negative_prompt=text, style=text[:40], added=text[:500], parent=ID
    )
    if request is None:
        return
    job = Job(ID, 1, 2, 3, Target.INTERACTION, request, state, 0.0, error="It broke.")
    job = replace(job, parent_id=ID, timings={"total": 3.0, "denoise": 2.5}, finished_at=5.0)
    image = ImageRecord(ID, 2, "a.png", "0" * 64, 1, 256, 256, 2**53 - 1)
    upload = Upload(f"{ID}_grid.png", b"", "x")
    with speaking(language):
        judge(outcome(job, [upload], made=count, grid=count > 1))
        judge(progress(job, "x" * 300, b"preview"))
        judge(picked(job, image, upload))
        assert details(job, "tiny", 0).count("```") == 2
        page = Page([replace(job, id=f"{n:018}") for n in range(6)], newer=True, older=True)
        assert len(_content(page, text[:60], OfferedModels(("tiny", "b")))) <= 2000
        judge_view(_view(page, text[:60]))


@pytest.mark.parametrize("language", LANGUAGES)
@given(names=st.lists(st.text(min_size=1, max_size=NAME_LIMIT), max_size=MOST_OWN, unique=True))
def test_settings_with_any_styles(language, names):
    own = [Style(name, "x") for name in names if name.strip()]
    chosen = own[-1].name if own else None
    with speaking(language):
        for model in MODELS.values():
            models = Models(tuple(MODELS.values()) if own else (model,))
            defaults = Defaults(style=chosen, negative="[](" * 1300, aspect="16:9", private=True)
            panel = Panel("user", models, defaults, own, ASPECT_NAMES, QUALITY_NAMES)
            assert len(panel.embed()) <= 6000
            assert all(len(field.value or "") <= 1024 for field in panel.embed().fields)
            judge_view(panel.view())
            assert len(help_text(models.offered)) <= 2000
