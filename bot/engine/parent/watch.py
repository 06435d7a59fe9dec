"""The watch over a child's work: what counts as progress, and how long it may go without any."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Final

from bot.engine.options import Activity, SilenceLimits
from bot.engine.protocol import Event, Loading, Picture, Request, Step, Written
from bot.errors import EngineError, EngineErrorKind

_SHARE: Final = 1e-4
"""The least share of a stage of loading that counts as progress: 4 MB of the largest model."""


def _no_progress(limit_s: float, activity: Activity) -> EngineError:
    return EngineError(
        EngineErrorKind.SILENT, f"no progress in {limit_s:g} s of {activity}, only messages"
    )


class JobWatch:
    """How long one job has gone on in a child, and how long without progress, in seconds.

    Progress is what was not there before: a step past all earlier ones, a picture, another token,
    an activity at a point of the job where it had not been. The child may say all else as often as
    it likes. Compiling has its limit of silence, and does not count as the job's time; neither does
    a switch to another model, nor the load of what writes, whose progress is that of loading.
    """

    def __init__(self, request: Request, limits: SilenceLimits) -> None:
        limit = request.time_limit_s
        self.limit_s: float = math.inf if limit is None else limit
        self.activity = Activity.ENCODE
        self._limits = limits
        self._silent = 0.0
        self._waited = 0.0
        self._steps = 0
        self._pictures = 0
        self._tokens = 0
        self._switch = LoadWatch(limits, Activity.SWITCH)
        self._seen: set[Hashable] = {self._point()}

    @property
    def silence_limit_s(self) -> float:
        """How long the present activity may go without progress."""
        return self._limits.of(self.activity)

    def silence_left_s(self) -> float:
        """Return how much of that is left."""
        return self._switch.left_s() if self._switches else self.silence_limit_s - self._silent

    def left_s(self) -> float:
        """Return how much is left of the job's own limit.

        It rests while code is compiled, and while a model is loaded.
        """
        return math.inf if self._compiles or self._switches else self.limit_s - self._waited

    def check(self) -> None:
        """Raise `EngineError` where the job has gone on for too long.

        `OVERTIME` by its own limit; `SILENT` where messages have come for twice the limit of
        silence, and none of them was progress.
        """
        if self._switches:
            self._switch.check()
            return
        if self.left_s() <= 0:
            raise EngineError(EngineErrorKind.OVERTIME, f"not done in {self.limit_s:g} s")
        if self._silent > 2 * self.silence_limit_s:
            raise _no_progress(self.silence_limit_s, self.activity)

    def note_wait(self, seconds: float) -> None:
        """Note that the child was waited for."""
        if self._switches:
            self._switch.note_wait(seconds)
            return
        self._silent += seconds
        if not self._compiles:
            self._waited += seconds

    def note_activity(self, activity: Activity) -> None:
        """Note what the child does from now on."""
        self.activity = activity
        if self._point() not in self._seen:
            self._progress()

    def note(self, event: Event) -> None:
        """Note what the child has told."""
        if isinstance(event, Loading) and self._switches:
            self._switch.note(event)
        elif isinstance(event, Step) and event.index > self._steps:
            self._steps = event.index
            self._progress()
        elif isinstance(event, Picture):
            self._pictures += 1
            self._progress()
        elif isinstance(event, Written) and event.tokens > self._tokens:
            self._tokens = event.tokens
            self._progress()

    @property
    def _compiles(self) -> bool:
        # Before the first step or token alone: a child that says so later gains no time by it.
        return self.activity is Activity.COMPILE and not self._begun

    @property
    def _switches(self) -> bool:
        # Likewise.
        return self.activity is Activity.SWITCH and not self._begun

    @property
    def _begun(self) -> bool:
        return bool(self._steps or self._tokens)

    def _point(self) -> Hashable:
        return self.activity, self._steps, self._pictures, self._tokens

    def _progress(self) -> None:
        self._seen.add(self._point())
        self._silent = 0.0


class LoadWatch:
    """How long a model has been loading, and how long without progress, in seconds.

    Progress is another stage, or another share of the same one; one that knows no share (another
    engine's download is waited for) may be told again, within the limit of the whole.
    """

    def __init__(self, limits: SilenceLimits, activity: Activity) -> None:
        self.activity = activity
        self._limits = limits
        self._silent = 0.0
        self._left = limits.whole_load
        self._last: Loading | None = None

    @property
    def limit_s(self) -> float:
        """How long the present activity may go without progress."""
        return self._limits.of(self.activity)

    def left_s(self) -> float:
        """Return how much of that is left, or of the limit of the whole."""
        return min(self.limit_s - self._silent, self._left)

    def check(self) -> None:
        """Raise `EngineError` (`SILENT`) where messages have come for too long without progress."""
        if self._left <= 0 or self._silent > 2 * self.limit_s:
            raise _no_progress(self.limit_s, self.activity)

    def note_wait(self, seconds: float) -> None:
        """Note that the child was waited for."""
        self._silent += seconds
        self._left -= seconds

    def begin(self) -> None:
        """Note the child's first message: it has started, and loads."""
        if self.activity is not Activity.LOAD:
            self.activity = Activity.LOAD
            self._silent = 0.0

    def note(self, event: Loading) -> None:
        """Note how far it is."""
        last = self._last
        if (
            last is None
            or last.stage != event.stage
            or event.fraction is None
            or last.fraction is None
            or abs(event.fraction - last.fraction) >= _SHARE
        ):
            self._last = event
            self._silent = 0.0
