"""The sandbox's server: REST, gateway, files, the users' side and the page on one port."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

import aiohttp
from aiohttp import web

from bot.machine.acceptor import Acceptor
from bot.sandbox.cdn import serve_file
from bot.sandbox.clock import Clock
from bot.sandbox.exchanges import Exchange
from bot.sandbox.faults import Faults
from bot.sandbox.gate import API, api_gate, guard
from bot.sandbox.gateway import Gateway
from bot.sandbox.people import Person
from bot.sandbox.rest import Rest
from bot.sandbox.rest_messages import MessageRest
from bot.sandbox.user_api import UserApi
from bot.sandbox.visitors import MOST, Visitors
from bot.sandbox.world import World

HOST: Final = "127.0.0.1"
TOKEN: Final = "sandbox-token"  # noqa: S105 - it opens nothing but this sandbox
PAGE: Final = Path(__file__).parent / "page"
REMEMBERED: Final = 20_000
UPLOAD_LIMIT: Final = 128 * 1024 * 1024

T = TypeVar("T")


class Sandbox:
    """A Discord of its own on 127.0.0.1, for as long as the `async with` lasts.

    `port` 0 takes a free one, `most` bounds the connections. `listen` is for a container, whose own
    loopback nobody outside reaches; the page's address and the hosts that are answered stay.
    `clock` can be moved forward by tests, `world` holds the state, `faults` and `gateway` cause
    trouble, `exchanges` records what the bot asked over REST.
    """

    token: Final = TOKEN

    def __init__(
        self, port: int = 0, *, clock: Clock | None = None, most: int = MOST, listen: str = HOST
    ) -> None:
        self._port = port
        self._listen = listen
        self._most = most
        self.clock = clock or Clock()
        self.world = World(self.clock)
        self.faults = Faults()
        self.exchanges: deque[Exchange] = deque(maxlen=REMEMBERED)
        self._users = UserApi(self.world)
        self._gateway: Gateway | None = None
        self._runner: web.AppRunner | None = None
        self._acceptor: Acceptor | None = None

    async def __aenter__(self) -> Self:
        listener = socket.create_server((self._listen, self._port))
        self._port = listener.getsockname()[1]
        self.world.base_url = self.url
        self._gateway = Gateway(self.world, self.gateway_url, self.token)
        visitors = Visitors()
        gate = api_gate(self.token, self.faults, self._record, self.clock.now)
        app = web.Application(
            middlewares=[visitors.middleware, guard, gate], client_max_size=UPLOAD_LIMIT
        )
        Rest(self.world, self.gateway_url).add_to(app)
        MessageRest(self.world).add_to(app)
        self._users.add_to(app)
        app.router.add_route("*", f"{API}/{{tail:.*}}", _no_such_route)
        app.router.add_get("/gateway", self._gateway.handle)
        files = "/attachments/{channel_id}/{file_id}/{filename}"
        app.router.add_get(files, serve_file(self.world))
        app.router.add_get("/", _index)
        app.router.add_static("/page", PAGE)
        app.on_response_prepare.append(_harden)
        self._runner = web.AppRunner(app, shutdown_timeout=1, **visitors.options())
        await self._runner.setup()
        assert self._runner.server is not None
        self._acceptor = Acceptor("the sandbox", listener, self._most)
        self._acceptor.start(visitors.serving(self._runner.server))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.faults.clear()
        self.clock.close()
        self.gateway.close(1001)
        await self._users.close()
        if self._acceptor is not None:
            self._acceptor.close()
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://{HOST}:{self._port}"

    @property
    def api_url(self) -> str:
        """The base of the REST API."""
        return f"{self.url}{API}"

    @property
    def gateway_url(self) -> str:
        """The address of the gateway."""
        return f"ws://{HOST}:{self._port}/gateway"

    @property
    def gateway(self) -> Gateway:
        """The gateway with its faults; there is none before the sandbox runs."""
        if self._gateway is None:
            raise RuntimeError("the sandbox does not run")
        return self._gateway

    def user(self, name: str) -> Person:
        """Return the hands and eyes of a user: alice, bob, chen or mallory."""
        return Person(self.world, self.world.user(name))

    async def wait(
        self,
        condition: Callable[[], T],
        timeout: float = 10,  # noqa: ASYNC109
    ) -> T:
        """Return the first truthy value of `condition`, looked at after each change.

        Raises TimeoutError after `timeout` seconds.
        """
        return await self.world.events.wait(condition, timeout)

    async def ready(self, timeout: float = 10) -> None:  # noqa: ASYNC109
        """Wait until a bot is logged in at the gateway."""
        await self.wait(lambda: self.gateway.connected, timeout)

    async def attachment_bytes(self, url: str) -> bytes:
        """Download a file as a user's client would."""
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            response.raise_for_status()
            return await response.read()

    def _record(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)
        self.world.events.wake()


async def _no_such_route(_: web.Request) -> web.Response:
    raise web.HTTPNotFound


async def _harden(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Content-Security-Policy", "frame-ancestors 'none'")
    response.headers.setdefault("Cache-Control", "no-cache")


async def _index(_: web.Request) -> web.FileResponse:
    return web.FileResponse(PAGE / "index.html")
