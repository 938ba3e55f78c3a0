"""Figures by matplotlib: how one is made, becomes part of a page, and what to say where matplotlib is missing."""

from __future__ import annotations

import base64
import io
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from voxloom.errors import VoxloomError
from voxloom.report.blocks import Text

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

BAR, MARK, SEEN, LEFT_OUT = "#9aa5b1", "black", "#b2182b", "#f3c9b8"
#: Inches of a chart: with letters of 8 points it can be read on a telephone, where it is drawn at about its size.
WIDTH, HEIGHT = 4.8, 2.7
#: Framewise displacement in mm above which a volume is commonly called an outlier (Power 2012).
FD_LIMIT = 0.5
MISSING = Text(
    paragraphs=[
        "Charts are not drawn: matplotlib is not installed. `pip install 'voxloom[plot]'` brings it; then make the "
        "report again. Tables, maps and the viewer do not need it."
    ],
    role="note",
)


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def figure_class(who: str) -> Any:
    """Figure of matplotlib, without pyplot: nothing global, safe in any thread.

    Raises
    ------
    VoxloomError
        matplotlib is not installed; `who` needs it.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise VoxloomError(f"{who} needs matplotlib. Install it with `pip install 'voxloom[plot]'`.") from None
    return Figure


def svg(figure: Figure) -> str:
    """A figure as an element of a page; the same text for the same figure."""
    import matplotlib as mpl

    text = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "voxloom"}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return "<svg" + text.getvalue().partition("<svg")[2]


def png(figure: Figure, description: str) -> str:
    """A figure of many thousand parts, as a picture in a page."""
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    return f'<img alt="{description}" src="data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}">'


def draw_null(axis: Any, null: NDArray[np.float64], alpha: float, label: str) -> None:
    """Draw maxima of rearrangements, the observed order first, with the threshold at `alpha` and what was observed."""
    threshold = float(np.quantile(null, 1 - alpha, method="higher"))
    axis.hist(null[1:], bins=60, color=BAR)
    axis.axvline(threshold, color=MARK, ls="--", lw=1.3, label=f"{1 - alpha:.0%} point: {threshold:.2f}")
    limit = 1.25 * float(null[1:].max())
    observed = {"color": SEEN, "label": f"observed: {null[0]:.2f}"}
    if null[0] < limit:
        axis.axvline(null[0], lw=1.8, **observed)
    else:  # far outside: the axis would squeeze the null into a line
        axis.plot(0.985 * limit, 0, marker=">", ms=9, ls="none", clip_on=False, **observed)
    axis.set_xlim(right=limit)
    axis.set(xlabel=label, ylabel="permutations", title=f"Null of the maximum, {null.size:,} permutations")
    axis.legend(frameon=False, fontsize=9)


def null_figure(null: NDArray[np.float64], alpha: float, label: str) -> Figure:
    """`draw_null` as a figure of its own."""
    figure: Figure = figure_class("A chart")(figsize=(WIDTH, HEIGHT), layout="constrained")
    axis = figure.subplots()
    draw_null(axis, null, alpha, label)
    tidy(axis)
    return figure


def series_figure(series: pd.DataFrame) -> Figure:
    """Global signal, DVARS and framewise displacement over the volumes of a run; those left out are shaded.

    Parameters
    ----------
    series : DataFrame
        Columns ``global_signal``, ``dvars``, ``kept``, and ``framewise_displacement`` where it is known.
    """
    names = {"global_signal": "global signal", "dvars": "DVARS", "framewise_displacement": "FD (mm)"}
    there = {name: label for name, label in names.items() if name in series}
    figure: Figure = figure_class("A chart")(figsize=(WIDTH, 0.4 + 1.1 * len(there)), layout="constrained")
    axes = np.atleast_1d(figure.subplots(len(there), 1, sharex=True))
    volumes = np.arange(len(series))
    for axis, (name, label) in zip(axes, there.items()):
        axis.plot(volumes, series[name], color="#2b4c6f", lw=0.9)
        axis.set_ylabel(label, fontsize=8)
        for volume in volumes[~series["kept"].to_numpy(dtype=bool)]:
            axis.axvspan(volume - 0.5, volume + 0.5, color=LEFT_OUT, lw=0)
        tidy(axis)
    if "framewise_displacement" in there:
        axes[-1].axhline(FD_LIMIT, color="0.6", lw=0.8, ls=":")
    axes[-1].set_xlabel("volume", fontsize=8)
    axes[-1].set_xlim(-0.5, len(series) - 0.5)
    return figure


def tidy(axis: Any) -> None:
    """Small letters, and no frame where nothing is measured."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
    axis.xaxis.label.set_size(8)
    axis.yaxis.label.set_size(8)
    axis.title.set_size(9)
