"""The gateway: sessions that outlive their websocket, and faults for tests."""

from __future__ import annotations

import asyncio
import json
import secrets
import zlib
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final

from aiohttp import WSMsgType, web

from bot.sandbox import dispatch
from bot.sandbox.errors import Json
from bot.sandbox.events import Event, StateChanged
from bot.sandbox.faults import cut
from bot.sandbox.model import Interaction
from bot.sandbox.payloads import member_json
from bot.sandbox.world import World

HEARTBEAT_MS: Final = 41250
ACK_S: Final = 0.05
"""How long a heartbeat's answer takes, about as from Discord.

discord.py notes in another thread, after the sending, when it has sent a heartbeat. An answer that
comes sooner measures the time since the heartbeat before: 41 s, of which it warns ("Can't keep
up"), and which `latency` then says.
"""
PRIVILEGED: Final = 1 << 1 | 1 << 8 | 1 << 15
_RESUMABLE: Final = (1000, 1001, 4000, 4001, 4002, 4003, 4005, 4008)


class Op(IntEnum):
    """The gateway's opcodes."""

    DISPATCH = 0
    HEARTBEAT = 1
    IDENTIFY = 2
    RESUME = 6
    RECONNECT = 7
    MEMBERS = 8
    INVALID = 9
    HELLO = 10
    ACK = 11


class Connection:
    """One websocket: frames are queued and written in order by one task."""

    def __init__(self, request: web.Request, socket: web.WebSocketResponse) -> None:
        self.request = request
        self.silent = False
        self.close_code: int | None = None
        self._socket = socket
        self._frames: asyncio.Queue[str | int] = asyncio.Queue()
        compressed = request.query.get("compress") == "zlib-stream"
        self._deflate = zlib.compressobj() if compressed else None

    def send(
        self, op: int, data: Any = None, name: str | None = None, seq: int | None = None
    ) -> None:
        """Queue one frame; dropped while the connection is told to be silent."""
        if not self.silent:
            self._frames.put_nowait(json.dumps({"op": op, "d": data, "s": seq, "t": name}))

    def garble(self) -> None:
        """Queue a frame that is no JSON."""
        self._frames.put_nowait("{")

    def close(self, code: int) -> None:
        """Close with `code` once all frames before are written."""
        self.close_code = code
        self._frames.put_nowait(code)

    async def write(self) -> None:
        """Write queued frames until the websocket ends."""
        with suppress(ConnectionError):
            while True:
                frame = await self._frames.get()
                if isinstance(frame, int):
                    await self._socket.close(code=frame)
                    return
                if self._deflate is None:
                    await self._socket.send_str(frame)
                else:
                    data = self._deflate.compress(frame.encode())
                    await self._socket.send_bytes(data + self._deflate.flush(zlib.Z_SYNC_FLUSH))


@dataclass(slots=True, eq=False)
class Session:
    """A bot's session; it can be resumed after its connection was lost."""

    id: str
    intents: int
    shard: tuple[int, int]
    connection: Connection | None
    altered: dict[str, Json]
    seq: int = 0
    history: deque[tuple[int, str, Json]] = field(
        default_factory=lambda: deque[tuple[int, str, Json]](maxlen=1000)
    )

    def dispatch(self, name: str, data: Json) -> None:
        """Send an event, or keep it for a resume."""
        data = data | self.altered.get(name, {})
        self.seq += 1
        self.history.append((self.seq, name, data))
        if self.connection is not None:
            self.connection.send(Op.DISPATCH, data, name, self.seq)


class Gateway:
    """All sessions. The plain methods are faults that a test or a demo may cause."""

    def __init__(self, world: World, url: str, token: str) -> None:
        self._world = world
        self._url = url
        self._token = token
        self._sessions: dict[str, Session] = {}
        self._connections: set[Connection] = set()
        self.identifies = 0
        self.resumes = 0
        self.refuse_resume = False
        self.altered: dict[str, Json] = {}
        """Fields by an event's name that every such event has in place of its own."""
        world.events.listen(self._on_event)

    @property
    def connected(self) -> bool:
        """Whether a bot is logged in now."""
        return any(session.connection is not None for session in self._sessions.values())

    def close(self, code: int = 4000) -> None:
        """Close every connection with `code`."""
        for connection in self._connections:
            connection.close(code)

    def drop(self) -> None:
        """Cut every connection without a closing handshake."""
        for connection in self._connections:
            cut(connection.request)

    def silence(self) -> None:
        """Send nothing more on the present connections, not even heartbeat answers."""
        for connection in self._connections:
            connection.silent = True

    def reconnect(self) -> None:
        """Ask every connection to reconnect (op 7)."""
        for connection in self._connections:
            connection.send(Op.RECONNECT)

    def invalidate(self, *, resumable: bool = False) -> None:
        """Declare every session invalid (op 9)."""
        if not resumable:
            self._sessions.clear()
        for connection in self._connections:
            connection.send(Op.INVALID, resumable)

    def send(self, name: str, data: Json) -> None:
        """Send an event as it is, whatever is in it."""
        for session in self._sessions.values():
            session.dispatch(name, data)

    def garble(self) -> None:
        """Send a frame that is no JSON on every connection."""
        for connection in self._connections:
            connection.garble()

    def replay(self, interaction: Interaction) -> None:
        """Send the event of `interaction` once more."""
        for session in self._sessions.values():
            for name, data in dispatch.created(self._world, interaction):
                session.dispatch(name, data)

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        """Serve one websocket."""
        socket = web.WebSocketResponse(max_msg_size=1 << 16)
        await socket.prepare(request)
        connection = Connection(request, socket)
        self._connections.add(connection)
        writer = asyncio.create_task(connection.write())
        connection.send(Op.HELLO, {"heartbeat_interval": HEARTBEAT_MS, "_trace": []})
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT and not connection.silent:
                    self._receive(connection, json.loads(message.data))
        finally:
            writer.cancel()
            self._connections.discard(connection)
            # A session ends for good by 1000 or 1001 of the client, or by our saying so.
            closed = connection.close_code
            ours = closed is not None and closed not in _RESUMABLE
            theirs = closed is None and socket.close_code in (1000, 1001)
            self._detach(connection, ended=ours or theirs)
        return socket

    def _receive(self, connection: Connection, frame: Json) -> None:
        data: Any = frame.get("d")
        match frame.get("op"):
            case Op.HEARTBEAT:
                asyncio.get_running_loop().call_later(ACK_S, connection.send, Op.ACK)
            case Op.IDENTIFY:
                self._identify(connection, data)
            case Op.RESUME:
                self._resume(connection, data)
            case Op.MEMBERS:
                self._members(connection, data)
            case _:
                pass

    def _identify(self, connection: Connection, data: Json) -> None:
        self.identifies += 1
        if data.get("token") != self._token:
            connection.close(4004)
            return
        intents = int(data["intents"])
        if intents & PRIVILEGED & ~self._world.privileged_intents:
            connection.close(4014)
            return
        first, count = data.get("shard") or (0, 1)
        session = Session(secrets.token_hex(16), intents, (first, count), connection, self.altered)
        self._sessions[session.id] = session
        ready = dispatch.ready(self._world, session.id, self._url)
        session.dispatch("READY", ready | ({"shard": data["shard"]} if "shard" in data else {}))
        for guild in dispatch.bot_guilds(self._world):
            if not (dispatch.for_shard(guild.id, session.shard) and intents & dispatch.GUILDS):
                continue
            session.dispatch("GUILD_CREATE", dispatch.guild_create(self._world))
        self._announce()

    def _resume(self, connection: Connection, data: Json) -> None:
        self.resumes += 1
        session = self._sessions.get(str(data.get("session_id")))
        seen = int(data.get("seq") or 0)
        known = session is not None and data.get("token") == self._token and seen <= session.seq
        if session is None or not known or self.refuse_resume:
            self.refuse_resume = False
            connection.send(Op.INVALID, data=False)
            return
        session.connection = connection
        for seq, name, body in session.history:
            if seq > seen:
                connection.send(Op.DISPATCH, body, name, seq)
        session.dispatch("RESUMED", {})
        self._announce()

    def _members(self, connection: Connection, data: Json) -> None:
        guild = self._world.guild
        wanted: Any = data.get("user_ids")
        keys = {str(wanted)} if isinstance(wanted, str) else set(map(str, wanted or []))
        start = str(data.get("query") or "")
        found = [
            member_json(member)
            for member in guild.members.values()
            if (str(member.user.id) in keys if wanted else member.user.name.startswith(start))
        ]
        body: Json = {"guild_id": str(guild.id), "members": found, "chunk_index": 0}
        body |= {"chunk_count": 1, "not_found": []}
        if nonce := data.get("nonce"):
            body["nonce"] = nonce
        for session in self._sessions.values():
            if session.connection is connection:
                session.dispatch("GUILD_MEMBERS_CHUNK", body)

    def _detach(self, connection: Connection, *, ended: bool) -> None:
        for session in list(self._sessions.values()):
            if session.connection is connection:
                session.connection = None
                if ended:
                    del self._sessions[session.id]
        self._announce()

    def _announce(self) -> None:
        if self._world.bot_online != self.connected:
            self._world.bot_online = self.connected
            self._world.events.emit(StateChanged())

    def _on_event(self, event: Event) -> None:
        for session in list(self._sessions.values()):
            for name, data in dispatch.frames(self._world, event, session.intents, session.shard):
                session.dispatch(name, data)
