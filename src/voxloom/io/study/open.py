"""A study: one grid, one voxel axis, its runs and results in one store."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

import voxloom.io.accessor  # noqa: F401  (registers .vx)
from voxloom._version import __version__
from voxloom.errors import GridError, InputError, StoreError
from voxloom.io.store.access import (
    Objects,
    get_attrs,
    open_array,
    open_group_dataset,
    put_array,
    put_group,
    read_voxels,
)
from voxloom.io.study.coverage import PATH, count_coverage, write_coverage
from voxloom.io.study.export import export_run
from voxloom.io.study.fits import open_fit
from voxloom.io.study.runs import ATTRS, Run, members, read_bold, read_run, run_attrs
from voxloom.schema import MEMORY_BUDGET, SCHEMA_VERSION, Grid, voxel_coords

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from os import PathLike
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = [
    "Run",
    "Study",
    "create_study",
    "describe_results",
    "is_study",
    "open_study",
    "read_bold",
    "read_run",
]

#: Runs read at once: an object store answers in about 20 ms, so that 10,000 take 6 s, not 200.
READERS = 32
#: Arrays of the voxel axis; a study has them from the start.
AXIS = ("voxel", "ijk", "mask")
#: Attributes of a run that `Study.runs` shows.
RUN_COLUMNS = ("n_volumes", "t_r", "dtype", "n_in_mask", "n_outside", "n_nonfinite", "smoothing_fwhm", "max_error_sd")


def create_study(
    url: str | PathLike[str], grid: Grid, mask: NDArray[np.bool_], *, meta: Mapping[str, Any] | None = None
) -> Study:
    """Make the store of a study, or open it where it is there with the same voxels.

    Parameters
    ----------
    url : path-like or str
    grid : Grid
    mask : (I, J, K) bool array
        Voxels of the study; fixed from then on.
    meta : mapping, optional
        JSON-able notes on where the study comes from.

    Raises
    ------
    StoreError
        A study of another grid or of other voxels is there.
    InputError
        The mask is empty or of another shape.
    """
    objects = Objects(url)
    if mask.shape != grid.shape:
        raise GridError("mask", f"has shape {mask.shape}, but the grid has {grid.shape}.", "Give it on the grid.")
    voxel = np.flatnonzero(mask)
    if voxel.size == 0:
        raise InputError("mask", "is empty: a study needs voxels.", "Check the masks of the runs.")
    if is_study(objects):
        return _require_same(open_study(url), grid, voxel)
    write_axis(objects, mask)
    write_coverage(objects)
    describe_study(objects, grid, meta or {})
    return open_study(url)


def write_axis(objects: Objects, mask: NDArray[np.bool_]) -> None:
    """Write the voxel axis of a study, in the three forms in which readers want it (`AXIS`)."""
    voxel = np.flatnonzero(mask)
    put_array(objects, "voxel", ["voxel"], voxel.astype(np.int64))
    ijk = np.stack(np.unravel_index(voxel, mask.shape), axis=1)
    put_array(objects, "ijk", ["voxel", "axis"], ijk.astype(np.int32))
    put_array(objects, "mask", ["i", "j", "k"], np.asarray(mask, bool))


def describe_study(objects: Objects, grid: Grid, meta: Mapping[str, Any]) -> None:
    """Write the attributes that make a store a study."""
    attrs = {
        "schema_version": SCHEMA_VERSION,
        "created_by": __version__,
        "grid": grid.to_attrs(),
        "meta": dict(meta),
    }
    put_group(objects, "", {ATTRS: attrs})


def _require_same(study: Study, grid: Grid, voxel: NDArray[np.int64]) -> Study:
    if not (study.grid.same_as(grid) and np.array_equal(study.voxel, voxel)):
        raise StoreError(
            study.url,
            f"holds a study of {study.voxel.size} voxels on a grid of {study.grid.shape}, not the wanted "
            f"one of {voxel.size} voxels on {grid.shape}.",
            "Give the new study another folder.",
        )
    return study


def describe_results(
    objects: Objects, name: str, *, level: str, coords: Mapping[str, Sequence[Any]], **attrs: Any
) -> None:
    """Say what the arrays of ``results/<name>`` are about; `Study.results` shows it.

    Parameters
    ----------
    name : str
    level : str
        ``"subject"`` or ``"group"``.
    coords : mapping of str to sequence
        Labels of the dims other than ``voxel``.
    **attrs
        More JSON-able attributes.
    """
    kept = {"level": level, "coords": {dim: list(labels) for dim, labels in coords.items()}, **attrs}
    put_group(objects, f"results/{name}", {ATTRS: kept})


def results_attrs(objects: Objects, name: str) -> dict[str, Any]:
    """What `describe_results` said of ``results/<name>``; empty where it said nothing."""
    return dict((get_attrs(objects, f"results/{name}") or {}).get(ATTRS, {}))


def is_study(objects: Objects) -> bool:
    """Whether a complete study is in the store."""
    return ATTRS in (get_attrs(objects) or {})


def open_study(url: str | PathLike[str]) -> Study:
    """Open a study.

    Parameters
    ----------
    url : path-like or str
        Folder or address of its store.

    Returns
    -------
    Study
        Its runs and results are read when they are asked for.

    Raises
    ------
    StoreError
        Nothing is there, it is not a study, or a newer voxloom wrote it.
    """
    objects = Objects(url)
    attrs = (get_attrs(objects) or {}).get(ATTRS)
    if attrs is None:
        raise StoreError(objects.url, "is not a voxloom study.", "Check the path, or make one with `voxloom run`.")
    if attrs["schema_version"] > SCHEMA_VERSION:
        raise StoreError(
            objects.url,
            f"was written by voxloom {attrs['created_by']} with schema {attrs['schema_version']}; "
            f"this voxloom ({__version__}) reads up to {SCHEMA_VERSION}.",
            "Update voxloom.",
        )
    n = open_array(objects, "voxel").shape[0]
    voxel = read_voxels(objects, "voxel", slice(0, n))
    return Study(objects=objects, grid=Grid.from_attrs(attrs["grid"]), voxel=voxel, meta=attrs["meta"])


@dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """An open study. Small and picklable: it holds the voxel axis, everything else is read when asked for.

    Parameters
    ----------
    objects : Objects
        The store.
    grid : Grid
    voxel : (V,) int64 array
        Flat C-order index of each voxel.
    meta : dict
        Notes given at creation.
    """

    objects: Objects
    grid: Grid
    voxel: NDArray[np.int64] = field(repr=False)
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Address of the store."""
        return self.objects.url

    @property
    def digest(self) -> str:
        """Digest of the grid and the voxel axis."""
        axis = hashlib.sha256(json.dumps(self.grid.to_attrs(), sort_keys=True).encode())
        axis.update(self.voxel.astype("<i8").tobytes())
        return axis.hexdigest()[:16]

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The study's voxels as a volume."""
        mask = np.zeros(self.grid.shape, bool)
        mask.reshape(-1)[self.voxel] = True
        return mask

    @property
    def runs(self) -> pd.DataFrame:
        """One row per complete run: id (the index), entities, volumes, TR, what was found at ingest."""
        rows, ids = {}, members(self.objects, "runs")
        with ThreadPoolExecutor(READERS) as pool:
            every = pool.map(lambda run_id: (get_attrs(self.objects, f"runs/{run_id}") or {}).get(ATTRS), ids)
        for run_id, attrs in zip(ids, every):
            if attrs is not None:
                found = {name: attrs[name] for name in RUN_COLUMNS}
                rows[run_id] = attrs["entities"] | found | {"source": attrs["source"]["path"]}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis(index="run")

    def run(self, run_id: str) -> xr.Dataset:
        """One run as a lazy Dataset: ``bold(voxel, time)`` in physical units and what goes with it.

        Voxels outside the run's mask (``in_mask`` False) hold no data: 0 as stored.
        """
        attrs = run_attrs(self.objects, run_id)
        ds = self._on_axis(open_group_dataset(self.objects, f"runs/{run_id}"))
        ds.attrs = {"run": run_id, "t_r": attrs["t_r"], "entities": attrs["entities"]}
        return ds

    @property
    def coverage(self) -> xr.DataArray:
        """Number of runs whose own mask covers each voxel, ``(voxel)``, as the last ingest or removal left it."""
        return self._map(read_voxels(self.objects, PATH, slice(0, self.voxel.size)))

    def coverage_of(self, run_ids: Iterable[str]) -> xr.DataArray:
        """`coverage` counted over some runs, such as those of one site: ``study.runs.query("site == 'oslo'").index``.

        Raises
        ------
        StoreError
            There is no such run.
        """
        return self._map(count_coverage(self.objects, run_ids, self.voxel.size))

    def _map(self, counts: NDArray[np.int32]) -> xr.DataArray:
        coords = voxel_coords(self.grid, self.voxel)
        return xr.DataArray(counts, dims="voxel", coords=coords, name=PATH, attrs={"units": "runs"})

    def events(self, run_id: str) -> pd.DataFrame | None:
        """Events of one run."""
        return read_run(self.objects, run_id).events

    def export_run(self, run_id: str, path: str | PathLike[str], *, memory_budget: int = MEMORY_BUDGET) -> Path:
        """Write a run as the file it came from, header and stored values bit for bit; see `voxloom.io.study.export`."""
        return export_run(self, run_id, path, memory_budget=memory_budget)

    def fit(self, run_id: str, name: str = "") -> xr.Dataset:
        """First-level fit of one run as a lazy Dataset, for `contrast` and `residuals`; see `voxloom.io.study.fits`.

        Parameters
        ----------
        run_id : str
        name : str
            Digest of the model (``load_analysis(path).fit_digest``), or a part from its beginning that fits one only.
            Not needed where the run was fitted with one model alone.

        Raises
        ------
        StoreError
            None or several fit.
        """
        return open_fit(self, run_id, name)

    @property
    def results_table(self) -> pd.DataFrame:
        """One row per Dataset that `results` opens: name (the index), level, group model, contrasts, subjects."""
        rows = {}
        for name in members(self.objects, "results"):
            attrs = results_attrs(self.objects, name)
            if attrs:  # without, its subjects are not done
                coords = attrs["coords"]
                rows[name] = {
                    "level": attrs["level"],
                    "model": attrs.get("model", ""),
                    "contrasts": ", ".join(map(str, coords.get("contrast", ()))),
                    "n_subjects": len(attrs.get("subjects", coords.get("subject", ()))),
                }
        columns = ["level", "model", "contrasts", "n_subjects"]
        return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis(index="results")

    def results(self, name: str) -> xr.Dataset:
        """Results of one analysis as a lazy Dataset.

        Parameters
        ----------
        name : str
            As in `results_table`, or a part from its beginning that fits one only.

        Raises
        ------
        StoreError
            None or several fit.
        """
        names = members(self.objects, "results")
        fitting = [name] if name in names else [other for other in names if other.startswith(name)]
        if len(fitting) != 1:
            there = ", ".join(names) or "none"
            what = f"{name!r} fits {len(fitting)} results" if fitting else f"there are no results {name!r}"
            raise StoreError(self.url, f"{what}.", f"There: {there}.")
        path = f"results/{fitting[0]}"
        attrs = results_attrs(self.objects, fitting[0])
        ds = self._on_axis(open_group_dataset(self.objects, path, by_shard=True))
        labels = {dim: names for dim, names in attrs.pop("coords", {}).items() if dim in ds.dims}
        ds.attrs = attrs
        return ds.assign_coords(labels)

    def _on_axis(self, ds: xr.Dataset) -> xr.Dataset:
        return ds.assign_coords(voxel_coords(self.grid, self.voxel))

    def __repr__(self) -> str:
        sizes = " x ".join(f"{size:.3g}" for size in self.grid.voxel_sizes)
        return (
            f"<voxloom.Study {self.url}>\n"
            f"  grid    {self.grid.shape}, {sizes} mm {self.grid.space}\n"
            f"  voxels  {self.voxel.size}\n"
            f"  runs    {len(self.runs)}\n"
            f"  results {len(self.results_table)}"
        )

    def _repr_html_(self) -> str:
        return f"<pre>{escape(repr(self))}</pre>{self.runs.head(20).to_html()}{self.results_table.to_html()}"
