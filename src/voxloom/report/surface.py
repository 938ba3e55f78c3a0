"""A map on the cortical surface: fsaverage5, which comes with nilearn, drawn by nilearn."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from voxloom.io.nifti.images import to_nifti
from voxloom.report.blocks import Picture
from voxloom.report.figures import png

if TYPE_CHECKING:
    import xarray as xr

#: Views of each half, from left to right.
VIEWS = (("left", "lateral"), ("left", "medial"), ("right", "medial"), ("right", "lateral"))


def can_project(space: str) -> bool:
    """Whether maps of a space lie on fsaverage, and nilearn is there to draw them."""
    return space.startswith("MNI") and find_spec("nilearn") is not None and find_spec("matplotlib") is not None


def surface_picture(map: xr.DataArray, threshold: float, unit: str = "z") -> Picture:
    """Project a map of an MNI space to the inflated surface, and draw what is at or beyond the threshold.

    Parameters
    ----------
    map : DataArray
        ``(voxel)`` with a grid.
    threshold : float
    unit : str
        Of the scale.
    """
    from matplotlib.figure import Figure
    from nilearn.datasets import load_fsaverage, load_fsaverage_data
    from nilearn.surface import SurfaceImage

    mesh, sulci = load_fsaverage("fsaverage5"), load_fsaverage_data(data_type="sulcal")
    with warnings.catch_warnings():
        # of vertices outside the volume, which have no value
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        values = SurfaceImage.from_volume(mesh["pial"], to_nifti(map, fill=0.0))
    largest = max(float(np.nanmax(np.abs(map.to_numpy()))), threshold)
    figure: Any = Figure(figsize=(11, 2.1), dpi=100)
    axes = figure.subplots(1, 4, subplot_kw={"projection": "3d"}, gridspec_kw={"wspace": -0.15})
    for axis, (hemi, view) in zip(axes, VIEWS):
        draw_half(mesh["inflated"], values, sulci, hemi=hemi, view=view, threshold=threshold, vmax=largest, axes=axis)
    figure.subplots_adjust(left=0, right=1, bottom=-0.12, top=1.12)
    caption = (
        f"{unit} beyond {threshold:.3g} on the inflated surface (fsaverage5); left hemisphere (lateral, medial), then "
        "right (medial, lateral). Red to yellow: positive; blue: negative. It does not follow the slider."
    )
    return Picture(markup=png(figure, "Map on the inflated cortical surface"), caption=caption, wide=True)


def draw_half(mesh: Any, values: Any, sulci: Any, **how: Any) -> None:
    """One view of one half."""
    from nilearn.plotting import plot_surf_stat_map

    plot_surf_stat_map(
        mesh,
        stat_map=values,
        bg_map=sulci,
        cmap="cold_hot",
        colorbar=False,
        bg_on_data=True,
        engine="matplotlib",
        **how,
    )
