"""The choice of IMAGE_PRECISION=auto: what is measured, what follows, and that it is kept."""

from __future__ import annotations

import json
import math

import pytest
import torch

from bot.engine.files.precision_kept import KEPT, kept_choices
from bot.engine.stream import precision_choice
from bot.engine.stream.layout import Precision
from bot.engine.stream.precision_choice import PrecisionTrial, choose_precision

CPU = torch.device("cpu")
SHAPES = [(192, 64), (64, 256)]


@pytest.mark.parametrize(
    ("trial", "chosen"),
    [
        (PrecisionTrial(2.0, 1.0, 0.01, 0.03), Precision.INT8_FAST),
        (PrecisionTrial(2.0, 1.0, 0.03, 0.03), Precision.INT8_FAST),
        (PrecisionTrial(1.0, 1.0, 0.01, 0.03), Precision.INT8),  # no gain
        (PrecisionTrial(2.0, 1.0, 0.04, 0.03), Precision.INT8),  # worse than FP8
        (PrecisionTrial(2.0, 1.0, math.nan, 0.03), Precision.INT8),
    ],
)
def test_the_fast_one_has_to_be_faster_and_no_worse_than_fp8(trial, chosen):
    assert trial.precision is chosen


def test_it_is_measured_once_a_card_and_kept(tmp_path, monkeypatch):
    first = choose_precision(SHAPES, 40, CPU, tmp_path)
    (value,) = json.loads((tmp_path / KEPT).read_text()).values()
    measured = PrecisionTrial.read(value["measured"])
    assert measured.precision is first
    # Rounding tokens to INT8 costs less than rounding weights to FP8: the reason of it all.
    assert 0.003 < measured.int8_fast_error < 0.5 * measured.fp8_error < 0.02
    assert kept_choices(tmp_path) == [("CPU", str(first), measured.int8_ms / measured.int8_fast_ms)]
    asked: list[int] = []
    monkeypatch.setattr(
        precision_choice, "milliseconds", lambda *_: asked.append(1) or 1 + len(asked) % 2
    )
    assert choose_precision(SHAPES, 40, CPU, tmp_path) is first
    assert not asked
    # Another model's shapes are measured beside; here int8-fast takes half as long.
    assert choose_precision(SHAPES[:1], 40, CPU, tmp_path) is Precision.INT8_FAST
    assert len(json.loads((tmp_path / KEPT).read_text())) == 2
    assert len(asked) == 2
    # What is damaged is measured anew, and replaced.
    for damaged in ("{", "[]", '{"CPU": {"measured": {"int8_ms": "much"}}}'):
        (tmp_path / KEPT).write_text(damaged)
        assert choose_precision(SHAPES[:1], 40, CPU, tmp_path) is Precision.INT8_FAST
        assert len(kept_choices(tmp_path)) == 1


def test_where_nothing_can_be_kept_it_is_measured_all_the_same(tmp_path, caplog):
    assert choose_precision(SHAPES, 40, CPU, None).storage is Precision.INT8.storage
    assert choose_precision(SHAPES, 40, CPU, tmp_path / "gone").storage is Precision.INT8.storage
    assert "cannot be kept: No such file or directory" in caplog.text


def test_a_full_card_is_no_reason_not_to_load(tmp_path, monkeypatch, caplog):
    def full(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(precision_choice, "milliseconds", full)
    assert choose_precision(SHAPES, 40, CPU, tmp_path) is Precision.INT8
    assert "no memory to try int8-fast" in caplog.text
    assert not (tmp_path / KEPT).exists()


def test_where_products_do_not_work_nothing_is_kept_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(
        precision_choice, "probe_int8_matmul", lambda *_: precision_choice.Matmul.WEIGHT_ONLY
    )
    assert choose_precision(SHAPES, 40, CPU, tmp_path) is Precision.INT8
    assert not (tmp_path / KEPT).exists()
