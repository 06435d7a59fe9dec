"""Outpainting: sizes and places of larger pictures, for any picture and any wish."""

from __future__ import annotations

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from bot.domain.canvas import FACTOR_MAX, SIDES, SOURCE_MIN, Canvas, outpainted
from bot.errors import InvalidRequest

lengths = st.integers(1, 8000)
some_sides = st.sets(st.sampled_from(SIDES), min_size=1)
amounts = st.one_of(
    st.floats(1.0, FACTOR_MAX, exclude_min=True).map(lambda factor: {"factor": factor}),
    st.integers(1, 2048).map(lambda pixels: {"pixels": pixels}),
)


@given(lengths, lengths, some_sides, amounts, st.sampled_from([16, 32]))
def test_every_canvas_can_be_drawn_and_has_the_picture_within_it(
    width, height, sides, amount, multiple
):
    try:
        canvas = outpainted((width, height), sides, **amount, multiple=multiple)
    except InvalidRequest as refused:
        event(refused.sentence)
        return
    left, top, inner_width, inner_height = canvas.place
    assert all(value % multiple == 0 for value in (canvas.width, canvas.height, *canvas.place))
    assert min(canvas.width, canvas.height) >= 256
    assert max(canvas.width, canvas.height) <= 2048
    borders = {
        "left": left,
        "right": canvas.width - left - inner_width,
        "top": top,
        "bottom": canvas.height - top - inner_height,
    }
    assert {side for side, border in borders.items() if border > 0} == sides
    assert min(inner_width, inner_height) >= SOURCE_MIN - multiple
    # There is one scale that both of its sides have, but for what is rounded to squares.
    rounding = 2.5 * multiple
    least = max((inner_width - rounding) / width, (inner_height - rounding) / height)
    most = min((inner_width + rounding) / width, (inner_height + rounding) / height)
    assert least <= most


@given(st.integers(16, 60), st.integers(16, 60), some_sides, st.integers(1, 30))
def test_a_picture_of_whole_squares_is_not_scaled(width, height, sides, squares):
    size = 16 * width, 16 * height
    added = [16 * squares * len(sides & set(pair)) for pair in (SIDES[:2], SIDES[2:])]
    wanted = size[0] + added[0], size[1] + added[1]
    if max(wanted) > 2048:
        return
    canvas = outpainted(size, sides, pixels=16 * squares)
    assert (canvas.width, canvas.height) == wanted
    assert canvas.place[2:] == size
    assert canvas.place[0] == 16 * squares * ("left" in sides)
    assert canvas.place[1] == 16 * squares * ("top" in sides)


def test_what_people_ask_for():
    square = (1024, 1024)
    assert outpainted(square, SIDES, factor=1.5) == Canvas(1536, 1536, (256, 256, 1024, 1024))
    assert outpainted(square, ["right"], factor=1.5) == Canvas(1536, 1024, (0, 0, 1024, 1024))
    assert outpainted(square, ["left"], pixels=100) == Canvas(1120, 1024, (96, 0, 1024, 1024))
    # Four times as large it would be 4096 wide: the whole is scaled to what can be drawn.
    assert outpainted(square, SIDES, factor=4.0) == Canvas(2048, 2048, (768, 768, 512, 512))
    photo = outpainted((4032, 3024), ["top", "bottom"], factor=1.5)
    assert photo == Canvas(1824, 2048, (0, 336, 1824, 1360))
    assert outpainted((100, 100), ["right"], factor=2.0) == Canvas(512, 256, (0, 0, 256, 256))


@pytest.mark.parametrize(
    ("size", "sides", "amount", "said"),
    [
        ((512, 512), [], {"factor": 2.0}, "Name the sides"),
        ((512, 512), ["up"], {"factor": 2.0}, "Name the sides"),
        ((512, 512), ["left"], {}, "either a factor or pixels"),
        ((512, 512), ["left"], {"factor": 2.0, "pixels": 5}, "either a factor or pixels"),
        ((512, 512), ["left"], {"factor": 1.0}, "above 1 and at most 4"),
        ((512, 512), ["left"], {"factor": float("nan")}, "above 1 and at most 4"),
        ((512, 512), ["left"], {"factor": 4.1}, "above 1 and at most 4"),
        ((512, 512), ["left"], {"pixels": 0}, "from 1 to 2,048"),
        ((512, 512), ["left"], {"pixels": 2049}, "from 1 to 2,048"),
        ((4000, 200), ["left"], {"factor": 2.0}, "too long and narrow"),
        ((100, 100), SIDES, {"pixels": 2048}, "too small"),
    ],
)
def test_what_cannot_be_drawn_is_said(size, sides, amount, said):
    with pytest.raises(InvalidRequest) as caught:
        outpainted(size, sides, **amount)
    assert said in caught.value.sentence
