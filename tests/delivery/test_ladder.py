"""Which ways are open to a delivery, and what each of Discord's refusals means."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import aiohttp
import discord
import pytest

from bot.delivery.errors import (
    RetryLaterError,
    RungClosedError,
    TooLargeError,
    UnprovenError,
    explain,
)
from bot.delivery.ladder import BY_NEW_MESSAGE, Rung, after, rungs
from bot.domain.ids import new_job_id
from bot.messages.discord_limits import NONCE_LENGTH
from bot.rules.notice import Notice
from storage.deliveries import Delivery

NOW = 1_000_000.0
DELIVERY = Delivery(
    job_id="0" * 18, state="pending", source_id="i1", target="interaction", user_id=1, private=False,
    application_id=2, token="t", token_expires_at=NOW + 600, bot_in_channel=True, channel_id=3,
    message_id=4, attempts=0, next_attempt_at=0, rung=None, intent_at=None, delivered_at=None,
    sent_channel_id=None, sent_message_id=None, error=None, layout=True, remove_at=None,
    created_at=NOW,
)  # fmt: skip
R, P, T, E, C, D, K = Rung  # All of them: a new one has to find its place in the cases below.


@pytest.mark.parametrize(
    ("changes", "ways"),
    [
        ({}, (T, E, C, D, K)),
        ({"token": None}, (E, C, D, K)),
        ({"token_expires_at": NOW + 1}, (E, C, D, K)),
        ({"message_id": None}, (T, C, D, K)),
        ({"private": True}, (T, D, K)),
        ({"private": True, "token": None}, (D, K)),
        ({"bot_in_channel": False}, (T, D, K)),
        ({"rung": "edit"}, (E, C, D, K)),
        ({"rung": "channel"}, (C, D, K)),
        ({"rung": "dm"}, (D, K)),
        ({"rung": "kept"}, (K,)),
        ({"target": "message", "token": None, "application_id": None}, (E, C, K)),
        ({"target": "http", "token": None, "channel_id": None}, (K,)),
        ({"target": "cli", "token": None, "channel_id": None}, (K,)),
    ],
)
def test_ways(changes, ways):
    assert rungs(replace(DELIVERY, **changes), NOW) == ways


@pytest.mark.parametrize(
    ("notice", "changes", "ways"),
    [
        ("reply", {}, (R, T, E, C, D, K)),
        ("direct", {}, (P, T, E, C, D, K)),
        ("reply", {"token": None}, (R, E, C, D, K)),
        ("reply", {"target": "message", "token": None}, (R, E, C, K)),
        # The message that waited cannot be removed by the bot itself.
        ("reply", {"message_id": None}, (T, C, D, K)),
        ("direct", {"bot_in_channel": False}, (T, D, K)),
        ("reply", {"private": True}, (T, D, K)),
        # What was tried stays open, whatever its author chooses meanwhile, and nothing before it.
        ("quiet", {"rung": "reply"}, (R, T, E, C, D, K)),
        ("quiet", {"rung": "direct"}, (P, T, E, C, D, K)),
        ("reply", {"rung": "direct"}, (P, T, E, C, D, K)),
        ("reply", {"rung": "token"}, (T, E, C, D, K)),
        ("reply", {"target": "http", "token": None, "channel_id": None}, (K,)),
    ],
)
def test_ways_after_a_long_wait(notice, changes, ways):
    assert rungs(replace(DELIVERY, **changes), NOW, Notice(notice)) == ways


@pytest.mark.parametrize("rung", sorted(BY_NEW_MESSAGE))
def test_no_edit_follows_a_new_message_that_nobody_can_look_for(rung):
    assert after(rung, RungClosedError("refused")) == set(Rung)
    assert after(rung, UnprovenError("closed")) == ({D, K} if rung is R else {K})


def refusal(status: int, code: int = 0, **headers: str) -> discord.HTTPException:
    response = SimpleNamespace(status=status, reason="", headers=headers)
    return discord.HTTPException(response, {"code": code, "message": ""})


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (refusal(401, 50027), RungClosedError),
        (refusal(401), RetryLaterError),
        (refusal(403), RetryLaterError),
        (refusal(403, 40333), RetryLaterError),
        (refusal(403, 50013), RungClosedError),
        (refusal(403, 50007), RungClosedError),
        (refusal(404, 10008), RungClosedError),
        (refusal(404, 10062), RungClosedError),
        (refusal(400, 50035), RungClosedError),
        (refusal(413), TooLargeError),
        (refusal(400, 40005), TooLargeError),
        (refusal(429), RetryLaterError),
        (refusal(500), RetryLaterError),
        (refusal(503), RetryLaterError),
        (aiohttp.ServerDisconnectedError(), RetryLaterError),
        (ConnectionResetError(), RetryLaterError),
        (TimeoutError(), RetryLaterError),
        (RuntimeError("Session is closed"), RetryLaterError),
    ],
)
def test_refusals(error, meaning):
    assert type(explain(error)) is meaning


def test_the_wait_that_discord_asks_for_is_kept():
    explained = explain(refusal(429, **{"Retry-After": "12.5"}))
    assert isinstance(explained, RetryLaterError)
    assert explained.after_s == 12.5


def test_a_refused_bot_waits_long():
    assert explain(refusal(401)).after_s >= 600


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_refused_token_is_closed(status):
    assert isinstance(explain(refusal(status), by_token=True), RungClosedError)


def test_what_is_not_known_stays_what_it_is():
    error = ValueError("x")
    assert explain(error) is error


def test_the_token_is_not_shown():
    assert "token='t'" not in repr(DELIVERY)


@pytest.mark.parametrize("rung", list(Rung))
def test_a_job_id_with_a_letter_is_a_nonce(rung):
    assert len(new_job_id() + rung[0]) <= NONCE_LENGTH
