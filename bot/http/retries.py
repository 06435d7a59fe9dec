"""Retries that clients make by themselves: each finds the job of the request that it repeats.

OpenAI's clients send a request again after a broken connection, a timeout or some refusals, say so
in a header, and send no idempotency key. Two requests may well ask for the same; the header tells a
retry from the second of them. What is known here is forgotten with the process.

https://github.com/openai/openai-python#retries
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends, Header

_MOST: Final = 1000
"""Jobs that are remembered; the oldest is forgotten for a new one."""


@dataclass(frozen=True, slots=True)
class Repeat:
    """What a request says of those before it: `count` is None where its client makes no retries."""

    key: str | None = None
    count: int | None = None


async def repeat_of(
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=255,
            description="The same key finds the first request's job instead of making a second.",
        ),
    ] = None,
    x_stainless_retry_count: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Repeat:
    """Return what the headers of a request say."""
    count = x_stainless_retry_count or ""
    is_number = count.isascii() and count.isdecimal()
    return Repeat(idempotency_key, int(count[:9]) if is_number else None)


TheRepeat = Annotated[Repeat, Depends(repeat_of)]


class Retries:
    """The jobs that clients wait for, or went away from before they were answered."""

    def __init__(self) -> None:
        self.secret: Final = secrets.token_hex(16)
        """Makes what is kept of a request worthless to anyone else."""
        self._left: dict[str, bool] = {}
        """Whether each job's client went away, the oldest job first."""
        self._asked: dict[str, str] = {}
        """What each of them was asked by."""

    def note(self, asked: str, job_id: str) -> None:
        """Note that the client of a new job waits; `asked` is the same for equal requests."""
        self._left[job_id] = False
        self._asked[job_id] = asked
        if len(self._left) > _MOST:
            self._forget(next(iter(self._left)))

    def over(self, job_id: str, *, left: bool) -> None:
        """Note that a job's client does not wait any more: it `left`, or was answered."""
        if job_id in self._left and left:
            self._left[job_id] = True
        else:
            self._forget(job_id)

    def join(self, asked: str) -> str | None:
        """Return the id of the job that a retry is of, and note that its client waits again.

        That whose client has left; else the oldest one, whose client may be gone unnoticed.
        """
        found = [job_id for job_id, one in self._asked.items() if one == asked]
        job_id = next((one for one in found if self._left[one]), found[0] if found else None)
        if job_id is not None:
            self._left[job_id] = False
        return job_id

    def _forget(self, job_id: str) -> None:
        self._left.pop(job_id, None)
        self._asked.pop(job_id, None)
