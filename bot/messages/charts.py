"""The figures of `/admin stats` as one picture; needs matplotlib, which is optional.

It is used through its object-oriented interface: `pyplot` keeps global state and is not
made for threads (https://matplotlib.org/stable/users/explain/figure/backends.html).
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import logging
import threading
from dataclasses import dataclass
from typing import Any, Final

from bot.archive.statistics import HOURS, Figures

# The panel brings its own background, so that it reads the same in a light and in a dark theme.
_GROUND: Final = "#1e1f25"
_PANEL: Final = "#282a33"
_TEXT: Final = "#f2f3f5"
_DIM: Final = "#b5bac1"
_GRID: Final = "#3f424d"
# Told apart with colour-blind eyes too (Okabe and Ito, https://jfly.uni-koeln.de/color/).
_DONE, _FAILED, _CANCELLED, _OPEN = "#56b4e9", "#d55e00", "#8b9099", "#f0e442"
_BAR: Final = "#56b4e9"
_SHARES: Final = ("#56b4e9", "#009e73", "#f0e442", "#e69f00", "#cc79a7", "#d55e00", "#8b9099")
_SIZE_INCHES: Final = (11.0, 7.0)
_DPI: Final = 120
# Fonts that have Chinese characters, of the usual systems.
_CHINESE: Final = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Microsoft YaHei",
    "PingFang SC",
    "Hiragino Sans GB",
    "SimHei",
)
_DRAWING: Final = threading.Lock()
# It logs every weight that a font lacks.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
_MINUTE_S, _HOUR_S = 60, 3600


@dataclass(frozen=True, slots=True)
class Labels:
    """The words in the picture, in the reader's language."""

    jobs: str
    waits: str
    hours: str
    shares: str
    drawn: str
    failed: str
    cancelled: str
    waiting: str
    others: str
    nothing: str


def _optional(name: str) -> Any:
    """Import a module of matplotlib only where it is used: it is large, and may be missing."""
    return importlib.import_module(name)


def available() -> bool:
    """Tell whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def speaks_chinese() -> bool:
    """Tell whether a font with Chinese characters is installed; takes a while the first time."""
    return bool(_chinese_fonts())


def _chinese_fonts() -> list[str]:
    manager = _optional("matplotlib.font_manager").fontManager
    installed = {font.name for font in manager.ttflist}
    return [name for name in _CHINESE if name in installed][:1]


def duration(seconds: float) -> str:
    """Return seconds in short: 8 s, 2.5 min, 1.2 h."""
    if seconds < _MINUTE_S:
        return f"{seconds:.0f} s"
    if seconds < _HOUR_S:
        return f"{_two_digits(seconds / _MINUTE_S)} min"
    return f"{_two_digits(seconds / _HOUR_S)} h"


def _two_digits(value: float) -> str:
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"  # noqa: PLR2004 - 9.95 is 10.0


def draw(figures: Figures, labels: Labels) -> bytes:
    """Return a PNG of 1320 x 840 pixels. Call it in a thread: it takes about half a second."""
    mpl, agg = _optional("matplotlib"), _optional("matplotlib.backends.backend_agg")
    settings: dict[Any, Any] = {
        "font.family": ["DejaVu Sans", *_chinese_fonts()],
        "font.size": 11,
        "text.color": _TEXT,
        "axes.labelcolor": _DIM,
        "axes.edgecolor": _GRID,
        "axes.facecolor": _PANEL,
        "axes.titlecolor": _TEXT,
        "xtick.color": _DIM,
        "ytick.color": _DIM,
        "grid.color": _GRID,
    }
    # The settings are the process's own: two pictures at once would mix them.
    with _DRAWING, mpl.rc_context(settings):
        figure = _optional("matplotlib.figure").Figure(
            figsize=_SIZE_INCHES, dpi=_DPI, facecolor=_GROUND, layout="constrained"
        )
        agg.FigureCanvasAgg(figure)
        figure.get_layout_engine().set(w_pad=0.15, h_pad=0.15, wspace=0.04, hspace=0.06)
        axes: Any = figure.subplots(2, 2)
        _days(axes[0, 0], figures, labels)
        _waits(axes[0, 1], figures, labels)
        _hours(axes[1, 0], figures, labels)
        _shares(axes[1, 1], figures, labels)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", facecolor=_GROUND)
    return buffer.getvalue()


def _frame(axes: Any, title: str, along: str) -> None:
    axes.set_title(title, loc="left", fontsize=13, fontweight="bold", pad=10)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)
    axes.grid(visible=True, axis=along)
    axes.set_axisbelow(True)


def _say_nothing(axes: Any, labels: Labels) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(
        0.5, 0.5, labels.nothing, ha="center", va="center", color=_DIM, transform=axes.transAxes
    )


def _days(axes: Any, figures: Figures, labels: Labels) -> None:
    _frame(axes, labels.jobs, "y")
    if not figures.total:
        _say_nothing(axes, labels)
        return
    places = range(len(figures.days))
    floor = [0] * len(figures.days)
    for name, label, colour in (
        ("generated", labels.drawn, _DONE),
        ("failed", labels.failed, _FAILED),
        ("cancelled", labels.cancelled, _CANCELLED),
        ("open", labels.waiting, _OPEN),
    ):
        counts = [int(getattr(day, name)) for day in figures.days]
        if any(counts):
            axes.bar(places, counts, bottom=floor, color=colour, width=0.75, label=label)
        floor = [below + count for below, count in zip(floor, counts, strict=True)]
    every = max(1, -(-len(figures.days) // 7))
    shown = [place for place in places if (len(figures.days) - 1 - place) % every == 0]
    axes.set_xticks(shown, [figures.days[place].day[5:] for place in shown])
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set_ylim(0, max(floor) * 1.22)
    axes.legend(
        loc="upper left", ncols=4, frameon=False, fontsize=10, handlelength=0.9, columnspacing=1.2
    )


def _waits(axes: Any, figures: Figures, labels: Labels) -> None:
    _frame(axes, labels.waits, "x")
    if not figures.waits:
        _say_nothing(axes, labels)
        return
    names = [f"{percent} %" for percent in figures.waits]
    values = list(figures.waits.values())
    bars = axes.barh(names, values, color=_BAR, height=0.62)
    axes.bar_label(bars, [duration(value) for value in values], padding=5, color=_TEXT)
    axes.invert_yaxis()
    axes.set_xlim(0, max(*values, 1.0) * 1.22)
    axes.set_xticks([])


def _hours(axes: Any, figures: Figures, labels: Labels) -> None:
    _frame(axes, labels.hours, "y")
    axes.bar(range(HOURS), [100 * share for share in figures.hours], color=_BAR, width=0.8)
    shown = range(1, HOURS, 4)
    axes.set_xticks(shown, [f"{(figures.first_hour + place) % HOURS:02}:00" for place in shown])
    axes.set_ylim(0, 100)
    axes.set_yticks([0, 25, 50, 75, 100], ["0", "25 %", "50 %", "75 %", "100 %"])


def _shares(axes: Any, figures: Figures, labels: Labels) -> None:
    _frame(axes, labels.shares, "x")
    if not figures.shares:
        _say_nothing(axes, labels)
        return
    names = [
        labels.others if user_id is None else f"#{number}"
        for number, (user_id, _share) in enumerate(figures.shares, 1)
    ]
    values = [100 * share for _user_id, share in figures.shares]
    bars = axes.barh(names, values, color=_SHARES[: len(values)], height=0.62)
    axes.bar_label(bars, [f"{value:.0f} %" for value in values], padding=5, color=_TEXT)
    axes.invert_yaxis()
    axes.set_xlim(0, max(values) * 1.15)
    axes.xaxis.set_major_formatter("{x:.0f} %")
