"""Results of a model as files, with nilearn's names for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np

from voxloom.errors import InputError
from voxloom.glm.images import is_many
from voxloom.glm.thresholding import CONNECTIVITY, threshold_stats_img
from voxloom.io.derivative_dataset import write_dataset
from voxloom.io.derivatives import sidecar, write_design, write_sidecar
from voxloom.models.cluster_table import clusters_table
from voxloom.models.contrasts import contrast_text
from voxloom.spec.labels import require_distinct_labels
from voxloom.spec.section import did_you_mean

if TYPE_CHECKING:
    import pandas as pd

#: Values of the entity `stat` by nilearn's name of the output; that of "stat" is t or F.
STATS = {"effect_size": "effect", "effect_variance": "variance", "z_score": "z", "p_value": "p"}
#: Parameters of a model that say how its numbers came about, where they are plain.
PLAIN = (str, int, float, bool)
#: Those that say where things are, or how it was done.
ELSEWHERE = {"mask_img", "memory", "memory_level", "verbose", "n_jobs", "minimize_memory", "reports", "store"}
#: Of nilearn's report, which is not made here.
OF_REPORTS = {"title", "bg_img", "plot_type", "display_mode", "cut_coords"}


@dataclass(frozen=True, kw_only=True)
class Clusters:
    """Threshold of the table of clusters: as in `threshold_stats_img`, and mm between its peaks."""

    threshold: float | None = None
    alpha: float = 0.001
    cluster_threshold: int = 0
    height_control: str | None = "fpr"
    two_sided: bool = False
    min_distance: float = 8.0

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Clusters:
        """Parameters as given; what only a report needs is left out.

        Raises
        ------
        InputError
            There is no such parameter.
        """
        known = [field.name for field in fields(cls)]
        for name in given:
            if name not in known and name not in OF_REPORTS:
                raise InputError("save_glm_to_bids", f"has no parameter {name!r}.", did_you_mean(name, known))
        return cls(**{name: value for name, value in given.items() if name in known})

    def write(self, z: Any, masker: Any, path: Path) -> None:
        """Write the clusters of a z image as a table."""
        options = {name: getattr(self, name) for name in ("alpha", "threshold", "height_control", "two_sided")}
        _, cut = threshold_stats_img(z, masker, **options)
        table: dict[str, Any] = {"two_sided": self.two_sided, "min_size": max(1, self.cluster_threshold)}
        clusters_table(
            masker.one(z),
            threshold=cut,
            connectivity=CONNECTIVITY,
            min_distance=self.min_distance,
            path=path,
            **table,
        )
        kept = {"Threshold": float(cut) if np.isfinite(cut) else None, "HeightControl": cut.height_control}
        write_sidecar(path, kept | {"Alpha": self.alpha, "TwoSided": self.two_sided, "MinimumSize": table["min_size"]})


def save_glm_to_bids(
    model: Any,
    contrasts: Any,
    first_level_contrast: Any = None,
    contrast_types: Mapping[str, str] | None = None,
    out_dir: Any = ".",
    prefix: str | None = None,
    **kwargs: Any,
) -> Any:
    """Write maps, designs, mask and clusters of a fitted model.

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
        Files lie in ``sub-<label>`` where the names have it, in ``group`` for group models.
    prefix : str, optional
        Begins all names. By default the BIDS entities that the names of all input files share.
    **kwargs
        Of the table of clusters: ``threshold``, ``alpha``, ``cluster_threshold``, ``height_control``, ``two_sided``,
        ``min_distance``. Those of nilearn's report are taken and not used.

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
    folder, begin = _place(model, Path(out_dir), prefix)
    maps = {
        name: model.compute_contrast(
            chosen,
            **({} if first_level_contrast is None else {"first_level_contrast": first_level_contrast}),
            **{_stat_type_name(model): (contrast_types or {}).get(name)},
            output_type="all",
        )
        for name, chosen in named.items()
    }
    write_dataset(out_dir, name="GLM results", ignore=["*mask.nii.gz"])
    nib.save(model.masker_.mask_img_, folder / f"{begin}mask.nii.gz")
    _write_runs(model, folder, begin)
    for name, images in maps.items():
        stem = f"{begin}contrast-{labels[name]}"
        text, kind = contrast_text(named[name]), "t" if "effect_size" in images else "F"
        for output, img in images.items():
            stat = STATS.get(output, kind)
            path = folder / f"{stem}_stat-{stat}_statmap.nii.gz"
            nib.save(img, path)
            about: dict[str, Any] = {"expression": text, "contrast_type": kind, "model": _parameters(model)}
            write_sidecar(path, sidecar(stat, contrast=name, **about))
        clusters.write(images["z_score"], model.masker_, folder / f"{stem}_clusters.tsv")
    return model


def named_contrasts(contrasts: Any) -> dict[str, Any]:
    """Contrasts by name."""
    if isinstance(contrasts, Mapping):
        return dict(contrasts)
    several = is_many(contrasts) and not isinstance(contrasts, np.ndarray)
    return {contrast_text(one): one for one in (contrasts if several else [contrasts])}


def _is_group(model: Any) -> bool:
    return hasattr(model, "design_matrix_")


def _stat_type_name(model: Any) -> str:
    return "second_level_stat_type" if _is_group(model) else "stat_type"


def _place(model: Any, out_dir: Path, prefix: str | None) -> tuple[Path, str]:
    """Folder of the files, and how their names begin."""
    if not hasattr(model, "masker_"):
        raise InputError("model", "is not fitted.", "Call fit first.")
    begin = _shared_entities(model) if prefix is None else prefix
    first = begin.partition("_")[0]
    folder = out_dir / ("group" if _is_group(model) else first if first.startswith("sub-") else "")
    folder.mkdir(parents=True, exist_ok=True)
    return folder, f"{begin}_" if begin and not begin.endswith("_") else begin


def _shared_entities(model: Any) -> str:
    runs = getattr(model, "run_entities_", None) or [{}]
    shared = {key: runs[0].get(key) for key in ("sub", "ses", "task", "space")}
    kept = {key: value for key, value in shared.items() if value and all(run.get(key) == value for run in runs)}
    return "_".join(f"{key}-{value}" for key, value in kept.items())


def _write_runs(model: Any, folder: Path, begin: str) -> None:
    """Write designs; of first-level models also the shares of variance explained."""
    if _is_group(model):
        write_design(folder / f"{begin}design.tsv", model.design_matrix_)
        return
    designs: list[pd.DataFrame] = model.design_matrices_
    for i, (design, r_square) in enumerate(zip(designs, model.r_square), 1):
        run = f"{begin}run-{i}_" if len(designs) > 1 else begin
        write_design(folder / f"{run}design.tsv", design, {"RepetitionTime": model.t_r} if model.t_r else None)
        nib.save(r_square, folder / f"{run}stat-rsquared_statmap.nii.gz")


def _parameters(model: Any) -> dict[str, Any]:
    params = {name: value for name, value in model.get_params().items() if name not in ELSEWHERE}
    return {"Type": type(model).__name__} | {name: v for name, v in params.items() if isinstance(v, PLAIN)}
