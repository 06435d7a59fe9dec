"""A torch-free backend that paints everything in one colour."""

from __future__ import annotations

from PIL import Image

from bot.engine.child.backend import Drawn, LoadInfo, WrittenText
from bot.engine.options import Activity
from bot.engine.protocol import Ending


class Painter:
    def load(self, _progress) -> LoadInfo:
        return LoadInfo("painter", "none")

    def generate(self, request, report):
        report.stage(Activity.DENOISE)
        for step in range(1, request.steps + 1):
            report.step(step, request.steps)
        print("painting", flush=True)  # noqa: T201 - as libraries do
        for seed in request.seeds:
            colour = (seed % 256, 0, 0)
            yield Drawn(Image.new("RGB", (request.width, request.height), colour), {"denoise": 0.1})

    def write(self, request, report) -> WrittenText:
        report.stage(Activity.WRITE)
        described = "CONTENT: one colour\nENGLISH: one colour\nCHINESE: 一种颜色"
        prompt = request.prompt.partition(":")[2].strip()
        report.written(f"{prompt}, in soft light" if prompt else described, 1)
        return WrittenText(Ending.STOPPED, {"write": 0.1})


def build(model: str, options) -> Painter:
    return Painter()
