"""Results of a model as files, with nilearn's names for them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np

from voxloom.glm.answers import answers, designs_of, inputs_digest, is_group, named_contrasts, settings_of
from voxloom.glm.cluster_tables import Clusters
from voxloom.glm.outputs import VARIABLES
from voxloom.io.bids.derivative_dataset import write_dataset
from voxloom.io.bids.derivatives import entities_text, mask_sidecar, sidecar, write_design, write_sidecar
from voxloom.io.nifti.series import write_series
from voxloom.models.contrasts import contrast_text
from voxloom.spec.labels import require_distinct_labels

if TYPE_CHECKING:
    from collections.abc import Mapping

    import xarray as xr

#: Values of the entity `stat` by nilearn's name of the output; that of "stat" is t or F.
STATS = {"effect_size": "effect", "effect_variance": "variance", "z_score": "z", "p_value": "p"}


def save_glm_to_bids(
    model: Any,
    contrasts: Any,
    first_level_contrast: Any = None,
    contrast_types: Mapping[str, str] | None = None,
    out_dir: Any = ".",
    prefix: str | None = None,
    **kwargs: Any,
) -> Any:
    """Write maps, designs, mask, clusters and page of a fitted model, each with a sidecar.

    Residuals, which are of the size of the data, are written of a model with ``minimize_memory=False``.

    Parameters
    ----------
    model : FirstLevelModel or SecondLevelModel
    contrasts : str, array_like, list of them, or mapping of str to one of them
        Names are made of expressions or weights, or given as keys. ``face - house`` gives ``contrast-faceMinusHouse``.
    first_level_contrast : str or array_like, optional
        For group models of fitted first-level models or of a table.
    contrast_types : mapping of str to {"t", "F"}, optional
        By name; else t of one row and F of several.
    out_dir : path
        A BIDS derivative afterwards; one that is there is added to. Files lie in ``sub-<label>`` where the names have
        it, in ``group`` for group models.
    prefix : str, optional
        Begins all names. By default the BIDS entities that the names of all input files share; files of single runs
        have those of their run.
    **kwargs
        Of the table of clusters: ``threshold``, ``alpha``, ``cluster_threshold``, ``height_control``, ``two_sided``,
        ``min_distance``. Of the page: ``title``, ``bg_img``. Those of nilearn's pictures are taken and not used.

    Returns
    -------
    The model.

    Raises
    ------
    InputError
        The model is not fitted, two names are one in file names, or a parameter is unknown.
    ContrastError
        As `compute_contrast`.
    """
    clusters, named = Clusters.of(kwargs), named_contrasts(contrasts)
    labels = require_distinct_labels(named, "contrasts")
    found = answers(model, named, first_level_contrast, contrast_types)
    page = model.generate_report(named, first_level_contrast, **kwargs)
    inputs = inputs_digest(model, first_level_contrast)
    place = Place.of(model, Path(out_dir), prefix)
    write_dataset(out_dir, name="GLM results", ignore=["*mask.*", "*design.*", "*statmap.*", "*clusters.*"])
    nib.save(model.masker_.mask_img_, place.path("mask.nii.gz"))
    write_sidecar(place.path("mask.nii.gz"), mask_sidecar(inputs))
    _write_runs(model, place, {"model": settings_of(model), "inputs": inputs})
    for name, answer in found.items():
        stem = f"contrast-{labels[name]}_"
        about = {"contrast": name, "expression": contrast_text(named[name])} | _about(model, answer, inputs)
        _write_maps(model, answer, place, stem, about)
        clusters.write(answer["z_score"].assign_coords(model.masker_.coords), place.path(f"{stem}clusters.tsv"))
    page.save_as_html(place.path("report.html"))
    return model


@dataclass(frozen=True)
class Place:
    """Folder of the files, and how their names begin: those of the model, and those of each run."""

    folder: Path
    start: str
    runs: list[str]

    @classmethod
    def of(cls, model: Any, out_dir: Path, prefix: str | None) -> Place:
        """Where the files of a model go; the folder is made."""
        entities = getattr(model, "run_entities_", [])
        shared = dict.fromkeys(key for run in entities for key in run if all(key in one for one in entities))
        common = {key: entities[0][key] for key in shared if len({run[key] for run in entities}) == 1}
        start = entities_text(common) if prefix is None else prefix
        many = len(entities) > 1
        runs = [f"{_joined(start)}run-{i}" if many else start for i in range(1, len(entities) + 1)]
        if prefix is None and all(entities):
            runs = [entities_text(run) for run in entities]
            start = entities_text({key: value for key, value in common.items() if key != "run"})
        first = start.partition("_")[0]
        folder = out_dir / ("group" if is_group(model) else first if first.startswith("sub-") else "")
        folder.mkdir(parents=True, exist_ok=True)
        return cls(folder, _joined(start), [_joined(run) for run in runs])

    def path(self, name: str, run: int | None = None) -> Path:
        """Where a file of this name lies, of the model or of one of its runs."""
        return self.folder / f"{self.start if run is None else self.runs[run]}{name}"


def _joined(start: str) -> str:
    return f"{start}_" if start and not start.endswith("_") else start


def _about(model: Any, answer: xr.Dataset, inputs: str) -> dict[str, Any]:
    """What is true of all maps of a contrast."""
    dof = np.unique(np.asarray(answer["dof"]))
    dof = dof[np.isfinite(dof)]
    return {
        "contrast_type": _kind(answer),
        "model": settings_of(model),
        "dof": float(dof[0]) if dof.size == 1 else None,
        "n": len(model.design_matrix_) if is_group(model) else len(model.results_),
        "inputs": inputs,
    }


def _kind(answer: xr.Dataset) -> str:
    return "t" if "effect" in answer else "F"


def _write_maps(model: Any, answer: xr.Dataset, place: Place, stem: str, about: Mapping[str, Any]) -> None:
    for output, variable in VARIABLES.items():
        if variable in answer:
            stat = STATS.get(output, _kind(answer))
            path = place.path(f"{stem}stat-{stat}_statmap.nii.gz")
            nib.save(model.masker_.image(answer[variable]), path)
            write_sidecar(path, sidecar(stat, **about))


def _write_runs(model: Any, place: Place, about: Mapping[str, Any]) -> None:
    """Write the design of every run, the share of the variance that its fit explains, and residuals where wanted."""
    group = is_group(model)
    designs = designs_of(model).values()
    shares = [model.r_square] if group else model.r_square
    timing = {} if group or not model.t_r else {"RepetitionTime": model.t_r}
    for i, (design, share) in enumerate(zip(designs, shares)):
        run = None if group else i
        write_design(place.path("design.tsv", run), design, {**timing, "InputsDigest": about["inputs"]})
        path = place.path("stat-rsquared_statmap.nii.gz", run)
        nib.save(share, path)
        write_sidecar(path, sidecar("rsquared", **about))
        if not model.minimize_memory:
            path = place.path("stat-errorts_statmap.nii.gz", run)
            write_series(model.residual_series()[i], path)
            write_sidecar(path, sidecar("errorts", **about))
