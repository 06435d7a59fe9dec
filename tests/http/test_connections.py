"""Connections that keep the server waiting, and more of them than it keeps."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
import sys
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
import pytest

from bot.http import guard, server
from bot.http.connections import HttpConnection, TimeLimits
from bot.machine import acceptor
from bot.machine.acceptor import Acceptor, Serving
from bot.sandbox import uploads, visitors
from bot.sandbox.server import Sandbox
from tests.engines import Script, ScriptedEngine
from tests.http.kit import ALICE, GENERATE, TWO_KEYS, opened, raw_post
from tests.wire.kit import soon

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
DESCRIPTION = HEALTH.replace(b"healthz", b"openapi.json")
LONG = 600.0
AGAIN = b"<the answer>"


@asynccontextmanager
async def limited(
    monkeypatch, sandbox, data, *, engine=None, most=server.MOST_CONNECTIONS, **limits
):
    """Open the API with other limits; those that are not named are never reached."""
    names = ("idle_s", "head_s", "body_s", "send_s")
    chosen = TimeLimits(**(dict.fromkeys(names, LONG) | limits))
    door = server.HttpDoor
    make = lambda context, listener: door(context, listener, most=most, limits=chosen)  # noqa: E731
    monkeypatch.setattr(server, "HttpDoor", make)
    async with opened(sandbox, data, TWO_KEYS, engine) as api:
        yield api


async def said(reader: asyncio.StreamReader) -> bytes:
    """Return what still comes until the server closes the connection."""
    try:
        async with asyncio.timeout(30):
            return await reader.read()
    except ConnectionResetError:
        return b""


POST = b"POST " + GENERATE.encode() + b" HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n"
KEEPING = [
    ("idle_s", b"", b""),
    ("head_s", b"GET /healthz HTTP/1.1\r\nHost: ", b""),
    ("idle_s", HEALTH, b"200"),  # kept open, and not used again
    ("head_s", HEALTH + AGAIN + b"GET /hea", b"200"),  # begun anew, and not ended
    ("body_s", POST + b"Content-Type: application/json\r\nAuthorization: Bearer "
     + ALICE.encode() + b"\r\n\r\n{", b"408"),
    ("idle_s", POST + b"\r\n", b"401"),  # refused, and its body never comes
]  # fmt: skip


async def test_a_connection_that_keeps_the_server_waiting_is_closed(sandbox, tmp_path, monkeypatch):
    async with limited(monkeypatch, sandbox, tmp_path, body_s=0.05) as api:
        waiting = api.stage.app.door._waiting
        patient = waiting.limits
        for limit, sent, status in KEEPING:
            # No other limit can be what ends it.
            waiting.limits = replace(patient, **{limit: 0.5 if limit == "idle_s" else 0.05})
            reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
            first, _, second = sent.partition(AGAIN)
            writer.write(first)
            answer = await reader.readuntil(b'"}') if second else b""
            writer.write(second)
            answer += await said(reader)
            assert answer.split(b" ")[1:2] == ([status] if status else []), (sent, answer)
            writer.close()


async def test_a_body_that_comes_slowly_is_waited_for(sandbox, tmp_path, monkeypatch):
    monkeypatch.setattr(guard, "BODY_RATE", 1)
    async with limited(monkeypatch, sandbox, tmp_path, body_s=0.1) as api:
        whole = raw_post(api, f"{GENERATE}?async=true", {"prompt": "a house"}).replace(
            b"\r\n\r\n", b"\r\nAuthorization: Bearer " + ALICE.encode() + b"\r\n\r\n"
        )
        begun = await asyncio.open_connection("127.0.0.1", api.port)
        begun[1].write(whole[:-5])
        without = await asyncio.open_connection("127.0.0.1", api.port)
        without[1].write(whole.partition(b"{")[0])
        assert b"408" in await soon(without[0].readuntil(b"\r\n"))  # So much for the first 0.1 s.
        begun[1].write(whole[-5:])
        assert b"202" in await soon(begun[0].readuntil(b"\r\n"))
        for _, writer in (begun, without):
            writer.close()


async def test_bytes_now_and_then_do_not_keep_a_connection(sandbox, tmp_path, monkeypatch):
    fed = 0
    receive = HttpConnection.data_received

    def count(self, data):
        nonlocal fed
        fed += 1
        receive(self, data)

    monkeypatch.setattr(HttpConnection, "data_received", count)
    async with limited(monkeypatch, sandbox, tmp_path, head_s=1.0) as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(b"GET /healthz HTTP/1.1\r\nX-Much: ")
        closed = asyncio.ensure_future(said(reader))
        while not closed.done():
            writer.write(b"a")
            await asyncio.wait({closed}, timeout=0.005)
        assert await closed == b""
        assert fed > 2
        writer.close()


async def test_an_answer_that_nobody_reads_is_given_up(sandbox, tmp_path, monkeypatch):
    async with limited(monkeypatch, sandbox, tmp_path, send_s=0.1) as api:
        lost = asyncio.Event()
        gone = HttpConnection.connection_lost

        def note(self, exc):
            gone(self, exc)
            lost.set()

        monkeypatch.setattr(HttpConnection, "connection_lost", note)
        with socket.create_connection(("127.0.0.1", api.port)) as client:
            client.setblocking(False)
            loop = asyncio.get_running_loop()

            async def ask_on() -> None:
                while True:
                    await loop.sock_sendall(client, DESCRIPTION * 20)

            asking = asyncio.ensure_future(ask_on())
            await soon(lost.wait())
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        async with api.client() as other:
            assert (await other.get("/healthz")).status_code == 200


async def test_silent_connections_make_room_and_working_ones_do_not(
    sandbox, tmp_path, monkeypatch, caplog
):
    async with limited(monkeypatch, sandbox, tmp_path, most=4) as api:
        job = await api.stage.imagine("bob", "a house")
        await api.stage.outcome(job)
        silent = [await asyncio.open_connection("127.0.0.1", api.port) for _ in range(20)]
        ends = [asyncio.ensure_future(said(reader)) for reader, _ in silent]
        await soon(asyncio.wait(ends[:16]))
        assert sum(end.done() for end in ends) == 16  # the oldest
        async with api.client(ALICE) as client:
            assert (await client.get("/v1/models")).status_code == 200
        for _, writer in silent:
            writer.close()
        await asyncio.wait(ends)
    lines = [r for r in caplog.records if "is full with" in r.getMessage()]
    assert [r.levelno for r in lines] == [logging.WARNING]


async def test_a_request_too_many_is_told_so(sandbox, tmp_path, monkeypatch):
    engine = ScriptedEngine(Script(hold_at=1))
    async with (
        limited(monkeypatch, sandbox, tmp_path, engine=engine, most=2) as api,
        api.client(ALICE) as client,
    ):
        job = (await client.post(f"{GENERATE}?async=true", json={"prompt": "a house"})).json()
        events = job["events_url"]
        async with client.stream("GET", events), client.stream("GET", events):
            async with api.client(ALICE) as late:
                refused = await late.get("/healthz")
            assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
            assert "Too many connections" in refused.json()["detail"]
        engine.release.set()


@pytest.mark.skipif(sys.platform != "linux", reason="Linux gives the lowest file number")
async def test_the_last_open_files_are_not_for_connections(sandbox, tmp_path, monkeypatch):
    with socket.socket() as probe:
        used = probe.fileno()
    monkeypatch.setattr(acceptor, "files_for_connections", lambda: used + 30)
    async with limited(monkeypatch, sandbox, tmp_path) as api:
        silent = [await asyncio.open_connection("127.0.0.1", api.port) for _ in range(60)]
        ends = [asyncio.ensure_future(said(reader)) for reader, _ in silent]
        first, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        assert {end.result() for end in first} == {b""}
        for _, writer in silent:
            writer.close()
        await asyncio.wait(ends)


def test_a_quarter_of_the_open_files_is_left_to_the_rest(monkeypatch):
    for soft, highest in ((1024, 768), (resource.RLIM_INFINITY, sys.maxsize)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, soft=soft: (soft, soft))
        assert acceptor.files_for_connections() == highest


async def test_a_machine_that_refuses_to_accept_is_asked_again(caplog, monkeypatch):
    monkeypatch.setattr(acceptor, "_PAUSE_S", 0.01)
    loop = asyncio.get_running_loop()
    accept, refusals = loop.sock_accept, iter([OSError(24, "Too many open files")] * 5)

    async def accepting(listener):
        for error in refusals:
            raise error
        return await accept(listener)

    monkeypatch.setattr(loop, "sock_accept", accepting)
    async with Sandbox() as sandbox, httpx.AsyncClient(base_url=sandbox.url) as client:
        assert (await client.get("/")).status_code == 200
    lines = [r.getMessage() for r in caplog.records if "cannot accept" in r.getMessage()]
    assert lines == ["the sandbox cannot accept connections: Too many open files"]


TWO_LENGTHS = b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
NO_SUCH_PAGE = b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
JUNK = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + TWO_LENGTHS


@pytest.mark.parametrize("sent", [b"", NO_SUCH_PAGE, b"GET / HTTP/1.1\r\nHost: 127.", JUNK])
async def test_the_sandbox_bounds_its_connections_too(monkeypatch, caplog, sent):
    monkeypatch.setattr(visitors, "IDLE_S", 0.1)
    async with Sandbox(most=4) as sandbox:
        port = int(sandbox.url.rpartition(":")[2])
        busy = await asyncio.open_connection("127.0.0.1", port)
        busy[1].write(b"POST /api/v10/x HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\n")
        others = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
        for _, writer in others:
            writer.write(sent)
        async with httpx.AsyncClient(base_url=sandbox.url) as client:
            assert (await client.get("/")).status_code == 200
        for reader, writer in others:
            await said(reader)
            writer.close()
        # What is being asked was closed neither for its age nor to make room.
        busy[1].write(b"{}")
        assert (await busy[0].readline()).startswith(b"HTTP/1.1 401 ")
        busy[1].close()
    assert [r for r in caplog.records if "is full with" in r.getMessage()] or sent == JUNK
    assert "Traceback" not in caplog.text


@pytest.mark.slow
async def test_a_body_that_never_reaches_the_sandbox_is_given_up(monkeypatch):
    monkeypatch.setattr(uploads, "BODY_S", 0.05)
    async with Sandbox() as sandbox:
        for path in ("/api/v10/x", f"/user/{sandbox.world.user('bob').id}/modals/1"):
            host = sandbox.url.rpartition("/")[2]
            reader, writer = await asyncio.open_connection(*host.split(":"))
            head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 9\r\n\r\n"
            writer.write(head.encode() + b"{")
            assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
            writer.close()


class Talker(asyncio.Protocol):
    """Sends more than anyone reads at once."""

    SIZE = 16 * 1024 * 1024

    def __init__(self, made: asyncio.Future[asyncio.Transport]) -> None:
        self._made = made

    def connection_made(self, transport):
        transport.write(bytes(self.SIZE))
        self._made.set_result(transport)


@pytest.mark.skipif(not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="not on this system")
async def test_what_a_client_has_not_read_is_seen_to_be_unread():
    """The limit on answers that nobody reads would else cut off a client that reads slowly."""
    loop = asyncio.get_running_loop()
    made: asyncio.Future[asyncio.Transport] = loop.create_future()
    listener = socket.create_server(("127.0.0.1", 0))
    gate = Acceptor("a test", listener, 1)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        client.setblocking(False)
        accepting = gate.start(Serving(lambda: Talker(made), lambda: 0, lambda: False, b""))
        await loop.sock_connect(client, listener.getsockname())
        transport = await soon(made)
        read = 0
        while read < Talker.SIZE // 2:
            read += len(await soon(loop.sock_recv(client, 16 * 1024)))
        held = Talker.SIZE - read - transport.get_write_buffer_size()
        transport.abort()
    gate.close()
    await asyncio.wait({accepting})
    assert held < 1024 * 1024


async def test_a_closed_acceptor_leaves_the_next_socket_alone():
    """The system gives that the listener's number, and the loop may still watch this."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        gate = Acceptor("a test", socket.create_server(("127.0.0.1", 0)), 1)
        accepting = gate.start(Serving(asyncio.Protocol, lambda: 0, lambda: False, b""))
        await asyncio.sleep(0)  # It accepts.
        gate.close()
        with socket.create_connection(elsewhere.getsockname()) as client:
            arrived = asyncio.Event()
            loop.add_reader(client, arrived.set)
            await asyncio.wait({accepting})
            peer, _ = elsewhere.accept()
            with peer:
                peer.send(b"hello")
                await soon(arrived.wait())
            loop.remove_reader(client)


NO_REQUESTS = [
    (HEALTH.replace(b"\r\n\r\n", b"\r\n") + TWO_LENGTHS, b"not both"),
    (b"GET / HTTP/1.1\r\nHost: a\r\n folded: line\r\nBad Name: 1\r\n\r\n", b"no valid HTTP"),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"no valid HTTP"),  # TLS
]


async def test_what_is_no_request_is_a_sentence_and_the_end(sandbox, tmp_path, caplog):
    async with opened(sandbox, tmp_path, TWO_KEYS) as api:
        for request, words in NO_REQUESTS:
            reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
            writer.write(request * 2)
            answer = await said(reader)
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert answer.count(b"HTTP/1.1") == 1
            assert words in answer
            writer.close()
    assert not [r for r in caplog.records if r.name.startswith("uvicorn")]


async def test_answers_do_not_wait_for_acknowledgements(sandbox, tmp_path, monkeypatch):
    made: list[int] = []
    begin = HttpConnection.connection_made

    def note(self, transport):
        wire = transport.get_extra_info("socket")
        made.append(wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        begin(self, transport)

    monkeypatch.setattr(HttpConnection, "connection_made", note)
    async with opened(sandbox, tmp_path) as api, api.client() as client:
        await client.get("/healthz")
    assert made == [1]
