"""The context of the endpoints: what they work with, and who is calling."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Final, TypeVar, cast

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer

from bot.archive.gallery import Gallery
from bot.catalogue.loras import LoraCache
from bot.catalogue.models import ModelSpec
from bot.catalogue.offered import named
from bot.config.api_keys import Caller, Keys
from bot.domain.job import DeliveryState, Job
from bot.fleet.fleet import Fleet
from bot.http.errors import NO_SUCH_MODEL, Problem
from bot.http.following import JobFollower
from bot.http.metrics import Metrics
from bot.http.retries import Retries
from bot.http.uploads import UPLOADS_AT_ONCE
from bot.jobs.queue import JobQueue
from bot.machine.precedence import Precedence
from storage import deliveries, jobs
from storage.database import Database, Transaction

T = TypeVar("T")

_LONGEST_NAME: Final = 100


@dataclass(frozen=True, slots=True)
class Health:
    """What the rest of the process says of itself."""

    online: Callable[[], bool]
    """Whether the bot is connected to Discord."""
    latency_s: Callable[[], float]
    """Seconds of a heartbeat on the gateway; not finite where there is none."""


@dataclass(frozen=True, slots=True)
class ApiContext:
    """The parts of the bot that the endpoints use."""

    keys: Keys
    models: Sequence[ModelSpec]
    """Those that may be asked for; the first is drawn with where none is."""
    database: Database
    queue: JobQueue
    fleet: Fleet
    gallery: Gallery
    loras: Mapping[str, LoraCache]
    """What each model can have, by the model's name."""
    health: Health
    followers: JobFollower
    metrics: Metrics
    first: Precedence
    """What people in Discord wait for, to which requests give way."""
    wait_s: float
    """How long a request waits for its picture."""
    suffix: bool = False
    """Whether the model's recommended words are added to prompts."""
    public_url: str | None = None
    """The address from outside, without a slash at its end, where it is set."""
    origins: Collection[str] = ()
    """Origins whose pages may use the API."""
    uploads: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(UPLOADS_AT_ONCE))
    """Held while a form is read and its picture kept."""

    reading: asyncio.Lock = field(default_factory=asyncio.Lock)
    lines: dict[int, asyncio.Lock] = field(default_factory=dict[int, asyncio.Lock])
    """By user id: held by the first of a key's requests that wait until it may have more jobs."""
    retries: Retries = field(default_factory=Retries)

    @property
    def default(self) -> ModelSpec:
        """The model that draws where a request names none."""
        return self.models[0]

    def offered(self, name: str | None) -> ModelSpec:
        """Return the model of a full or short name, the default for None; raise `Problem`."""
        found = self.default if name is None else named(self.models, name)
        if found is None:
            there = ", ".join(spec.name for spec in self.models)
            raise Problem(
                422,
                f"There is no model {str(name)[:_LONGEST_NAME]!r}; there are: {there}.",
                param="model",
                code=NO_SUCH_MODEL,
            )
        return found

    def address(self, path: str) -> str:
        """Return the address of a path of the API: the path alone where no other is known."""
        return f"{self.public_url or ''}{path}"

    async def read(self, fn: Callable[[Transaction], Awaitable[T]]) -> T:
        """Read from the database, one request of the API at a time.

        It has two connections for reading: however many programs ask, one of them is left for
        Discord, whose users wait for their acknowledgement.
        """
        async with self.reading:
            return await self.database.read(fn)

    async def job(self, job_id: str) -> Job | None:
        """Return a job, or None if there is none."""
        return await self.read(partial(jobs.find, job_id=job_id))

    async def own_job(self, caller: Caller, job_id: str) -> Job:
        """Return a job of this very key; raise `Problem` where there is none, or another's."""
        job = await self.job(job_id)
        if job is None or job.user_id != caller.user_id:
            raise Problem(404, "There is no such job.")
        return job

    async def fetched(self, job: Job) -> None:
        """Note that an ended job's answer was fetched, which is how it is delivered."""
        found = await self.read(partial(deliveries.get, job_id=job.id))
        if found and found.state is not DeliveryState.DELIVERED:
            await self.database.write(partial(deliveries.taken, job_id=job.id, now=time.time()))


# Neither waits for anything: FastAPI gives a plain function a thread, which costs milliseconds.
async def context_of(request: Request) -> ApiContext:
    """Return the context of the application."""
    return cast("ApiContext", request.app.state.context)


async def caller_of(request: Request) -> Caller:
    """Return who calls; the guard has put it there."""
    state = cast("dict[str, Any]", request.scope["state"])
    return cast("Caller", state["caller"])


TheContext = Annotated[ApiContext, Depends(context_of)]
TheCaller = Annotated[Caller, Depends(caller_of)]
# For the OpenAPI page alone: the guard has checked the key by then.
BEARER: Final = Security(HTTPBearer(auto_error=False, description="A key of API_KEYS."))
