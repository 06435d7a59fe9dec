"""Texts that jobs have written: answers, and prompts that are rewritten before they are drawn."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, TypeVar

from bot.catalogue.models import ModelSpec, find_model
from bot.catalogue.writers import rewriter, writer
from bot.domain.job import Job
from bot.domain.request import ImageRequest, secrets_of
from bot.domain.writing import EXPECTED_TOKENS, MOST_TOKENS, Writing
from bot.engine.protocol import Ending, WriteRequest
from bot.errors import EngineError, EngineErrorKind, GenerationCancelled, UserError
from bot.fleet.attempt import Attempt, lend_references
from bot.fleet.session import EngineSession
from bot.jobs.descriptions import LETTERS_A_TOKEN, tidied
from bot.jobs.instructions import system_of, temperature_of, turn_of
from bot.jobs.queue import JobQueue
from bot.jobs.rewriting import Reason, cleaned, judge
from bot.jobs.schedule import drawn_seconds, gpu_seconds, writing_limit
from bot.jobs.tasks import unbroken, until_stored
from bot.logs import hide
from bot.words import mark
from storage.images import ImageStore

log = logging.getLogger(__name__)
T = TypeVar("T")

_WRITING_S: Final = 120.0
"""Seconds of writing after which an answer ends: at 5 tokens a second, the slowest, 600 of them."""
# What says that this engine does not write this, and nothing about whether it draws.
_NO_WRITING: Final = frozenset(
    {
        EngineErrorKind.REFUSED,
        EngineErrorKind.OUT_OF_MEMORY,
        EngineErrorKind.RAISED,
        EngineErrorKind.SWITCH_FAILED,
    }
)
_NOTHING: Final = mark("The model wrote nothing.")
_AGAINST_RULES: Final = mark("What is in this picture breaks a rule of this server.")
_NO_WRITER: Final = mark("None of this bot's models writes texts.")


def _cut(attempt: Attempt) -> bool:
    """Tell whether a text ended at a bound, with more to say."""
    return attempt.finished is not None and attempt.finished.ending in {
        Ending.TOKENS,
        Ending.SECONDS,
    }


class TextWork:
    """Has an engine write, within one session.

    `instruction` is the owner's own for prompts, "" for the bot's; `time_factor` is what a text may
    take of the time that it should, 0 without a limit.
    """

    def __init__(
        self,
        queue: JobQueue,
        store: ImageStore,
        session: EngineSession,
        *,
        timer: Callable[[], float],
        retry_s: float,
        instruction: str = "",
        time_factor: float = 0.0,
    ) -> None:
        self._queue = queue
        self._store = store
        self._session = session
        self._timer = timer
        self._retry_s = retry_s
        self._instruction = instruction
        self._time_factor = time_factor

    async def answer(self, attempt: Attempt) -> str:
        """Have a job's text written, and return it; of a rewritten prompt "" where it is refused.

        Raises as `EngineSession.write`.
        """
        try:
            task = Writing(attempt.job.request.writes)
            if task is Writing.ENHANCE:
                request = await self._rewritten(attempt)
                if request.unrewritten:
                    await self._store_request(attempt.job, request, 0.0)
                return request.rewritten
            text = tidied(await self._written(attempt, task), LETTERS_A_TOKEN * MOST_TOKENS[task])
            if not text:
                raise EngineError(EngineErrorKind.REFUSED, "it is empty", sentence=_NOTHING)
            # What stands in a picture is written down too, and shown to all.
            if await self._breaks_rule(attempt.job, text):
                raise EngineError(
                    EngineErrorKind.REFUSED, "it breaks a rule", sentence=_AGAINST_RULES
                )
            return f"{text} …" if _cut(attempt) else text
        finally:  # Another engine may have the job next, in this folder.
            await unbroken(self._store.clear(attempt.job.id))

    async def rewrite(self, attempt: Attempt) -> None:
        """Have the prompt of a job rewritten, where it is to be, before it is drawn.

        What is drawn stands in the job of the attempt, and is stored; where nothing of use was
        written that is what was typed. Raises `GenerationCancelled`, and `EngineError` where the
        engine itself failed.
        """
        job = attempt.job
        if not job.request.rewriting:
            return
        request = await self._rewritten(attempt)
        spent_s = 0.0
        if attempt.finished is not None:
            timings = attempt.finished.timings
            spent_s, attempt.rewrite_s = gpu_seconds(timings), drawn_seconds(timings)
            attempt.load_s += timings.get("load", 0.0)
        elif attempt.steps:
            spent_s = self._timer() - attempt.began_at
            attempt.rewrite_s = max(0.0, spent_s - attempt.switch_s)
        if not await self._store_request(job, request, spent_s):
            raise GenerationCancelled  # The attempt is over; whatever ends it now changes nothing.
        attempt.job = replace(job, request=request)
        attempt.finished, attempt.steps, attempt.began_at = None, 0, self._timer()
        attempt.switch_s = 0.0  # It is charged.

    async def _rewritten(self, attempt: Attempt) -> ImageRequest:
        """Return the job's request with a rewritten prompt, or with why it has none.

        Raises as `rewrite`.
        """
        job = attempt.job
        if job.engine_faults:  # Perhaps by the rewriting: what was typed can be drawn.
            return replace(job.request, unrewritten=Reason.UNAVAILABLE.value)
        try:
            text = await self._written(attempt, Writing.ENHANCE)
        except EngineError as error:
            if error.kind not in _NO_WRITING or error.loading:
                raise
            log.warning("job %s: its prompt is not rewritten: %s", job.id, error.detail)
            return replace(job.request, unrewritten=Reason.UNAVAILABLE.value)
        if _cut(attempt):
            return replace(job.request, unrewritten=Reason.LENGTH.value)
        return await self._judged(job, text)

    async def _judged(self, job: Job, text: str) -> ImageRequest:
        request = job.request
        rewritten = cleaned(text, request.prompt)
        hide(*secrets_of(request), rewritten)
        reason = judge(request.prompt, rewritten)
        if reason is None:
            reason = Reason.RULES if await self._breaks_rule(job, rewritten) else None
        if reason is None:
            try:
                return replace(request, rewritten=rewritten)
            except UserError:
                reason = Reason.EMPTY
        log.info("job %s: the rewritten prompt is not used (%s)", job.id, reason)
        return replace(request, unrewritten=reason.value)

    async def _written(self, attempt: Attempt, task: Writing) -> str:
        job = attempt.job
        request = await self._request(job, task)
        if request.references:
            await asyncio.to_thread(lend_references, job, self._store, request.references)
        await self._session.write(attempt, request, draws=not job.request.writes)
        return "".join(attempt.written).strip()

    async def _request(self, job: Job, task: Writing) -> WriteRequest:
        """Return what the engine is asked to write; raise `EngineError` where no model writes."""
        if not job.readable:
            raise ValueError("the stored request cannot be read")
        asked = job.request
        spec = self._writer(job, task)
        if spec is None:
            raise EngineError(EngineErrorKind.REFUSED, "no model writes this", sentence=_NO_WRITER)
        folder = self._store.work_dir(job.id)
        numbers = range(1, len(asked.references) + 1)
        return WriteRequest(
            job_id=job.id,
            system=system_of(task, asked, job.locale, self._instruction),
            prompt=turn_of(task, asked, job.locale),
            references=tuple(folder / f"reference{number}" for number in numbers),
            max_tokens=MOST_TOKENS[task],
            temperature=temperature_of(task, built_in=spec.built_in),
            seed=asked.seed,
            seconds=_WRITING_S,
            model=spec.name,
            time_limit_s=await self._limit_s(job, task),
        )

    def _writer(self, job: Job, task: Writing) -> ModelSpec | None:
        if (chosen := job.request.written_with) is not None:
            # No other: whoever asked may not be allowed to use it.
            return find_model(chosen) if chosen in self._queue.models.names else None
        own = find_model(job.model or self._queue.model)
        offered = [find_model(name) for name in self._queue.models.names]
        if task is Writing.ENHANCE:
            return rewriter(offered, own, pictures=bool(job.request.references))
        return writer(offered, own)

    async def _limit_s(self, job: Job, task: Writing) -> float | None:
        if not self._time_factor:
            return None
        token_s = await self._stored(lambda: self._queue.forecast.token_seconds(job.model))
        return writing_limit(EXPECTED_TOKENS[task], token_s, self._time_factor)

    async def _breaks_rule(self, job: Job, text: str) -> bool:
        return await self._stored(lambda: self._queue.precheck.breaks_rule(job.guild_id, text))

    async def _store_request(self, job: Job, request: ImageRequest, spent_s: float) -> bool:
        return await self._stored(
            lambda: self._queue.commits.record_rewritten(job, request, spent_s)
        )

    async def _stored(self, work: Callable[[], Awaitable[T]]) -> T:
        return await until_stored(work, self._retry_s)
