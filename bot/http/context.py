"""The context of the endpoints: what they work with, and who is calling."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Final, cast

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer

from bot.archive.gallery import Gallery
from bot.catalogue.loras import LoraCache
from bot.catalogue.models import ModelSpec
from bot.config.api_keys import Caller, Keys
from bot.domain.job import DeliveryState, Job
from bot.fleet.fleet import Fleet
from bot.http.errors import Problem
from bot.http.following import JobFollower
from bot.http.metrics import Metrics
from bot.http.uploads import UPLOADS_AT_ONCE
from bot.jobs.queue import JobQueue
from storage import deliveries
from storage.database import Database


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
    model: ModelSpec
    database: Database
    queue: JobQueue
    fleet: Fleet
    gallery: Gallery
    loras: LoraCache
    health: Health
    followers: JobFollower
    metrics: Metrics
    wait_s: float
    """How long a request waits for its picture."""
    models: Sequence[ModelSpec] = ()
    """Those that may be asked for."""
    suffix: bool = False
    """Whether the model's recommended words are added to prompts."""
    public_url: str | None = None
    """The address from outside, without a slash at its end, where it is set."""
    origins: Collection[str] = ()
    """Origins whose pages may use the API."""
    uploads: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(UPLOADS_AT_ONCE))
    """Held while a form is read and its picture kept."""

    def address(self, path: str) -> str:
        """Return the address of a path of the API: the path alone where no other is known."""
        return f"{self.public_url or ''}{path}"

    async def own_job(self, caller: Caller, job_id: str) -> Job:
        """Return a job of this very key; raise `Problem` where there is none, or another's."""
        job = await self.queue.job(job_id)
        if job is None or job.user_id != caller.user_id:
            raise Problem(404, "There is no such job.")
        return job

    async def fetched(self, job: Job) -> None:
        """Note that an ended job's answer was fetched, which is how it is delivered."""
        found = await self.database.read(partial(deliveries.get, job_id=job.id))
        if found and found.state is not DeliveryState.DELIVERED:
            await self.database.write(partial(deliveries.taken, job_id=job.id, now=time.time()))


def context_of(request: Request) -> ApiContext:
    """Return the context of the application."""
    return cast("ApiContext", request.app.state.context)


def caller_of(request: Request) -> Caller:
    """Return who calls; the guard has put it there."""
    state = cast("dict[str, Any]", request.scope["state"])
    return cast("Caller", state["caller"])


TheContext = Annotated[ApiContext, Depends(context_of)]
TheCaller = Annotated[Caller, Depends(caller_of)]
# For the OpenAPI page alone: the guard has checked the key by then.
BEARER: Final = Security(HTTPBearer(auto_error=False, description="A key of API_KEYS."))
