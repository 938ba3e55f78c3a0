"""Results as a BIDS derivative: names of files, and what their JSON says.

No date and no absolute path is written, so equal analyses of equal data give equal bytes wherever they ran.
Statistic maps are named as nilearn and FitLins name them; BIDS has no rule for them yet.
"""

from __future__ import annotations

import json
import platform
import uuid
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from voxloom._version import __version__
from voxloom.errors import InputError
from voxloom.spec.entities import ENTITIES
from voxloom.spec.labels import bids_label

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd


class Statistic(NamedTuple):
    """What a map holds."""

    description: str
    units: str


SIGNAL = "units of the signal; percent of its mean where signal_scaling is 0"
#: Values of the `stat` entity.
STATISTICS = {
    "effect": Statistic("Contrast of the parameter estimates", SIGNAL),
    "variance": Statistic("Variance of the effect", f"square of: {SIGNAL}"),
    "t": Statistic("t statistic", "1"),
    "F": Statistic("F statistic", "1"),
    "z": Statistic("z score with the same tail probability as the statistic", "1"),
    "p": Statistic("p value; of a t statistic the upper tail unless Correction says otherwise", "1"),
    "dof": Statistic("Degrees of freedom of the error", "1"),
    "n": Statistic("Number of maps that have a value", "1"),
    "runs": Statistic("Number of runs whose mask covers the voxel", "runs"),
    "rearrangements": Statistic("Random rearrangements until the voxel stopped", "1"),
    "rsquared": Statistic("Share of the variance over time that the model explains", "1"),
    "errorts": Statistic("What the model leaves of the signal, over time or maps", SIGNAL),
    "tfce": Statistic("Threshold-free cluster enhancement, with the sign of the effect", "1"),
    "clusterSize": Statistic("Voxels of the cluster that the voxel is in, with the sign of the effect", "voxels"),
    "clusterMass": Statistic("Sum over the cluster that the voxel is in, with the sign of the effect", "1"),
}
#: Tells the mask of the results from that of the brain, which others made.
MASK_DESC = "analysis"
#: Entities of a run that stay in the names of its results, in their order.
_KEPT = tuple(key for key in ENTITIES.values() if key not in ("desc", "echo", "part", "label"))
#: Packages that compute or write the numbers.
_PACKAGES = ("numpy", "scipy", "numba", "pandas", "xarray", "dask", "zarr", "nibabel", "formulaic")


def subject_name(
    entities: Mapping[str, str],
    *,
    contrast: str,
    stat: str,
    desc: str | None = None,
    extension: str = ".nii.gz",
) -> str:
    """Relative path of a map of a run or a subject.

    Parameters
    ----------
    entities : mapping of str to str
        `sub`, and of `ses`, `task`, `run`, `space`, `res`, ... those that the map still has; `site` is a folder.
    contrast : str
        Name of the contrast; made into a label.
    stat : str
        A key of `STATISTICS`.
    desc : str, optional
        Tells versions of one statistic apart, such as the correction of a p value.

    Returns
    -------
    str
        Such as ``sub-01/func/sub-01_task-x_contrast-faceMinusHouse_stat-t_statmap.nii.gz``.
    """
    parts = _run_parts(entities) | {"contrast": bids_label(contrast), "stat": _known(stat), "desc": desc}
    return str(_subject_folder(entities) / _file_name(parts, "statmap", extension))


def group_name(
    model: str,
    *,
    contrast: str,
    test: str,
    stat: str,
    entities: Mapping[str, str] | None = None,
    desc: str | None = None,
    extension: str = ".nii.gz",
) -> str:
    """Relative path of a group map.

    Parameters
    ----------
    model, contrast, test : str
        Names of the group model, of the first-level contrast and of the contrast of the group design.
    stat, desc, extension : str
        As in `subject_name`.
    entities : mapping of str to str, optional
        Of `task`, `space`, `res`, ... those that all maps share.

    Returns
    -------
    str
        Such as ``group/age/model-age_contrast-faceMinusHouse_test-mean_stat-p_desc-fwe_statmap.nii.gz``.
    """
    parts = {
        "model": bids_label(model),
        **_run_parts(entities or {}),
        "contrast": bids_label(contrast),
        "test": bids_label(test),
        "stat": _known(stat),
        "desc": desc,
    }
    return str(PurePosixPath("group", bids_label(model), _file_name(parts, "statmap", extension)))


def null_name(model: str, *, contrast: str, test: str, entities: Mapping[str, str] | None = None) -> str:
    """Relative path of the table of null distributions of a group test; see `group_name`."""
    whole = group_name(model, contrast=contrast, test=test, stat="p", entities=entities, extension=".tsv")
    return whole.replace("_stat-p_statmap", "_null")


def influence_name(model: str, *, contrast: str, test: str, entities: Mapping[str, str] | None = None) -> str:
    """Relative path of the table of influential subjects of a group test; see `group_name`."""
    return null_name(model, contrast=contrast, test=test, entities=entities).replace("_null", "_influence")


def clusters_name(model: str, *, contrast: str, test: str, entities: Mapping[str, str] | None = None) -> str:
    """Relative path of the table of clusters of a group test; see `group_name`."""
    return null_name(model, contrast=contrast, test=test, entities=entities).replace("_null", "_clusters")


def coverage_name(site: str, entities: Mapping[str, str]) -> str:
    """Relative path of the map of how many runs of a site cover each voxel; entities as in `group_name`."""
    parts = {"site": bids_label(site), **_run_parts(entities), "stat": _known("runs")}
    return str(PurePosixPath("group", _file_name(parts, "statmap", ".nii.gz")))


def entities_text(entities: Mapping[str, str]) -> str:
    """Entities of a run as its results have them in their names, such as ``sub-01_task-x_run-1_space-MNI``."""
    return "_".join(f"{key}-{value}" for key, value in _run_parts(entities).items())


def run_name(entities: Mapping[str, str], *, stat: str) -> str:
    """Relative path of a map of a run that is of no contrast, such as ``.._run-1_stat-rsquared_statmap.nii.gz``."""
    parts = _run_parts(entities) | {"stat": _known(stat)}
    return str(_subject_folder(entities) / _file_name(parts, "statmap", ".nii.gz"))


def mask_name(entities: Mapping[str, str]) -> str:
    """Relative path of the mask of the maps of a subject; see `subject_name`."""
    parts = _run_parts(entities) | {"desc": MASK_DESC}
    return str(_subject_folder(entities) / _file_name(parts, "mask", ".nii.gz"))


def group_mask_name(model: str, *, contrast: str, test: str, entities: Mapping[str, str] | None = None) -> str:
    """Relative path of the mask of the maps of a group test; see `group_name`."""
    whole = group_name(model, contrast=contrast, test=test, stat="p", entities=entities)
    return whole.replace("_stat-p_statmap", f"_desc-{MASK_DESC}_mask")


def mask_sidecar(inputs: str) -> dict[str, Any]:
    """Say in JSON what a mask is, in the entries that BIDS has for it."""
    about = {"Description": "Voxels that have a result", "Type": "Brain", "InputsDigest": inputs}
    return about | {"Software": software_versions()}


def design_name(entities: Mapping[str, str]) -> str:
    """Relative path of the design matrix of a run."""
    parts = {key: value for key, value in _run_parts(entities).items() if key not in ("space", "res", "cohort", "den")}
    return str(_subject_folder(entities) / _file_name(parts, "design", ".tsv"))


def group_design_name(model: str) -> str:
    """Relative path of the design matrix of a group model."""
    label = bids_label(model)
    return str(PurePosixPath("group", label, _file_name({"model": label}, "design", ".tsv")))


def sidecar(
    stat: str,
    *,
    model: Mapping[str, Any],
    contrast: str | None = None,
    expression: str | Sequence[str] | None = None,
    contrast_type: str | None = None,
    test: Mapping[str, Any] | None = None,
    dof: float | None = None,
    n: int | None = None,
    correction: Mapping[str, Any] | None = None,
    parameters: Mapping[str, Any] | None = None,
    runs: Sequence[str] = (),
    inputs: str | None = None,
    sources: Sequence[str] = (),
) -> dict[str, Any]:
    """Say in JSON what a map is.

    Parameters
    ----------
    stat : str
        A key of `STATISTICS`.
    model : mapping
        Options of the model as in the analysis file.
    contrast, expression : str, optional
        Name and text of the first-level contrast; several texts for F.
    contrast_type : {"t", "F", "conjunction"}, optional
        What the expressions make together.
    test : mapping, optional
        Name and text of the group contrast, and the group model's options.
    dof : float, optional
        Where it is one number; else a map of its own tells it.
    n : int, optional
        Number of maps or runs that went in.
    correction : mapping, optional
        How a p value was made: method, number of permutations, seed, tail.
    parameters : mapping, optional
        Of the statistic, where it has any.
    runs : sequence of str
        Runs it rests on: those that can answer the contrast.
    inputs : str, optional
        Digest of the data that went in.
    sources : sequence of str
        Files that went in, relative to their dataset.

    Returns
    -------
    dict
        JSON-able; entries that are not known are left out.
    """
    kind = STATISTICS[_known(stat)]
    content = {
        "Description": kind.description,
        "Units": kind.units,
        "Contrast": contrast,
        "Expression": list(expression) if isinstance(expression, list | tuple) else expression,
        "ContrastType": contrast_type,
        "Statistic": stat,
        "Model": dict(model),
        "GroupTest": None if test is None else dict(test),
        "DegreesOfFreedom": dof,
        "NumberOfMaps": n,
        "Runs": list(runs) or None,
        "Correction": None if correction is None else dict(correction),
        "Parameters": None if parameters is None else dict(parameters),
        "InputsDigest": inputs,
        "Sources": [f"bids::{source}" for source in sources] or None,
        "Software": dict(software_versions()),
    }
    return {key: value for key, value in content.items() if value is not None}


@cache
def software_versions() -> dict[str, str]:
    """Versions of voxloom, Python and the packages that made the numbers; read once, 10 ms."""
    found = {"voxloom": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # a vendored or system build without metadata
            continue
    return found


def json_text(content: Mapping[str, Any]) -> str:
    """JSON of the same bytes for the same content, whatever the order of its keys."""
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def write_sidecar(image: str | Path, content: Mapping[str, Any]) -> Path:
    """Write the JSON beside an image or table; return its path."""
    image = Path(image)
    return write_text(image.with_name(image.name.partition(".")[0] + ".json"), json_text(content))


def read_sidecar(image: str | Path) -> dict[str, Any]:
    """Content of the JSON beside an image or table; empty where there is none that can be read."""
    image = Path(image)
    try:
        content = json.loads(image.with_name(image.name.partition(".")[0] + ".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_design(path: str | Path, design: pd.DataFrame, content: Mapping[str, Any] | None = None) -> Path:
    """Write a design matrix as TSV, with its index as first column where that is named, and its JSON.

    Floats are written so that reading gives the same bits.
    """
    path = Path(path)
    index = design.index.name is not None
    text = design.to_csv(sep="\t", index=index, na_rep="n/a", lineterminator="\n")
    write_sidecar(path, {"Columns": [str(name) for name in design.columns], **(content or {})})
    return write_text(path, text)


def _known(stat: str) -> str:
    if stat not in STATISTICS:
        raise InputError("stat", f"{stat!r} is not known.", f"Known: {', '.join(STATISTICS)}.")
    return stat


def _run_parts(entities: Mapping[str, str]) -> dict[str, str | None]:
    return {key: entities[key] for key in _KEPT if key in entities}


def _subject_folder(entities: Mapping[str, str]) -> PurePosixPath:
    """Where the files of a subject lie: each site is a dataset of its own."""
    site = [entities["site"]] if "site" in entities else []
    session = [f"ses-{entities['ses']}"] if "ses" in entities else []
    return PurePosixPath(*site, f"sub-{entities['sub']}", *session, "func")


def _file_name(parts: Mapping[str, str | None], suffix: str, extension: str) -> str:
    pairs = [f"{key}-{value}" for key, value in parts.items() if value is not None]
    return "_".join([*pairs, suffix]) + extension


def write_text(path: Path, text: str) -> Path:
    """Write all of a file or nothing: a reader, and a run that was killed, never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    draft.write_text(text, encoding="utf-8", newline="\n")
    draft.replace(path)
    return path
