"""Picture of a design: its regressors over time, how they hang together, and what contrasts can be had of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voxloom.kernels.expression import contrast_matrix
from voxloom.models.design.diagnostics import NOTABLE, SEVERE, design_diagnostics
from voxloom.report.figures import figure_class

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from voxloom.models.design.diagnostics import DesignDiagnostics, Expression

#: Colours of a variance inflation: fine, worth a look, severe.
FINE, WATCH, BAD = "#4c78a8", "#f2a900", "#c0392b"
#: Inches of a row or column, and the least and the most of a picture's side.
CELL, SMALLEST, LARGEST = 0.24, 6.0, 24.0
#: More columns than this have no room for numbers in the cells of their correlations.
NUMBERED = 14


def plot_design(design: pd.DataFrame, path: str | Path, contrasts: Mapping[str, Expression] | None = None) -> Path:
    """Draw a design matrix with the correlations and the variance inflation of its regressors.

    Parameters
    ----------
    design : DataFrame
        A row per volume, a column per regressor (`design_matrix`); columns are drawn over their largest value.
    path : path
        Where to write, as ``.png``, ``.pdf`` or ``.svg``; folders are made.
    contrasts : mapping of str to expression or weights, optional
        Drawn below the design, with their variance inflation.

    Returns
    -------
    Path

    Raises
    ------
    VoxloomError
        Where matplotlib is not installed.
    DesignError, ContrastError
        As `design_diagnostics`.
    """
    figure = design_figure(design, contrasts)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def design_figure(
    design: pd.DataFrame, contrasts: Mapping[str, Expression] | None = None, rows: str = "volumes"
) -> Figure:
    """Draw what `plot_design` writes, errors as there; `rows` is what a row of the design is."""
    figure_of = figure_class("plot_design")
    found = design_diagnostics(design, {} if contrasts is None else contrasts)
    side = float(np.clip(CELL * design.shape[1] + 2, SMALLEST, LARGEST))
    n_contrasts = sum(len(C) for C in _weights(design, contrasts).values())
    height = side + CELL * n_contrasts + (0.6 if n_contrasts else 0)
    figure: Figure = figure_of(figsize=(2.1 * side + 2.2, height), dpi=110, layout="constrained")
    grid = figure.add_gridspec(
        2, 3, width_ratios=(1, 1, 0.28), height_ratios=(side, CELL * n_contrasts + 0.01), hspace=0.02
    )
    _design(figure.add_subplot(grid[0, 0]), design, rows)
    _correlation(figure, figure.add_subplot(grid[0, 1]), found)
    _inflation(figure.add_subplot(grid[0, 2]), found)
    if contrasts:
        _contrasts(figure.add_subplot(grid[1, 0]), design, contrasts, found)
    title = f"{found.n_volumes} {rows}, rank {found.rank} of {design.shape[1]}, {found.dof} degrees of freedom, "
    figure.suptitle(title + f"condition number {found.condition_number:.3g}", x=0.01, ha="left", fontsize=10)
    return figure


def _design(axis: Any, design: pd.DataFrame, rows: str) -> None:
    values = design.to_numpy(dtype=float)
    largest = np.abs(values).max(axis=0)
    shown = values / np.where(largest > 0, largest, 1)
    axis.imshow(shown, cmap="gray", aspect="auto", interpolation="nearest", vmin=-1, vmax=1)
    axis.set_ylabel(rows)
    axis.xaxis.tick_top()
    _names(axis.set_xticks, design.columns, rotation=90)


def _correlation(figure: Any, axis: Any, found: DesignDiagnostics) -> None:
    r = found.correlation.to_numpy()
    axis.set_facecolor("0.85")  # where there is none, as of the constant
    # in the rows of the bars beside it, so not square
    image = axis.imshow(r, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest", aspect="auto")
    axis.xaxis.tick_top()
    figure.colorbar(image, ax=axis, shrink=0.5, label="correlation", pad=0.02)
    _names(axis.set_xticks, found.correlation.columns, rotation=90)
    _names(axis.set_yticks, found.correlation.columns)
    if len(r) > NUMBERED:
        return
    for i, j in zip(*np.nonzero(np.isfinite(r))):
        text = f"{r[i, j].round(2) + 0:.2f}"
        drawn = axis.text(j, i, text, ha="center", va="center", fontsize=6, color=_ink(r[i, j]))
        drawn.set_in_layout(False)  # it is within its cell; measuring all of them takes half of the time


def _ink(correlation: float) -> str:
    return "white" if abs(correlation) > 0.6 else "black"


def _inflation(axis: Any, found: DesignDiagnostics) -> None:
    vif = found.regressors["vif"].to_numpy()
    end = 1.3 * max(SEVERE, float(vif[np.isfinite(vif)].max(initial=1.0)))
    drawn = np.where(np.isposinf(vif), end, np.nan_to_num(vif))
    at = np.arange(len(vif))
    axis.barh(at, drawn, color=[_colour(value) for value in vif], height=0.7)
    for y in np.flatnonzero(np.isposinf(vif)):
        axis.text(end / 1.1, y, "\N{INFINITY}", va="center", ha="right", color="white", fontsize=8)
    for limit in (NOTABLE, SEVERE):
        axis.axvline(limit, color="0.6", linewidth=0.8, linestyle=":")
    axis.set(xlim=(1, end), ylim=(len(vif) - 0.5, -0.5), xscale="log", xlabel="variance inflation")
    ticks = [tick for tick in (1, 2, 5, 10, 100, 1000) if tick < end]
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.minorticks_off()
    axis.set_yticks([])
    axis.spines[["top", "right"]].set_visible(False)


def _colour(vif: float) -> str:
    if vif > SEVERE:
        return BAD
    return WATCH if vif > NOTABLE else FINE


def _contrasts(axis: Any, design: pd.DataFrame, contrasts: Mapping[str, Expression], found: DesignDiagnostics) -> None:
    """Weights, an F contrast as the rows it has."""
    rows = _weights(design, contrasts)
    weights = np.concatenate(list(rows.values()))
    largest = np.abs(weights).max()
    axis.imshow(weights, cmap="PuOr_r", aspect="auto", interpolation="nearest", vmin=-largest, vmax=largest)
    vif = found.contrasts["vif"]
    _names(axis.set_yticks, [label for name, C in rows.items() for label in _row_names(name, vif[name], len(C))])
    axis.set_xticks([])


def _weights(design: pd.DataFrame, contrasts: Mapping[str, Expression] | None) -> dict[str, NDArray[np.float64]]:
    columns = [str(name) for name in design.columns]
    return {name: contrast_matrix(expression, columns) for name, expression in (contrasts or {}).items()}


def _row_names(name: str, vif: float, n_rows: int) -> list[str]:
    return [f"{name}  (VIF {vif:.2g})", *[""] * (n_rows - 1)]


def _names(set_ticks: Any, names: Any, **style: Any) -> None:
    set_ticks(range(len(names)), [str(name) for name in names], fontsize=7, **style)
