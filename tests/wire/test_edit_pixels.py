"""Edits over the wire by the toy networks in the real engine child: what stays stays to the bit."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from bot.engine.options import EngineOptions
from bot.engine.parent.process import EngineProcess
from tests.wire.kit import controls, staged
from tests.wire.test_edits import BOTH, with_ring

pytestmark = [pytest.mark.slow, pytest.mark.engine, pytest.mark.timeout(300)]


def levels(message) -> np.ndarray:
    with Image.open(io.BytesIO(message.files[0].data)) as image:
        return np.asarray(image.convert("RGB"), int)


async def test_nothing_changes_outside_of_a_region_or_within_a_picture_zoomed_out(
    sandbox, tmp_path
):
    options = EngineOptions(tmp_path, lora_path=tmp_path, models=("tiny-edit",), work_path=tmp_path)
    engine = EngineProcess("tiny", options=options)
    await engine.load()
    async with staged(sandbox, tmp_path / "data", engine, **BOTH) as stage:
        bob, bot_id = sandbox.user("bob"), stage.app.client.user.id
        first = await stage.outcome(
            await stage.imagine("bob", "a blue circle", aspect="1:1", steps=2, seed=3)
        )
        before = levels(first)
        # By a mark on the copy that comes with a reply.
        with Image.open(io.BytesIO(first.files[0].data)) as original:
            copy = with_ring(original.convert("RGB"), marked=True, quality=80, scale=0.5)
        words = f"<@{bot_id}> make it green"
        await bob.send("general", words, [("marked.jpg", copy)], reply_to=first)
        await sandbox.wait(lambda: len(stage.visible("bob")) == 2, timeout=120)
        changed = (levels(stage.visible("bob")[1]) != before).any(axis=2)
        ys, xs = np.nonzero(changed)
        assert changed[60:90, 60:90].mean() > 0.5
        assert (xs.min() >= 20, ys.min() >= 20) == (True, True)
        assert (xs.max() <= 130, ys.max() <= 130) == (True, True)
        # Made wide, the picture stands in its middle as it was.
        (menu,) = [one for one in controls(first) if one.startswith("more:")]
        wide = levels(await stage.outcome(await bob.select(first, menu, "wide")))
        assert wide.shape == (256, 384, 3)
        assert (wide[:, 64:320] == before).all()
        assert wide[:, :40].std() > 1
