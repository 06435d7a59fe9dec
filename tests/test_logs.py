"""Logging: no secrets, no forged lines, the job's id in every line of a job."""

from __future__ import annotations

import io
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.logs import LineFormatter, hide, job_context, set_up_logging


@pytest.fixture
def stream():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    out = io.StringIO()
    yield out
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)


def test_secrets_are_replaced_also_in_tracebacks(stream):
    set_up_logging("DEBUG", secrets=("tok.en.value",), stream=stream)
    log = logging.getLogger("test")
    try:
        raise ValueError("refused tok.en.value")
    except ValueError:
        log.exception("PATCH /webhooks/123/aW50ZXJhY3Rpb24/messages/@original")
    log.info("POST /interactions/55/abcDEF_123/callback with tok.en.value")
    text = stream.getvalue()
    for secret in ("tok.en.value", "aW50ZXJhY3Rpb24", "abcDEF_123"):
        assert secret not in text
    assert "webhooks/123/[token]/messages" in text


def test_discord_debug_is_never_on(stream):
    set_up_logging("DEBUG", stream=stream)
    assert not logging.getLogger("discord.gateway").isEnabledFor(logging.DEBUG)


def test_the_job_is_named(stream):
    set_up_logging("INFO", stream=stream)
    with job_context("0abc"):
        logging.getLogger("test").info("drawn")
    assert " 0abc " in stream.getvalue()


@given(st.text())
def test_one_record_is_one_line(text):
    record = logging.LogRecord("n", logging.INFO, "p", 1, "got %s", (text,), None)
    first, *rest = LineFormatter().format(record).split("\n")
    assert first.startswith("20")
    assert all(line.startswith("    ") for line in rest)
    assert not any(ord(c) < 32 and c not in "\n\t" for line in (first, *rest) for c in line)


@pytest.mark.parametrize("prompts", [False, True])
def test_prompts_stay_out_unless_the_owner_wants_them(stream, prompts):
    set_up_logging("INFO", stream=stream, prompts=prompts)
    log = logging.getLogger("test")
    with job_context("a"):
        hide("a very secret lighthouse")
        with job_context("b", "another hidden thing"):
            log.info("another hidden thing")
        with job_context("c"):
            log.info("still a very secret lighthouse")
    log.info("outside, a very secret lighthouse")
    own, inner, outside = stream.getvalue().splitlines()
    assert ("hidden thing" in own) == prompts
    assert ("secret" in inner) == prompts
    assert "secret lighthouse" in outside
