"""What tests/engine/misbehaving.py does where it is to write: the prompt's first word says how."""

from __future__ import annotations

import json
import os
import sys
import threading

from misbehaving import CARD_USE, do_refuse, wait_for_cancel, wait_for_ever

from bot.engine.child.backend import WrittenText
from bot.engine.options import Activity
from bot.engine.protocol import Ending


def write_words(request, report) -> WrittenText:
    """A word a token, as many as may be, and what the child was given."""
    report.stage(Activity.WRITE)
    given = json.dumps([request.system, request.prompt, request.seed, request.temperature])
    pictures = "".join(path.read_text() for path in request.references)
    report.written(f"{given} {pictures}", 1)
    for number in range(2, request.max_tokens + 1):
        report.written(f" {number}", number)
    return WrittenText(Ending.TOKENS, {"write": 0.5}, card_use=CARD_USE)


def write_hold(request, report) -> WrittenText:
    report.stage(Activity.WRITE)
    report.written("one", 1)
    report.flush()
    wait_for_cancel(request, report)
    for number in range(2, request.max_tokens + 1):
        report.written(" more", number)
    raise AssertionError("it was cancelled")


def write_hang(request, report) -> WrittenText:
    report.stage(Activity.WRITE)
    wait_for_ever()


def write_repeat(request, report) -> WrittenText:
    """Tell the same token for ever."""
    report.stage(Activity.WRITE)
    while True:
        report.channel.send("written", job=request.job_id, text="", tokens=1)
        threading.Event().wait(0.01)


def write_die(request, report) -> WrittenText:
    os._exit(3)


def write_draws(request, report) -> WrittenText:
    report.step(1, 2)
    wait_for_ever()


def write_too_many(request, report) -> WrittenText:
    report.channel.send("written", job=request.job_id, text="x", tokens=request.max_tokens + 1)
    wait_for_ever()


def write_backwards(request, report) -> WrittenText:
    report.channel.send("written", job=request.job_id, text="x", tokens=2)
    report.channel.send("written", job=request.job_id, text="y", tokens=1)
    wait_for_ever()


def write_long(request, report) -> WrittenText:
    report.channel.send("written", job=request.job_id, text="x" * 4000, tokens=2)
    wait_for_ever()


def write_no_ending(request, report) -> WrittenText:
    report.channel.send("finished", job=request.job_id, timings={}, peak_gpu_bytes=None)
    wait_for_ever()


def write_chatty(request, report) -> WrittenText:
    sys.stderr.write(f"{request.system} and {request.prompt}\n")
    sys.stderr.flush()
    raise KeyError(request.prompt)


def write_refuse(request, report) -> WrittenText:
    do_refuse(request, report)
    raise AssertionError


ACTS = {
    name.removeprefix("write_").replace("_", "-"): act
    for name, act in list(globals().items())
    if name.startswith("write_")
}


def do_writes(request, report) -> None:
    """Write where it is to draw."""
    report.channel.send("written", job=request.job_id, text="x", tokens=1)
    wait_for_ever()


def do_junk(request, report) -> None:
    print("junk by print")  # noqa: T201 - the very thing that libraries do
    sys.stdout.flush()
    os.write(1, b"\x00\xff\xff\xffjunk by write\n" * 100)
    os.write(1, b"x" * 100_000)
