"""Many at once, and the longest lists."""

from __future__ import annotations

import asyncio

from tests.engines import Script, ScriptedEngine
from tests.wire.kit import controls, soon, staged

MANY = 100


async def test_a_limit_holds_against_a_hundred_requests_at_once(sandbox, tmp_path):
    engine = ScriptedEngine(Script(hold_at=0))
    limits = {"limit_open_jobs": 3, "limit_images_per_day": 1000, "limit_cooldown_seconds": 0}
    async with staged(sandbox, tmp_path, engine, **limits) as stage:
        sent = [await stage.imagine("alice", f"picture {number}") for number in range(MANY)]
        async with asyncio.timeout(30):
            responses = await asyncio.gather(*(invocation.response() for invocation in sent))
        messages = [response.message for response in responses]
        accepted = [message for message in messages if controls(message)]
        refused = [message for message in messages if not controls(message)]
        assert len(accepted) == await stage.jobs_made() == 3
        assert len(refused) == MANY - 3
        assert all(message.ephemeral and message.content for message in refused)
        engine.release.set()
        for invocation in sent:
            if invocation.message in accepted:
                assert (await stage.outcome(invocation)).files


async def test_the_longest_lists_fit_into_a_message(sandbox, tmp_path):
    engine = ScriptedEngine(Script(hold_at=0))
    limits = {"limit_open_jobs": 20, "limit_images_per_day": 1000, "limit_cooldown_seconds": 0}
    async with staged(sandbox, tmp_path, engine, **limits) as stage:
        alice = sandbox.user("alice")
        for number in range(12):
            prompt = f"{number}" + "@*_`" * 30
            await (await stage.imagine("alice", prompt)).response()
        await soon(engine.holding.wait())

        async def keep(tx):
            columns = "user_id, target, request, seed, images, work, created_at"
            for number in range(12):
                await tx.execute(
                    f"INSERT INTO jobs (id, source_id, state, {columns}) SELECT"
                    f" '0123456789abcdef{number:02}', 'x{number}', 'generated', {columns}"
                    " FROM jobs LIMIT 1"
                )
                await tx.execute(
                    "INSERT INTO deliveries (job_id, state, rung, kept_for) VALUES"
                    f" ('0123456789abcdef{number:02}', 'undeliverable', 'kept', {alice.id})"
                )

        await stage.database.write(keep)
        await stage.queue.control.pause("*" * 200, by=alice.id)
        mine = (await (await alice.slash("general", "queue")).answer()).content
        assert "and 2 more" in mine
        assert "0123456789abcdef11" in mine
        everyones = (await (await alice.slash("general", "admin queue")).answer()).content
        assert "and 2 more" in everyones
        assert max(len(mine), len(everyones)) <= 2000
