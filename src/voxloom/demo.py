"""The demo: a simulated multi-site study through the whole line, and what came out against what went in."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voxloom.engine.events import Note, ignore
from voxloom.errors import StageError
from voxloom.io.nifti.images import to_nifti
from voxloom.io.store.objects import Objects
from voxloom.io.study.open import open_study
from voxloom.pipeline import run
from voxloom.pipeline.stored.fit import load_design
from voxloom.report.after_run import index_of, reports_after
from voxloom.report.overview import GroupPicture, overview
from voxloom.simulate import Recovery, Truth, active, head, recovery, write_bids_study
from voxloom.spec import load_analysis

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    import xarray as xr
    from numpy.typing import NDArray

    from voxloom.engine.events import OnEvent
    from voxloom.spec import Analysis

    FloatArray = NDArray[np.float64]

MODEL, CONTRAST, GROUP_CONTRAST = "mean", "face - house", "mean"
WEIGHTS = {"face": 1.0, "house": -1.0}


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """What the demo made and how well it found the truth.

    Parameters
    ----------
    analysis, results, store : Path
        The analysis file, the folder of the maps, the store.
    picture : Path or None
        The overview; None where matplotlib is not installed.
    report : Path
        Index of the reports.
    recovery : Recovery
        Group effect of face - house against the truth.
    """

    analysis: Path
    results: Path
    store: Path
    picture: Path | None
    report: Path
    recovery: Recovery

    def __str__(self) -> str:
        picture = self.picture or "not drawn: pip install 'voxloom[plot]'"
        return "\n".join(
            [
                "face - house over subjects, percent signal change, against the simulated truth:",
                *(f"  {line}" for line in str(self.recovery).splitlines()),
                "",
                f"report    {self.report}",
                f"picture   {picture}",
                f"maps      {self.results}",
                f"store     {self.store}",
                f"analysis  {self.analysis}",
            ]
        )


def run_demo(
    output: str | Path,
    *,
    on_event: OnEvent | None = None,
    workers: int | None = None,
    **study: Any,
) -> DemoResult:
    """Simulate a study, analyse it, and compare the group map with the truth.

    Called again, it goes on where it stopped.

    Parameters
    ----------
    output : path
        Folder for all of it.
    on_event : callable, optional
        Receives the engine's events.
    workers : int, optional
        Worker processes; by default as many as cores and memory allow.
    **study
        Passed to `voxloom.simulate.write_bids_study`.

    Raises
    ------
    StageError
        A run or a stage of the analysis failed.
    """
    folder = Path(output).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    (on_event or ignore)(Note(f"simulating a study in {folder / 'bids'}"))
    truth = write_bids_study(folder / "bids", **study)
    path = folder / "analysis.yaml"
    path.write_text(files("voxloom").joinpath("templates/demo.yaml").read_text())
    analysis = load_analysis(path)
    if workers is not None:
        analysis = analysis.model_copy(update={"workers": workers})
    done = run(analysis, on_event=on_event, afterwards=reports_after)
    if not done.ok:
        reasons = [record.reason for record in (*done.failed, *done.quarantined)]
        raise StageError("The demo did not end well:\n  " + "\n  ".join(reasons))
    maps = group_maps(done.store, analysis)
    names = ("effect", "variance", "dof", "z_score", "p_max_stat")
    volumes = {name: volume(maps[name]) for name in names}
    return DemoResult(
        analysis=path,
        results=done.output,
        store=Path(done.store),
        report=index_of(done.output),
        picture=draw(
            folder / "overview.png",
            truth,
            volumes,
            null=maps["null_max_stat"].to_numpy(),
            design=first_design(done.store, analysis),
        ),
        recovery=against_truth(volumes, truth),
    )


def group_maps(store: str, analysis: Analysis) -> xr.Dataset:
    """Read maps and null of face - house over subjects from the store."""
    results = open_study(store).results(analysis.group_digest(MODEL))
    return results.sel(contrast=CONTRAST, group_contrast=GROUP_CONTRAST).load()


def volume(array: xr.DataArray) -> FloatArray:
    """Values of a map in its volume, NaN elsewhere."""
    return np.asarray(to_nifti(array, fill=np.nan).dataobj, dtype=np.float64)


def against_truth(volumes: Mapping[str, FloatArray], truth: Truth) -> Recovery:
    """Compare the maps of face - house with what was simulated."""
    population, sample = truth.contrast(WEIGHTS)
    return recovery(
        volumes["effect"],
        volumes["variance"],
        volumes["dof"],
        volumes["p_max_stat"],
        population=population,
        sample=sample,
        active=active(population),
        mask=truth.brain,
    )


def first_design(store: str, analysis: Analysis) -> pd.DataFrame:
    """Read the design of the first run."""
    run_id = open_study(store).runs.index[0]
    return load_design(Objects(store), f"{analysis.fit_digest}/{run_id}").matrix


def draw(
    path: Path, truth: Truth, volumes: Mapping[str, FloatArray], null: FloatArray, design: pd.DataFrame
) -> Path | None:
    """Draw the overview; None where matplotlib is not installed."""
    if find_spec("matplotlib") is None:
        return None
    population, sample = truth.contrast(WEIGHTS)
    picture = GroupPicture(
        title="face - house over subjects, simulated",
        affine=truth.affine,
        background=head(truth.brain.shape).mean,
        z=volumes["z_score"],
        p_fwe=volumes["p_max_stat"],
        null=null,
        effect=volumes["effect"],
        truth=np.where(truth.brain, sample, np.nan),
        active=active(population),
        design=design,
    )
    return overview(picture, path)
