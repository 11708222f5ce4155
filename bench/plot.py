"""Bar charts with Pillow, which the local cloud has anyway: a median as a bar, lowest to highest as a whisker."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from PIL import Image, ImageDraw, ImageFont

DESIGNS = {
    # Okabe and Ito's colours, told apart by the colour-blind, and in grey by their lightness
    "ours": ("Holdfast", "#0072b2"),
    "usual": ("usual design", "#e69f00"),
    "tuned": ("usual design, tuned by us", "#f0e442"),
    "floor": ("floor: bare statements", "#b8bec4"),
}
_INK, _FAINT, _GRID, _PAPER = "#20262b", "#5b646b", "#e3e6e8", "#ffffff"
_SCALE = 2  # drawn for screens with two pixels to a point
_WIDTH, _HEIGHT, _MARGIN, _BAR, _GAP = 640, 360, 56, 38, 10
_WHOLE_NUMBERS_FROM = 100


@dataclass(frozen=True)
class Panel:
    """One chart: groups of bars, each bar the rounds of one design."""

    title: str
    unit: str
    groups: Mapping[str, Mapping[str, Sequence[float]]]
    logarithmic: bool


def draw(panels: Sequence[Panel], path: Path) -> None:
    """Write the panels side by side as a PNG."""
    image = Image.new("RGB", (_WIDTH * len(panels) * _SCALE, _HEIGHT * _SCALE), _PAPER)
    pen = ImageDraw.Draw(image)
    for number, panel in enumerate(panels):
        _Chart(pen, panel, number * _WIDTH).draw()
    image.quantize(64).save(path, optimize=True)


class _Chart:
    def __init__(self, pen: ImageDraw.ImageDraw, panel: Panel, left: int) -> None:
        self._pen = pen
        self._panel = panel
        self._left, self._right = left + _MARGIN, left + _WIDTH - 20
        self._top, self._bottom = 108, _HEIGHT - 36
        every = [f for group in panel.groups.values() for rounds in group.values() for f in rounds]
        self._low = 10.0 ** math.floor(math.log10(min(every))) if panel.logarithmic else 0.0
        self._high = max(every)

    def draw(self) -> None:
        self._text(self._left, 16, self._panel.title, 15, "la")
        self._text(self._left, 38, self._panel.unit, 11, "la", _FAINT)
        self._legend()
        for tick in self._ticks():
            self._line(self._left, self._y(tick), self._right, self._y(tick), _GRID)
            self._text(self._left - 7, self._y(tick), f"{tick:,.6g}", 10, "rm", _FAINT)
        width = (self._right - self._left) / len(self._panel.groups)
        for number, (name, group) in enumerate(self._panel.groups.items()):
            middle = self._left + width * (number + 0.5)
            self._text(middle, self._bottom + 10, name, 12, "ma")
            bars = [design for design in DESIGNS if design in group]
            start = middle - (_BAR * len(bars) + _GAP * (len(bars) - 1)) / 2
            for place, design in enumerate(bars):
                self._bar(start + (_BAR + _GAP) * place, design, group[design])
        self._line(self._left, self._bottom, self._right, self._bottom, _INK)

    def _legend(self) -> None:
        x: float = self._left
        for design, (name, color) in DESIGNS.items():
            if any(design in group for group in self._panel.groups.values()):
                self._box(x, 62, x + 12, 74, color)
                self._text(x + 18, 68, name, 12, "lm")
                x += 40 + self._pen.textlength(name, ImageFont.load_default(12 * _SCALE)) / _SCALE

    def _bar(self, x: float, design: str, rounds: Sequence[float]) -> None:
        self._box(x, self._y(median(rounds)), x + _BAR, self._bottom, DESIGNS[design][1])
        middle, low, high = x + _BAR / 2, self._y(min(rounds)), self._y(max(rounds))
        self._line(middle, low, middle, high, _INK)
        for y in (low, high):
            self._line(middle - 4, y, middle + 4, y, _INK)
        figure = median(rounds)
        shown = f"{figure:,.0f}" if figure >= _WHOLE_NUMBERS_FROM else f"{figure:.2g}"
        self._text(middle, high - 4, shown, 11, "mb")

    def _ticks(self) -> list[float]:
        if self._panel.logarithmic:
            first, last = (math.floor(math.log10(f)) for f in (self._low, self._high))
            return [10.0**power for power in range(first, last + 1)]
        rough = self._high / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * nice for nice in (1, 2, 5, 10) if power * nice >= rough)
        return [step * number for number in range(int(self._high / step) + 1)]

    def _y(self, figure: float) -> float:
        if self._panel.logarithmic:
            share = math.log(figure / self._low) / math.log(self._high / self._low)
        else:
            share = figure / self._high
        return self._bottom - share * (self._bottom - self._top)

    def _line(self, x: float, y: float, x2: float, y2: float, color: str) -> None:
        self._pen.line([c * _SCALE for c in (x, y, x2, y2)], fill=color, width=_SCALE)

    def _box(self, x: float, y: float, x2: float, y2: float, color: str) -> None:
        self._pen.rectangle([c * _SCALE for c in (x, y, x2, y2)], fill=color)

    def _text(
        self, x: float, y: float, text: str, size: int, anchor: str, color: str = _INK
    ) -> None:
        font = ImageFont.load_default(size * _SCALE)
        self._pen.text((x * _SCALE, y * _SCALE), text, fill=color, font=font, anchor=anchor)
