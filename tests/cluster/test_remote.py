"""What the driver makes of whatever Ray raises; no cluster is needed for it."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-ray.txt")
from bot.engine.cluster import actor_proxy
from bot.engine.cluster.remote import Remote


class Call:
    """A method of an actor, as Ray offers it."""

    def __init__(self, act) -> None:
        self.remote = act

    def options(self, **_options) -> Call:
        return self


class Actor:
    """An actor that does for every call what its test wants."""

    def __init__(self, act) -> None:
        self.exchange = self.send = self.alive = self.end = Call(act)


class Broken:
    """What a stream or an answer of Ray's may be: it raises when it is awaited."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __aiter__(self) -> Broken:
        return self

    async def __anext__(self) -> None:
        raise self._error


def give(remote: Remote, actor: Actor, link: int) -> None:
    """Let the remote have a child of this actor, open as this link."""
    remote._actor.handle, remote._link.number, remote._link.open = actor, link, True


@pytest.fixture
async def opened(monkeypatch):
    """Open a remote on such an actor; return it and what it tells the bot."""
    killed, remotes = [], []
    monkeypatch.setattr(actor_proxy.ray, "kill", lambda actor, **_: killed.append(actor))

    def opened(act):
        told = asyncio.Queue()

        def send(said, _tail=b"", /, **fields) -> None:
            told.put_nowait((said, fields))

        remote = Remote(1, "node", send, silent_s=30)
        give(remote, Actor(act), 5)
        remotes.append(remote)
        return remote, told

    yield opened
    for remote in remotes:
        await remote.release()
    assert killed


ERRORS = [TypeError("cannot be serialized"), OSError("broken"), KeyError("x")]


async def told_end(told, link: int, error: Exception) -> None:
    """Wait for the log line and the end of a link that an error has ended."""
    async with asyncio.timeout(20):
        said, fields = await told.get()
        assert (said, fields["link"]) == ("log", link)
        assert type(error).__name__ in fields["text"]
        said, fields = await told.get()
    assert (said, fields["link"], fields["kind"]) == ("ended", link, "died")
    assert type(error).__name__ in fields["detail"]


@pytest.mark.parametrize("kind", ["load", "cancel"])
@pytest.mark.parametrize("error", ERRORS)
async def test_whatever_is_raised_while_a_message_is_sent_is_told(opened, kind, error):
    def refuse(*_values):
        raise error

    remote, told = opened(refuse)
    remote.post(5, {"type": kind})
    await told_end(told, 5, error)
    while remote._actor.handle is not None:  # noqa: ASYNC110 - it is let go in a task of its own
        await asyncio.sleep(0)
    give(remote, Actor(refuse), 6)
    remote.post(6, {"type": kind})  # the courier lives
    await told_end(told, 6, error)


@pytest.mark.parametrize("error", ERRORS)
async def test_whatever_ends_a_stream_is_told(opened, error):
    remote, told = opened(lambda *_values: Broken(error))
    remote.post(5, {"type": "load"})
    await told_end(told, 5, error)


@pytest.mark.parametrize("error", ERRORS)
async def test_an_idle_engine_that_cannot_be_asked_is_told(opened, error):
    def refuse(*_values):
        raise error

    remote, told = opened(refuse)
    await remote.check()
    said, fields = told.get_nowait()
    assert (said, fields["link"], fields["kind"]) == ("ended", 5, "died")
