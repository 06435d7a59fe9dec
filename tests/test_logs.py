"""Logging: no secrets, no forged lines, the job's id in every line of a job."""

from __future__ import annotations

import io
import json
import logging
import queue
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.logs import LineFormatter, hide, job_context, set_up_logging
from bot.logs.file import FILE_NAME


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


def events(folder) -> list[dict[str, str]]:
    for handler in logging.getLogger().handlers:
        handler.close()  # writes what waits
    text = (folder / FILE_NAME).read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_the_file_holds_an_event_a_line_with_its_job_and_no_secret(stream, tmp_path):
    folder = tmp_path / "new" / "logs"
    set_up_logging("INFO", secrets=("tok.en.value",), stream=stream, folder=folder)
    log = logging.getLogger("test")
    log.info("before")
    with job_context("01abc", "a prompt that nobody else may read"):
        try:
            raise ValueError("tok.en.value\nforged: a prompt that nobody else may read")
        except ValueError:
            log.exception("failed\nin two lines \udc00")
    first, second = events(folder)
    assert (first["job"], first["level"], first["message"]) == ("-", "INFO", "before")
    assert first["time"].endswith("+00:00")
    assert (second["job"], second["level"], second["logger"]) == ("01abc", "ERROR", "test")
    assert second["message"].startswith("failed\nin two lines")
    assert "ValueError: [secret]" in second["traceback"]
    assert "nobody else" not in str(second) + stream.getvalue()


def test_the_file_is_turned_and_old_ones_go(stream, tmp_path, monkeypatch):
    monkeypatch.setattr("bot.logs.file._LARGEST", 2000)
    set_up_logging("INFO", stream=stream, folder=tmp_path)
    for number in range(200):
        logging.getLogger("test").info("line %d", number)
    assert events(tmp_path)[-1]["message"] == "line 199"
    assert len(list(tmp_path.iterdir())) == 6


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
def test_without_a_file_the_terminal_says_so_once(stream, tmp_path, capsys):
    (tmp_path / "file").write_text("no folder")
    set_up_logging("INFO", stream=stream, folder=tmp_path / "file")
    assert "there is no log file" in stream.getvalue()
    set_up_logging("INFO", stream=stream, folder=tmp_path / "full")
    (handler,) = (h for h in logging.getLogger().handlers if hasattr(h, "queue"))
    handler._file.stream.close()
    handler._file.stream = Path("/dev/full").open("w", encoding="utf-8")  # noqa: SIM115 - the handler closes it
    for _ in range(3):
        logging.getLogger("test").info("still on the terminal")
    handler.close()
    assert stream.getvalue().count("still on the terminal") == 3
    assert capsys.readouterr().err.count("cannot be written") == 1


def test_a_disk_that_hangs_holds_nobody_up(stream, tmp_path, capsys):
    set_up_logging("INFO", stream=stream, folder=tmp_path)
    (handler,) = (h for h in logging.getLogger().handlers if hasattr(h, "queue"))
    hanging, handler.queue = handler.queue, queue.Queue(1)
    for number in range(3):
        logging.getLogger("test").info("line %d", number)
    assert handler.queue.get_nowait().getMessage().count("line 0") == 1
    handler.queue = hanging
    logging.getLogger("test").info("line 3")
    assert [event["message"] for event in events(tmp_path)] == ["line 3"]
    assert "2 lines of the log file were dropped" in capsys.readouterr().err
