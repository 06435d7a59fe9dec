"""`Database.write` and `read`: isolation, rollback, cancellation, a full disk."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.database import Database, Transaction
from storage.turns import Turns


def notes(database: Database):
    async def find(tx: Transaction) -> list[str]:
        return [row["text"] for row in await tx.all("SELECT text FROM notes ORDER BY rowid")]

    return database.read(find)


def add(*texts: str):
    async def insert(tx: Transaction) -> int:
        for text in texts:
            await tx.execute("INSERT INTO notes VALUES (?)", (text,))
        return len(texts)

    return insert


async def test_a_write_commits_and_returns_its_result(database):
    assert await database.write(add("a", "b")) == 2
    assert await notes(database) == ["a", "b"]


async def test_an_error_rolls_everything_back(database):
    async def fail(tx: Transaction) -> None:
        await add("lost")(tx)
        raise LookupError

    with pytest.raises(LookupError):
        await database.write(fail)
    with pytest.raises(sqlite3.IntegrityError):
        await database.write(add("lost", None))
    with pytest.raises(UnicodeEncodeError):
        await database.write(add("lost", "half \ud83d"))
    await database.write(add("kept"))
    assert await notes(database) == ["kept"]


async def test_execute_counts_the_changed_rows(database):
    await database.write(add("a", "b", "c"))
    sql = "UPDATE notes SET text = 'x' WHERE text < ?"
    assert await database.write(lambda tx: tx.execute(sql, ("c",))) == 2
    assert await database.read(lambda tx: tx.one("SELECT 1 WHERE 0")) is None
    assert await database.read(lambda tx: tx.value("SELECT 1 WHERE 0")) is None


async def test_what_is_first_goes_before_all_that_is_not(database):
    begun, release = asyncio.Event(), asyncio.Event()

    async def hold(tx: Transaction) -> None:
        begun.set()
        await release.wait()

    assert not database.crowded
    holding = asyncio.create_task(database.write(hold))
    async with asyncio.timeout(10):
        await begun.wait()
        patient = [asyncio.create_task(database.write(add(f"request {n}"))) for n in range(3)]
        await asyncio.sleep(0)
        first = [asyncio.create_task(database.write(add(f"claim {n}"), first=True)) for n in "ab"]
        await asyncio.sleep(0)
        assert database.crowded
        release.set()
        await asyncio.gather(holding, *patient, *first)
    assert not database.crowded
    found = await notes(database)
    assert found == ["claim a", "claim b", "request 0", "request 1", "request 2"]


async def test_who_leaves_the_line_holds_up_nobody():
    turns, order = Turns(), []

    async def take(name: str) -> None:
        async with turns.taken():
            order.append(name)

    async with turns.taken():
        gone, next_one, last = (asyncio.create_task(take(name)) for name in "abc")
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait({gone})
    # The turn has been given to the next one, who leaves before taking it.
    next_one.cancel()
    async with asyncio.timeout(10):
        await asyncio.wait({next_one, last})
    assert order == ["c"]
    async with asyncio.timeout(10):
        await take("d")
    assert order == ["c", "d"]


async def test_a_reader_cannot_write_and_sees_one_snapshot(database):
    await database.write(add("a"))
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await database.read(add("b"))
    begun, written = asyncio.Event(), asyncio.Event()

    async def count_twice(tx: Transaction) -> tuple[int, int]:
        first = await tx.value("SELECT count(*) FROM notes")
        begun.set()
        await written.wait()
        return first, await tx.value("SELECT count(*) FROM notes")

    counting = asyncio.create_task(database.read(count_twice))
    async with asyncio.timeout(10):
        await begun.wait()
        await database.write(add("b"))
        written.set()
        assert await counting == (1, 1)
    assert await notes(database) == ["a", "b"]


async def test_a_cancelled_caller_leaves_a_whole_transaction(database):
    begun, go_on, told = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow(tx: Transaction) -> None:
        await add("first half")(tx)
        begun.set()
        await go_on.wait()
        await add("second half")(tx)

    writing = asyncio.create_task(database.write(slow, then=lambda _: told.set()))
    async with asyncio.timeout(10):
        await begun.wait()
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        go_on.set()
        await told.wait()
        await database.write(add("after"))
    assert await notes(database) == ["first half", "second half", "after"]
    assert not database._writer.in_transaction


async def test_close_waits_for_what_runs_and_refuses_the_rest(tmp_path, opened):
    database = await opened(tmp_path / "bot.sqlite3")
    await database.write(lambda tx: tx.execute("CREATE TABLE notes (text TEXT)"))
    writes = [asyncio.create_task(database.write(add(str(n)))) for n in range(20)]
    await asyncio.sleep(0)
    await database.close()
    await database.close()
    assert sum(await asyncio.gather(*writes)) == 20
    with pytest.raises(RuntimeError, match="closed"):
        await database.write(add("late"))
    with pytest.raises(RuntimeError, match="closed"):
        await notes(database)


async def test_a_full_disk_refuses_and_recovers(database):
    pages = await database.write(lambda tx: tx.value("PRAGMA page_count"))
    await database._writer.execute_fetchall(f"PRAGMA max_page_count = {pages + 3}")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        await database.write(add(*["x" * 4000] * 30))
    assert not database._writer.in_transaction
    assert await notes(database) == []
    await database.write(add("small"))
    await database._writer.execute_fetchall("PRAGMA max_page_count = 1073741823")
    await database.write(add(*["x" * 4000] * 30))
    assert len(await notes(database)) == 31


# One task: how many rows it writes, how many turns of the loop it waits before each, whether it
# fails at the end, and after how many turns its caller is cancelled.
schedules = st.lists(
    st.tuples(
        st.integers(1, 3),
        st.integers(0, 4),
        st.booleans(),
        st.none() | st.integers(0, 30),
    ),
    min_size=1,
    max_size=6,
)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(schedules)
def test_no_schedule_mixes_transactions(schedule):
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run_schedule(Path(folder), schedule))


async def run_schedule(folder: Path, schedule) -> None:
    database = await Database.open(folder / "bot.sqlite3")
    try:
        await database.write(lambda tx: tx.execute("CREATE TABLE notes (text TEXT NOT NULL)"))
        await check_schedule(database, schedule)
    finally:
        await database.close()


async def check_schedule(database: Database, schedule) -> None:
    told: list[int] = []
    seen: list[list[str]] = []

    async def work(number: int, rows: int, turns: int, fails: bool) -> None:
        async def insert(tx: Transaction) -> None:
            for row in range(rows):
                for _ in range(turns):
                    await asyncio.sleep(0)
                await add(f"{number}.{row}")(tx)
            if fails:
                raise LookupError

        await database.write(insert, then=lambda _: told.append(number))

    async def look() -> None:
        seen.append(await notes(database))

    async def cancel_after(task: asyncio.Task[None], turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()

    tasks, cancels = [], []
    for number, (rows, turns, fails, cancelled_after) in enumerate(schedule):
        tasks.append(asyncio.create_task(work(number, rows, turns, fails)))
        cancels.append(asyncio.create_task(look()))
        if cancelled_after is not None:
            cancels.append(asyncio.create_task(cancel_after(tasks[-1], cancelled_after)))
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.gather(*cancels)
    await database.write(add("end"))  # Behind every write that still ran by itself.

    assert not database._writer.in_transaction
    stored = await notes(database)
    for number, (rows, _, fails, _) in enumerate(schedule):
        mine = [text for text in stored if text.startswith(f"{number}.")]
        whole = [f"{number}.{row}" for row in range(rows)]
        assert mine in ([], whole)
        assert told.count(number) == bool(mine)
        for view in seen:  # Readers in between saw each transaction whole or not at all.
            assert [text for text in view if text.startswith(f"{number}.")] in ([], whole)
        if fails:
            assert not mine
        if outcomes[number] is None:
            assert mine
