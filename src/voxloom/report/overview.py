"""One picture of a group result: where, how sure, against which null, from which design.

Maps are shown whole, faint where the evidence is weak, with the significant voxels outlined: a bare threshold
hides how the rest looks (Taylor et al. 2023, NeuroImage 274:120138).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voxloom.errors import InputError
from voxloom.report.figures import draw_null, figure_class
from voxloom.report.slices import ROWS, SLICES, View, outline

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    BoolArray = NDArray[np.bool_]

COLOURS = "RdBu_r"
FOUND, TRUE = "black", "#00a65a"
#: |z| at which the overlay is opaque, and the end of its colour scale.
OPAQUE_Z, MAX_Z = 3.0, 6.0


@dataclass(frozen=True, kw_only=True)
class GroupPicture:
    """What the overview shows; parts that are None are left out.

    Parameters
    ----------
    title : str
    affine : (4, 4) array
        Voxel index to mm.
    background : (I, J, K) array
        Anatomy or mean image.
    z : (I, J, K) array
        Group z map, NaN outside.
    p_fwe : (I, J, K) array
        Family-wise corrected p, NaN outside.
    alpha : float
        Level of the outline.
    null : (P,) array, optional
        Maximum statistic of every permutation, the observed one first.
    null_label : str
        Name of that statistic, for the axis.
    effect, truth : (I, J, K) array, optional
        Estimated and true effect, shown against each other where both are finite.
    unit : str
        Unit of both.
    active : (I, J, K) bool array, optional
        Truly active voxels, outlined.
    design : DataFrame, optional
        A design matrix, one row per scan or map.
    """

    title: str
    affine: FloatArray
    background: FloatArray
    z: FloatArray
    p_fwe: FloatArray
    alpha: float = 0.05
    null: FloatArray | None = None
    null_label: str = "maximum |t|"
    effect: FloatArray | None = None
    truth: FloatArray | None = None
    unit: str = "% signal change"
    active: BoolArray | None = None
    design: pd.DataFrame | None = None

    def __post_init__(self) -> None:
        for name in ("z", "p_fwe", "effect", "truth", "active"):
            array = getattr(self, name)
            if array is not None and array.shape != self.background.shape:
                raise InputError(
                    f"overview: {name}",
                    f"shape {array.shape}, but the background is {self.background.shape}.",
                )


def overview(picture: GroupPicture, path: str | Path) -> Path:
    """Draw a group result as one PNG.

    Parameters
    ----------
    picture : GroupPicture
    path : path
        Where to write; folders are made.

    Returns
    -------
    Path

    Raises
    ------
    VoxloomError
        Where matplotlib is not installed.
    """
    figure = figure_class("The overview")(figsize=(14, 9), dpi=110)
    halves: Any = figure.subfigures(2, 1, height_ratios=(1.15, 1))
    top, bottom = halves
    figure.suptitle(picture.title, x=0.02, y=0.985, ha="left", fontsize=14, fontweight="bold")
    _montage(top, picture)
    panels = _panels(picture)
    if panels:
        axes = np.atleast_1d(bottom.subplots(1, len(panels)))
        bottom.subplots_adjust(left=0.065, right=0.97, bottom=0.16, top=0.86, wspace=0.3)
        for axis, draw in zip(axes, panels):
            draw(axis, picture)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def _panels(picture: GroupPicture) -> list[Callable[[Any, GroupPicture], None]]:
    """Drawings of the lower row for which the picture has the parts."""
    has = {
        _null: picture.null is not None and picture.null.size > 1,
        _scatter: picture.effect is not None and picture.truth is not None,
        _design: picture.design is not None,
    }
    return [draw for draw, present in has.items() if present]


def _montage(figure: Any, picture: GroupPicture) -> None:
    view = View.of(picture)
    axes = figure.subplots(ROWS, SLICES // ROWS)
    figure.subplots_adjust(left=0.02, right=0.9, bottom=0.02, top=0.83, wspace=0.03, hspace=0.12)
    overlay = None
    for axis in axes.ravel():
        axis.set_axis_off()
    for axis, k in zip(axes.ravel(), view.slices):
        axis.imshow(view.background[:, :, k].T, cmap="gray", vmin=0, vmax=view.white, **view.frame)
        z = view.z[:, :, k].T
        overlay = axis.imshow(
            np.ma.masked_invalid(z),
            cmap=COLOURS,
            vmin=-MAX_Z,
            vmax=MAX_Z,
            alpha=np.clip(np.nan_to_num(np.abs(z)) / OPAQUE_Z, 0, 1),
            **view.frame,
        )
        if view.active is not None:
            outline(axis, view.active[:, :, k], view, TRUE, 3.0)
        outline(axis, view.found[:, :, k], view, FOUND, 1.1)
        axis.set_title(f"z = {view.height(k):.0f} mm", fontsize=8, pad=2)
    for x, side in ((0.08, "L"), (0.92, "R")):
        axes[0, 0].text(x, 0.97, side, transform=axes[0, 0].transAxes, color="white", fontsize=9, ha="center", va="top")
    bar = figure.colorbar(overlay, cax=figure.add_axes((0.925, 0.12, 0.011, 0.6)), extend="both")
    bar.set_label("group z (faint below |z| = 3)", fontsize=9)
    _legend(figure, picture)


def _legend(figure: Any, picture: GroupPicture) -> None:
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=FOUND, lw=1.1, label=f"found: FWE p ≤ {picture.alpha:g}")]
    if picture.active is not None:
        lines.append(Line2D([], [], color=TRUE, lw=3.0, label="active in truth"))
    figure.legend(handles=lines, loc="upper right", bbox_to_anchor=(0.9, 0.945), ncols=2, frameon=False, fontsize=10)


def _null(axis: Any, picture: GroupPicture) -> None:
    draw_null(axis, np.asarray(picture.null), picture.alpha, picture.null_label)


def _scatter(axis: Any, picture: GroupPicture) -> None:
    effect, truth = np.asarray(picture.effect), np.asarray(picture.truth)
    keep = np.isfinite(effect) & np.isfinite(truth)
    x, y = truth[keep], effect[keep]
    slope, offset = np.polyfit(x, y, 1)
    ends = np.array([x.min(), x.max()])
    axis.axline((0, 0), slope=1, color="0.6", lw=1, zorder=0, label="equal")
    axis.scatter(x, y, s=5, color="#2166ac", alpha=0.35, linewidths=0)
    axis.plot(
        ends,
        offset + slope * ends,
        color="#b2182b",
        label=f"slope {slope:.2f}, r {np.corrcoef(x, y)[0, 1]:.2f}",
    )
    axis.set(
        xlabel=f"true effect ({picture.unit})",
        ylabel=f"estimate ({picture.unit})",
        title="Estimate and truth",
    )
    axis.legend(frameon=False, fontsize=9, loc="upper left")


def _design(axis: Any, picture: GroupPicture) -> None:
    assert picture.design is not None
    X = picture.design.to_numpy(dtype=float)
    axis.imshow(
        X / np.maximum(np.abs(X).max(axis=0), 1e-12),
        aspect="auto",
        cmap="gray",
        interpolation="nearest",
        vmin=-1,
        vmax=1,
    )
    axis.set_xticks(range(X.shape[1]), map(str, picture.design.columns), rotation=40, ha="right", fontsize=8)
    axis.set(ylabel="scan", title="Design of one run, columns scaled")
