"""The report's figures: inline SVG that reads on a phone and on paper, the same bytes each time.

Colours are those of Okabe & Ito (2008), told apart by all kinds of colour vision; lines also differ
in dash, so that they survive a black-and-white printer.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

BLUE: Final = "#0072B2"
GREEN: Final = "#007A5A"
ORANGE: Final = "#C75300"
INK: Final = "#1F2933"
GREY: Final = "#7B8794"
PALE: Final = "#D9E2EC"
_WIDTH: Final = 4.7
_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": PALE,
    "grid.linewidth": 0.6,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "lines.linewidth": 2.0,
}
_COMPARATORS: Final = ((ORANGE, (0, (5, 2))), (GREEN, (0, (1.5, 1.5))), (GREY, (0, (6, 2, 1, 2))))


class _Drawing:
    """A figure under construction; `svg` is set when it is complete."""

    def __init__(self, height: float) -> None:
        self.figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        self.axes: Axes = self.figure.add_subplot()
        self.svg = ""


@contextmanager
def _drawing(name: str, description: str, height: float = 4.3) -> Iterator[_Drawing]:
    # The salt is the figure's name: ids within it are stable, and differ between figures.
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        drawing = _Drawing(height)
        yield drawing
        FigureCanvasSVG(drawing.figure)
        written = io.StringIO()
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        drawing.figure.savefig(written, format="svg", transparent=True, metadata=nothing)
    drawing.svg = _inline(written.getvalue(), name, description)


def _inline(svg: str, name: str, description: str) -> str:
    body = svg[svg.index("<svg") :]
    body = re.sub(r' (?:width|height)="[\d.]+pt"', "", body, count=2)
    body = re.sub(r'(id|href|clip-path)="(#|url\(#)?', rf"\g<0>{name}-", body)
    return body.replace("<svg", f'<svg role="img" aria-label="{description}"', 1)


def roc(curves: Mapping[str, Any], areas: Mapping[str, str]) -> str:
    """ROC curves of the model and what it is held against; `areas` are their AUROCs as text."""
    with _drawing("roc", "ROC curves of the model and its comparators") as drawing:
        axes = drawing.axes
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, label="Chance")
        others = [name for name in curves["roc"] if name != "model"]
        styles = [*zip(others, _COMPARATORS * len(others), strict=False)]
        for name, (color, dash) in styles:
            axes.plot(*_rates(curves, name), color=color, linestyle=dash, label=areas[name])
        axes.plot(*_rates(curves, "model"), color=BLUE, linewidth=2.6, label=areas["model"])
        axes.set(xlabel="False positive rate", ylabel="True positive rate", aspect="equal")
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
        _legend(axes, "lower right")
    return drawing.svg


def calibration(curves: Mapping[str, Any]) -> str:
    """Observed against predicted risk by groups of equal size, over a histogram of predictions."""
    found = curves["calibration"]
    with _drawing("calibration", "Observed against predicted risk") as drawing:
        axes = drawing.axes
        below = axes.inset_axes((0.0, -0.27, 1.0, 0.15), sharex=axes)
        top = 1.15 * max(_known([*found["observed"]["high"], *found["predicted"]]), default=1.0)
        top = min(1.0, top)
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, label="Perfect")
        reach = [
            [value - low for value, low in _pairs(found["observed"], "low")],
            [high - value for value, high in _pairs(found["observed"], "high")],
        ]
        axes.errorbar(
            found["predicted"],
            found["observed"]["value"],
            yerr=[[max(0.0, size) for size in sizes] for sizes in reach],
            color=BLUE,
            marker="o",
            markersize=5,
            linewidth=1.4,
            elinewidth=1.2,
            capsize=2.5,
            label="Model, 95 % interval",
        )
        axes.set(xlim=(0, top), ylim=(0, top), ylabel="Observed share")
        axes.tick_params(labelbottom=False)
        _percent(axes.xaxis, axes.yaxis)
        _legend(axes, "upper left")
        histogram = found["histogram"]
        edges = histogram["edges"]
        width = edges[1] - edges[0]
        below.bar(edges[:-1], histogram["counts"], width, align="edge", color=BLUE, alpha=0.6)
        below.set(xlabel="Predicted risk (bars: stays)", yticks=[])
        below.grid(visible=False)
        below.spines["left"].set_visible(False)
        _percent(below.xaxis)
    return drawing.svg


def decision(curves: Mapping[str, Any]) -> str:
    """Net benefit of acting on the model, on everyone and on no one (Vickers & Elkin 2006)."""
    found = curves["decision"]
    thresholds, model = found["threshold"], found["model"]
    with _drawing("decision", "Decision curve: net benefit by threshold") as drawing:
        axes = drawing.axes
        axes.axhline(0, color=GREY, linewidth=1, label="No one")
        everyone = found["treat_all"]["value"]
        axes.plot(thresholds, everyone, color=ORANGE, linestyle=(0, (5, 2)), label="Everyone")
        axes.fill_between(thresholds, model["low"], model["high"], color=BLUE, alpha=0.15, lw=0)
        axes.plot(thresholds, model["value"], color=BLUE, linewidth=2.6, label="By the model")
        ceiling = max(_known([*model["high"], *everyone]), default=0.1)
        axes.set(ylim=(-0.35 * ceiling, 1.1 * ceiling), xlim=(0, max(thresholds)))
        axes.set(xlabel="Risk above which one would act", ylabel="Net benefit per stay")
        _percent(axes.xaxis)
        _legend(axes, "upper right")
    return drawing.svg


def attrition(steps: Sequence[Mapping[str, Any]]) -> str:
    """Stays left after each step, as bars from the same start."""
    with _drawing("attrition", "Stays left after each step", 0.55 + 0.62 * len(steps)) as drawing:
        axes = drawing.axes
        stays = [step["stays"] for step in steps]
        widest = max([*stays, 1])
        last = len(steps) - 1
        for row, step in enumerate(steps):
            color = BLUE if row == last else "#7FB2D3"
            axes.barh(row, widest, height=0.34, color="#EEF2F6")
            axes.barh(row, step["stays"], height=0.34, color=color)
            axes.text(0, row - 0.27, readable(step["step"]), va="bottom", fontsize=9.5)
            left_out = f"  −{stays[row - 1] - stays[row]:,}" if row else ""
            axes.text(
                widest,
                row - 0.27,
                f"{step['stays']:,}{left_out}",
                va="bottom",
                ha="right",
                fontweight="bold" if row == last else "normal",
                fontsize=9.5,
            )
        axes.set(ylim=(last + 0.35, -0.85), xlim=(0, widest))
        axes.set_axis_off()
    return drawing.svg


def importance(shares: Sequence[Mapping[str, Any]], count: int = 15) -> str:
    """The features that weigh most."""
    top = [item for item in shares if item["share"] > 0][:count]
    with _drawing("importance", "The features that weigh most", 0.7 + 0.27 * len(top)) as drawing:
        axes = drawing.axes
        names = [readable(item["feature"]) for item in top]
        axes.barh(names, [item["share"] for item in top], height=0.62, color=BLUE)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.set(xlabel="Share of the model")
        _percent(axes.xaxis)
    return drawing.svg


def readable(name: str) -> str:
    """A name of a column or a step as words."""
    words = name.replace("_", " ")
    return words[:1].upper() + words[1:]


def _rates(curves: Mapping[str, Any], name: str) -> tuple[list[float], list[float]]:
    curve = curves["roc"][name]
    return curve["false_positive_rate"], curve["true_positive_rate"]


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _pairs(band: Mapping[str, Any], end: str) -> list[tuple[float, float]]:
    return list(zip(band["value"], band[end], strict=True))


def _percent(*sides: Any) -> None:
    for side in sides:
        side.set_major_formatter(PercentFormatter(xmax=1, decimals=0, symbol=" %"))


def _legend(axes: Axes, place: Literal["upper left", "upper right", "lower right"]) -> None:
    axes.legend(loc=place, fontsize=9, handlelength=2.4, labelspacing=0.35)
