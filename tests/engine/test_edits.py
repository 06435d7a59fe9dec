"""Edits by instruction with the real toy networks in the real child process."""

from __future__ import annotations

import json

import numpy as np
import pytest
import pytest_asyncio
from PIL import Image, ImageDraw

from bot.domain.canvas import SIDES, outpainted
from bot.engine.frames import FrameError
from bot.engine.options import EngineOptions
from bot.engine.parent.process import EngineProcess
from bot.engine.protocol import MOST_REFERENCES, Preview, Step
from bot.engine.wire import read_request, request_fields
from bot.errors import EngineError, EngineErrorKind
from bot.lab.tiny.train.scenes.layout import Layout, Part, paint_layout
from tests.engine.kit import cancelled_at, draw, draw_well, request
from tests.engine.seams import assert_goes_on

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]

PROMPT = "make the circle blue"
GREY, SHAPES = (128, 128, 128), ((256, 256), (320, 200), (180, 300))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def editor(tmp_path_factory):
    """An engine of the toy model that edits, and of one that does not."""
    folder = tmp_path_factory.mktemp("editor")
    options = EngineOptions(folder, lora_path=folder, models=("tiny",), work_path=folder)
    engine = EngineProcess("tiny-edit", options=options)
    yield engine, folder
    await engine.close()


@pytest.fixture
def place(editor, tmp_path_factory):
    """A folder that the confined engine may write to, with pictures to refer to."""
    _, root = editor
    folder = root / tmp_path_factory.mktemp("edit").name
    folder.mkdir()
    for number, (size, colour) in enumerate(zip(SHAPES, ("red", "green", "yellow"), strict=True)):
        picture = Image.new("RGB", size, GREY)
        ImageDraw.Draw(picture).ellipse((60, 60, 140, 140), fill=colour)
        picture.save(folder / f"reference-{number}.png")
    return folder


def references(folder, *numbers):
    return tuple(folder / f"reference-{number}.png" for number in numbers)


def levels(path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), int)


@pytest.mark.slow
async def test_every_reference_and_their_order_change_the_picture(editor, place):
    engine, _ = editor
    drawn: list[bytes] = []
    for numbers in ((), (0,), (1,), (0, 1), (1, 0)):
        wanted = request(place, PROMPT, steps=2, references=references(place, *numbers))
        events = await draw_well(engine, wanted)
        assert [event.index for event in events if isinstance(event, Step)] == [1, 2]
        assert any(isinstance(event, Preview) for event in events)
        drawn.append((place / "0.png").read_bytes())
    assert len(set(drawn)) == len(drawn)
    again = request(place, PROMPT, steps=2, references=references(place, 0))
    await draw_well(engine, again)
    assert (place / "0.png").read_bytes() == drawn[1]


@pytest.mark.slow
async def test_a_mask_leaves_the_rest_of_the_first_reference_to_the_bit(editor, place):
    engine, _ = editor
    mask = place / "mask.png"
    marks = Image.new("L", (256, 256), 0)
    ImageDraw.Draw(marks).rectangle((40, 40, 160, 160), fill=255)
    marks.save(mask)
    named = references(place, 0, 1)
    wanted = request(
        place,
        PROMPT,
        references=named,
        input_image=named[0],
        mask=mask,
        steps=2,
        seeds=(5, 6),
        guidance=1.0,
    )
    await draw_well(engine, wanted)
    before, outside = levels(named[0]), np.asarray(marks) == 0
    pictures = [levels(place / f"{index}.png") for index in range(2)]
    for drawn in pictures:
        assert (drawn[outside] == before[outside]).all()
        assert (drawn[~outside] != before[~outside]).any()
    assert (pictures[0] != pictures[1]).any()


@pytest.mark.slow
@pytest.mark.parametrize("sides", [("right",), SIDES])
async def test_an_edit_goes_on_beyond_the_edges_of_a_picture(editor, place, sides):
    """As without references (test_tiny_engine.py).

    The toy was never taught to: with a plain ground alone it goes on.
    """
    engine, _ = editor
    source = place / "source.png"
    star = Part("star", "yellow", 0.5, 0.5, 0.3)
    paint_layout(Layout(("blue",), (star,))).save(source)
    canvas = outpainted((256, 256), sides, factor=1.5)
    wanted = {"width": canvas.width, "height": canvas.height, "steps": 10}
    wanted |= {"input_image": source, "place": canvas.place}
    words = "Continue the picture beyond its edges. What is there stays as it is."
    drawn = []
    for named in ((source,), (source, *references(place, 1))):
        await draw_well(engine, request(place, words, references=named, **wanted))
        drawn.append(levels(place / "0.png"))
        assert drawn[-1].shape[:2] == (canvas.height, canvas.width)
        assert_goes_on(levels(source), drawn[-1], canvas.place, sides)
    assert (drawn[0] != drawn[1]).any()


@pytest.mark.slow
async def test_a_cancel_ends_an_edit_within_a_step(editor, place):
    engine, _ = editor
    wanted = request(place, PROMPT, steps=50, references=references(place, 0))
    assert 2 <= await cancelled_at(2, engine, wanted) <= 4


@pytest.mark.slow
async def test_more_than_it_takes_and_what_is_no_picture_are_refused(editor, place):
    engine, _ = editor
    (place / "no.png").write_bytes(b"no picture")
    tall = place / "tall.png"
    Image.new("RGB", (2, 200)).save(tall)
    for changes, part in (
        ({"references": references(place, 0, 1, 2, 0)}, "{most} pictures for an edit at most"),
        ({"references": (place / "no.png",)}, "broken"),
        ({"references": (place / "absent.png",)}, "broken"),
        ({"references": (tall,)}, "too long and narrow"),
        ({"references": references(place, 0), "model": "tiny"}, "does not edit pictures by words"),
    ):
        with pytest.raises(EngineError) as caught:
            await draw(engine, request(place, PROMPT, **changes))
        assert caught.value.kind is EngineErrorKind.REFUSED
        assert part in str(caught.value.template)
    await draw_well(engine, request(place, PROMPT, steps=1, model="tiny-edit"))


async def test_what_contradicts_itself_is_no_request(tmp_path):
    named = {"references": (tmp_path / "reference-0", tmp_path / "reference-1")}
    for changes in (
        {"strength": 0.5},
        {"input_image": tmp_path / "reference-0"},
        {"mask": tmp_path / "mask"},
        {"references": (tmp_path / "reference-0",) * (MOST_REFERENCES + 1)},
    ):
        with pytest.raises(ValueError, match=r"references|mask"):
            request(tmp_path, PROMPT, **{**named, **changes})
    begun = {"input_image": tmp_path / "reference-0", "mask": tmp_path / "mask"}
    for changes in ({}, begun, {**begun, "strength": 1.0}):
        wanted = request(tmp_path, PROMPT, **named, **changes)
        assert read_request(json.loads(json.dumps(request_fields(wanted)))) == wanted
    fields = request_fields(request(tmp_path, PROMPT, **named))
    with pytest.raises(FrameError, match="strength"):
        read_request({**fields, "strength": 0.5})
