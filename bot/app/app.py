"""The composition: settings -> database -> engine -> queue -> client, and the way back."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import discord

from bot.app.engines import Planned, cluster_engines, local_engines
from bot.app.limits import limits_of
from bot.app.opening import log_opening
from bot.archive.audit import AuditLog
from bot.archive.backups import BackupSchedule
from bot.archive.gallery import Gallery
from bot.archive.privacy import Privacy
from bot.archive.reports import Reports
from bot.archive.statistics import Statistics
from bot.catalogue.loras import LoraCache
from bot.client.accept import Intake
from bot.client.attachments import Fetcher
from bot.client.bot import ImageBot
from bot.client.fetch_slots import FetchSlots
from bot.client.gateway import stay_connected
from bot.client.login import discord_proxy, log_in, require_token
from bot.client.services import Services
from bot.config.loras import lora_folder
from bot.config.settings import Settings
from bot.delivery.acknowledgements import Acknowledgements
from bot.delivery.alt_texts import AltTexts
from bot.delivery.breaker import CircuitBreaker
from bot.delivery.card_maker import CardMaker
from bot.delivery.courier import Courier
from bot.delivery.ladder import Ladder
from bot.delivery.notice import Notices
from bot.delivery.progress import ProgressEditor
from bot.delivery.removal import Removals
from bot.delivery.visibility import Visibility
from bot.engine.cluster.membership import RayMembership
from bot.engine.protocol import Engine
from bot.errors import DatabaseError, StartupError
from bot.fleet.fleet import Fleet
from bot.imagecheck.process import ImageCheckProcess, require_package
from bot.jobs.blocking import Blocks
from bot.jobs.clock_watch import ClockWatch
from bot.jobs.pause import RESTARTED
from bot.jobs.queue import JobQueue
from bot.logs.file import FILE_NAME
from bot.regions.process import RegionFinder
from bot.rules.preferences import Preferences
from bot.rules.verdicts import ImageCheck
from storage.database import Database
from storage.images import ImageStore
from storage.private_files import kept_places, make_private

if TYPE_CHECKING:
    from bot.http.server import HttpDoor

log = logging.getLogger(__name__)


# What waits for pictures over HTTP is answered at once then; this is for what hangs.
_DOOR_LIMIT_S: Final = 3.0
# A request that is refused is answered within a moment, a thousand of them within this.
_ANSWERS_LIMIT_S: Final = 2.0


def build_check(settings: Settings) -> ImageCheck | None:
    """Return the image check of the settings, not started; raise `StartupError` without it."""
    if not settings.image_check:
        return None
    require_package()
    confined = settings.engine_confinement != "off"
    return ImageCheckProcess(
        settings.image_check_threshold,
        confined_to=settings.images_dir.absolute() if confined else None,
    )


class App:
    """The running bot. Build it, `run` it, `stop` it."""

    def __init__(
        self,
        settings: Settings,
        *,
        engines: Sequence[Engine] | None = None,
        check: ImageCheck | None = None,
        guild_ready_timeout: float = 2.0,
    ) -> None:
        self.settings = settings
        self._engines = engines
        self.check = check
        self.breaker = CircuitBreaker()
        self.client = ImageBot(
            self.breaker, guild_ready_timeout=guild_ready_timeout, proxy=discord_proxy(settings)
        )
        self.door: HttpDoor | None = None
        """The HTTP API, where API_KEYS turns it on."""
        self.ready = asyncio.Event()
        self.stopping = asyncio.Event()

    def stop(self) -> None:
        """Ask for a clean end; `run` returns soon after."""
        self.stopping.set()

    async def run(self) -> None:
        """Serve until `stop` is called.

        Raises `StartupError` with one sentence when the bot cannot start, and whatever a part
        raised that ended on its own.
        """
        require_token(self.settings)
        self.check = self.check or build_check(self.settings)
        async with AsyncExitStack() as stack:
            settings = self.settings
            self._make_files_private(stack)
            database = await Database.open(settings.database_path)
            stack.push_async_callback(database.close)
            if self.check is not None:
                stack.push_async_callback(self.check.close)
            services, progress = self._compose(database)
            stack.push_async_callback(services.fleet.close)
            engines = await self._planned_engines()
            for one in engines:
                await services.fleet.add(one.name, one.engine, card=one.card)
            cluster = self._cluster(services.fleet, stack)
            self.door = self._bind_door(services, stack)
            try:
                await services.queue.start(
                    pause_waiting=RESTARTED if settings.on_restart == "paused" else None
                )
                await services.gallery.start()
                await services.loras.start()
                # The others look at the same folder: what is wrong there is said once.
                await asyncio.gather(*(one.known() for one in services.loras_by_model.values()))
            except sqlite3.Error as error:
                raise DatabaseError(f"The queue cannot be taken up again: {error}.") from error
            if services.queue.control.paused is not None:
                log.warning("the queue is paused: %s", services.queue.control.paused)
            http = self._open_door(stack)
            stack.push_async_callback(self.client.close)
            if await self._log_in():
                application = self.client.application_id
                await asyncio.to_thread(log_opening, settings, engines, application)
                await self._serve(services, progress, http, cluster)

    async def _log_in(self) -> bool:
        """Log in; return False when `stop` came first."""
        login = asyncio.create_task(log_in(self.client, self.settings))
        stopping = asyncio.create_task(self.stopping.wait())
        await asyncio.wait({login, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not login.done():
            login.cancel()
            await asyncio.wait({login})
            return False
        await login
        return True

    def _make_files_private(self, stack: AsyncExitStack) -> None:
        """Begin to take from others what earlier versions let them read; not waited for."""
        stopped = threading.Event()
        places = kept_places(self.settings.data_dir, self.settings.log_folder, FILE_NAME)

        async def mend() -> None:
            try:
                count = await asyncio.to_thread(make_private, places, stopped=stopped.is_set)
            except OSError as error:
                log.warning("other users may read the bot's files (%s)", error.strerror)
                return
            if count:
                log.info("%d files and folders are no longer open to other users", count)

        mending = asyncio.create_task(mend(), name="private files")

        async def end() -> None:
            stopped.set()
            await mending

        stack.push_async_callback(end)

    async def _planned_engines(self) -> list[Planned]:
        if self._engines is None:
            return await asyncio.to_thread(local_engines, self.settings)
        return [Planned(f"local-{n}", engine) for n, engine in enumerate(self._engines)]

    def _cluster(self, fleet: Fleet, stack: AsyncExitStack) -> RayMembership | None:
        """Return what joins the Ray cluster, if ENGINES asks for it."""
        if self.settings.engines != "ray" or self._engines is not None:
            return None
        cluster = cluster_engines(self.settings, fleet)
        # The cluster is left before the engines are closed: closing asks it, and it may not answer.
        stack.push_async_callback(cluster.close)
        return cluster

    def _compose(self, database: Database) -> tuple[Services, ProgressEditor]:
        settings = self.settings
        model = settings.model
        store = ImageStore(settings.images_dir)
        models = settings.models
        specs = {spec.name: spec for spec in models}
        queue = JobQueue(database, limits_of(settings), model=model.name, models=list(specs))
        loras = {spec.name: LoraCache(lora_folder(settings, spec)) for spec in models}
        acknowledgements = Acknowledgements()
        fetch_slots = FetchSlots()
        ladder = Ladder(self.client)
        preferences = Preferences(database)
        visibility = Visibility(self.client, preferences, self.check)
        cards = CardMaker(queue, store, visibility, ladder.file_limit, specs)
        progress = ProgressEditor(
            database, queue, ladder, acknowledgements, visibility, self.breaker
        )
        services = Services(
            settings=settings,
            model=model,
            database=database,
            queue=queue,
            gallery=Gallery(database, store, queue),
            models=models,
            loras=loras[model.name],
            loras_by_model=loras,
            preferences=preferences,
            privacy=Privacy(database, store, preferences, queue, keep_days=settings.retention_days),
            fetcher=Fetcher(settings.discord_api_url),
            fetch_slots=fetch_slots,
            regions=RegionFinder(confined=settings.engine_confinement != "off"),
            blocks=Blocks(database, queue),
            reports=Reports(database),
            cards=cards,
            courier=Courier(
                database,
                queue,
                cards,
                ladder,
                progress,
                acknowledgements,
                self.breaker,
                Notices(self.client, ladder, preferences),
                Removals(database, ladder, self.breaker),
                AltTexts(
                    *(database, queue, store, cards, ladder, models),
                    on=settings.alt_text == "written",
                ),
            ),
            intake=Intake(
                database,
                queue,
                store,
                acknowledgements,
                fetch_slots,
                visibility,
                log_prompts=settings.log_prompts,
            ),
            fleet=Fleet(
                queue,
                store,
                database,
                check=self.check,
                idle_unload_s=settings.image_idle_unload_minutes * 60 or None,
                time_factor=settings.image_time_factor,
                instruction=settings.enhance_instruction,
            ),
            audit_log=AuditLog(database),
            statistics=Statistics(database),
        )
        self.client.services = services
        return services, progress

    def _bind_door(self, services: Services, stack: AsyncExitStack) -> HttpDoor | None:
        """Take the HTTP API's port, if it is turned on; raise `StartupError` when that fails."""
        settings = self.settings
        if settings.api_keys is None:
            return None
        # FastAPI takes a third of a second to import.
        from bot.http import context, following, metrics, server  # noqa: PLC0415

        listener = server.bind(settings.http_host, settings.http_port)
        stack.callback(listener.close)
        return server.HttpDoor(
            context.ApiContext(
                keys=settings.api_keys,
                models=settings.models,
                database=services.database,
                queue=services.queue,
                fleet=services.fleet,
                gallery=services.gallery,
                loras={
                    spec.name: LoraCache(lora_folder(settings, spec)) for spec in settings.models
                }
                | {services.model.name: services.loras},
                health=context.Health(
                    online=self.client.is_ready,
                    latency_s=lambda: self.client.latency,
                ),
                followers=following.JobFollower(services.queue),
                metrics=metrics.Metrics(settings.models, settings.backups_dir),
                first=self.client.first,
                wait_s=settings.http_wait_seconds,
                suffix=settings.image_prompt_suffix,
                public_url=settings.http_public_url,
                origins=settings.http_origins,
            ),
            listener,
        )

    def _open_door(self, stack: AsyncExitStack) -> asyncio.Task[None] | None:
        """Serve the HTTP API, also while Discord cannot be reached: jobs are accepted all the same.

        It ends with `stack`.
        """
        door = self.door
        if door is None:
            return None
        task = asyncio.create_task(door.run(), name="http")

        async def end() -> None:
            door.close()
            await asyncio.wait({task}, timeout=_DOOR_LIMIT_S)
            task.cancel()
            await asyncio.wait({task})

        stack.push_async_callback(end)
        return task

    async def _serve(
        self,
        services: Services,
        progress: ProgressEditor,
        http: asyncio.Task[None] | None,
        cluster: RayMembership | None,
    ) -> None:
        parts = {
            name: asyncio.create_task(run(), name=name)
            # In the order in which they end: the engines first, so that running jobs go back to the
            # queue before anything else does.
            for name, run in {
                "engines": services.fleet.run,
                **({"cluster": cluster.run} if cluster else {}),
                "courier": services.courier.run,
                "progress": progress.run,
                "sweep": services.privacy.run,
                "clock": ClockWatch(services.database).run,
                "backups": BackupSchedule(self.settings).run,
                "gateway": partial(stay_connected, self.client),
            }.items()
        }
        watch = asyncio.create_task(self._watch_ready(), name="ready")
        stopping = asyncio.create_task(self.stopping.wait(), name="stop")
        try:
            awaited: set[asyncio.Task[Any]] = {*parts.values(), stopping}
            if http:
                awaited.add(http)
            done, _ = await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            log.info("stopping")
            services.queue.close()
            # Refused from here on: who has asked is told so, while Discord can be reached.
            answering = asyncio.create_task(services.intake.settled(), name="answers")
            if self.door:
                self.door.close()
            watch.cancel()
            stopping.cancel()
            for name, part in parts.items():
                if name == "gateway":
                    await asyncio.wait({answering}, timeout=_ANSWERS_LIMIT_S)
                    answering.cancel()
                part.cancel()
                await asyncio.wait({part})
        for task in done:
            if task is not stopping:
                _raise_end_of(task)

    async def _watch_ready(self) -> None:
        await self.client.wait_until_ready()
        self.ready.set()


def _raise_end_of(task: asyncio.Task[Any]) -> None:
    """Raise why a part ended that should have gone on for ever."""
    error = None if task.cancelled() else task.exception()
    if isinstance(error, discord.PrivilegedIntentsRequired):
        raise StartupError("Discord wants an intent enabled that this bot does not need.")
    if isinstance(error, discord.ConnectionClosed) and error.code == 4004:  # noqa: PLR2004
        raise StartupError("Discord refused DISCORD_TOKEN at the gateway; make a new one.")
    if isinstance(error, discord.ConnectionClosed):
        raise StartupError(f"Discord closed the gateway for good (code {error.code}).")
    raise error or RuntimeError(f"the {task.get_name()} ended by itself")
