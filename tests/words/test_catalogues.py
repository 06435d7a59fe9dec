"""Each sentence stands in every language, whole, and what is compiled is what is written."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po

from bot.engine.files.stages import CONVERTING, LOADING
from bot.errors import EngineError, EngineErrorKind
from bot.jobs.feed import JobUpdate
from bot.messages.status import progress_status
from bot.words import DEFAULT, FOLDER, LANGUAGES, _, language_of, ngettext, speaking

ROOT = Path(__file__).parent.parent.parent
KEYWORDS = {"_": None, "mark": None, "ngettext": (1, 2)}
OTHERS = sorted(set(LANGUAGES) - {DEFAULT})


def extracted() -> set[str | tuple[str, ...]]:
    found: set[str | tuple[str, ...]] = set()
    for part in ("bot", "cogs", "storage"):
        for _file, _line, message, _comments, _context in extract_from_dir(
            ROOT / part, keywords=KEYWORDS, method_map=[("**.py", "python")]
        ):
            found.add(message)
    return found


def catalogue(language: str) -> Catalog:
    with (FOLDER / f"{language}.po").open("rb") as file:
        return read_po(file)


def sentences(found: Catalog) -> dict[tuple[str, ...], tuple[str, ...]]:
    return {_tuple(message.id): _tuple(message.string) for message in found if message.id}


def _tuple(text: object) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else tuple(text)


def fields(text: str) -> list[str]:
    return sorted({name for _, name, _, _ in string.Formatter().parse(text) if name})


@pytest.mark.parametrize("language", OTHERS)
def test_a_language_is_complete_and_fresh(language):
    messages = [message for message in catalogue(language) if message.id]
    ids = {m.id if isinstance(m.id, str) else tuple(m.id) for m in messages}
    assert ids == extracted(), "run `make words` and translate what is new"
    for message in messages:
        strings = [message.string] if isinstance(message.string, str) else message.string
        assert all(strings), message.id
        assert not message.fuzzy, message.id


@pytest.mark.parametrize("language", OTHERS)
def test_what_is_filled_in_is_the_same(language):
    for message in catalogue(language):
        if not message.id:
            continue
        wanted = message.id if isinstance(message.id, str) else message.id[-1]
        allowed = fields(wanted)
        for text in [message.string] if isinstance(message.string, str) else message.string:
            assert fields(text) == allowed, message.id


@pytest.mark.parametrize("language", OTHERS)
def test_the_compiled_file_is_that_of_the_text(language):
    """By what they say: the bytes are those of one version of Babel."""
    with (FOLDER / f"{language}.mo").open("rb") as file:
        compiled = read_mo(file)
    written = catalogue(language)
    assert sentences(compiled) == sentences(written), "run `make words`"
    assert compiled.mime_headers == written.mime_headers, "run `make words`"


def test_the_language_is_that_of_the_locale():
    assert [language_of(locale) for locale in ("en-GB", "zh-CN", "zh-TW", "de", "zh_CN")] == [
        "en",
        "zh_CN",
        "zh_CN",
        "en",
        "zh_CN",
    ]
    with speaking("zh-CN"):
        assert _("Cancel") == "取消"
        with speaking("en-US"):
            assert _("Cancel") == "Cancel"
        assert ngettext("{count} server", "{count} servers", 1) == "{count} 个服务器"
    assert ngettext("{count} server", "{count} servers", 1) == "{count} server"
    assert not _("")


@pytest.mark.parametrize("stage", [*LOADING.values(), *CONVERTING.values()])
def test_loading_is_told_in_the_users_language(stage):
    update = JobUpdate("job", "loading", stage=stage, fraction=0.5)
    with speaking("zh-CN"):
        assert _(stage) in progress_status(update)
        assert not re.search("[a-z]", progress_status(update))
    assert stage in progress_status(update)


def test_a_sentence_of_the_child_is_filled_and_never_run():
    template = "The model file {file} is missing."
    error = EngineError(EngineErrorKind.LOAD_FAILED, "x", sentence=template, values={"file": "a.b"})
    assert error.sentence == "The model file a.b is missing."
    with speaking("zh-CN"):
        assert error.spoken() == "缺少模型文件 a.b。"
    for odd in ("{file:>999999999}", "{file.__class__}", "{0}", "{", "{other}", "}{"):
        error = EngineError(EngineErrorKind.RAISED, "x", sentence=odd, values={"file": "a"})
        assert error.spoken() == odd


def test_nothing_chinese_is_left_in_half_width_punctuation():
    for message in catalogue("zh_CN"):
        texts = [message.string] if isinstance(message.string, str) else message.string
        for text in texts:
            assert not re.search(r"[\u4e00-\u9fff][,;!?]", text or ""), text
