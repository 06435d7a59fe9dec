"""`python -m tests.faults.drive FOLDER SCENARIO`, with the shim loaded: each call fails in turn.

The n-th call fails, n counted up until none does; then the same with all calls from the n-th on.
Prints what was not as it should be, and how many faults there were, as JSON.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import json
import logging
import shutil
import sys
import traceback
from pathlib import Path

from tests.faults.scenario import Scenario
from tests.faults.scenarios import SCENARIOS
from tests.faults.weights import WEIGHTS

FAULTS = [
    (errno.ENOSPC, False),
    (errno.EIO, False),
    (errno.EMFILE, False),
    (errno.ENOSPC, True),
    (errno.EIO, True),
]


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def attempt(scenario: Scenario) -> BaseException | None:
    try:
        await scenario.act()
    except AssertionError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a fault becomes
        return error
    return None


async def one(shim: ctypes.CDLL, scenario: Scenario, fault: tuple[int, bool], number: int) -> bool:
    """Meet one fault; return whether there was one. Raises where anything is not as it should."""
    await scenario.begin()
    scenario.lasting = fault[1]
    before = descriptors()
    shim.fault_arm(ctypes.c_long(number), fault[0], fault[1])
    error = await attempt(scenario)
    hit = bool(shim.fault_disarm())
    if error is not None and not hit:
        raise error
    assert error is None or isinstance(error, Exception)
    await scenario.check(done=error is None)
    scenario.lasting = False
    error = None  # Its frames hold what they opened.
    # A database keeps what it opened, for the next time.
    assert descriptors() <= before or not scenario.anew, "a file stays open"
    again = await attempt(scenario)
    if again is not None:
        raise AssertionError("the next try fails") from again
    await scenario.check(done=True)
    return hit


async def main(folder: Path, name: str) -> dict[str, object]:
    shim = ctypes.CDLL(None)
    shim.fault_root(str(folder).encode())
    problems: list[str] = []
    faults = 0
    kind = {**SCENARIOS, **WEIGHTS}[name]
    kinds = FAULTS[:: 2 if kind.long else 1]
    stride = len(kinds) if kind.longest else 1
    for turn, fault in enumerate(kinds):
        number = turn + 1 - stride if kind.longest else 0
        hit = True
        scenario: Scenario | None = None
        while hit and len(problems) < 5:
            number += stride
            place = folder / f"{number}"
            try:
                if scenario is None or scenario.anew:
                    place.mkdir()
                    scenario = kind(place)
                    await scenario.set_up()
                hit = await one(shim, scenario, fault, number)
            except Exception:  # noqa: BLE001 - it is told below
                shim.fault_disarm()
                what = f"{errno.errorcode[fault[0]]}{' for good' if fault[1] else ''}"
                problems.append(f"call {number}, {what}:\n{traceback.format_exc()}")
            faults += hit
            if scenario is not None and scenario.anew:
                shutil.rmtree(place)
        if scenario is not None:
            await scenario.tear_down()
        for place in list(folder.iterdir()):  # noqa: ASYNC240 - nothing else goes on
            shutil.rmtree(place)
    return {"faults": faults, "problems": problems}


if __name__ == "__main__":
    logging.disable()
    print(json.dumps(asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))))  # noqa: T201
