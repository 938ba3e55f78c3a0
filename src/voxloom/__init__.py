"""Out-of-core fMRI GLM analysis on Dask: first level, group models and permutation inference."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from voxloom._version import __version__

if TYPE_CHECKING:
    from voxloom.io.bids.denoise import load_confounds
    from voxloom.io.nifti.images import from_nifti, to_nifti
    from voxloom.io.study.open import Study, open_study
    from voxloom.models.contrasts import contrast
    from voxloom.models.design.concatenation import concatenate_runs
    from voxloom.models.design.diagnostics import design_diagnostics
    from voxloom.models.design.matrix import design_matrix
    from voxloom.models.design.ppi import ppi_regressors
    from voxloom.models.first_level.beta_series import beta_series
    from voxloom.models.first_level.fit import fit_first_level, fixed_effects
    from voxloom.models.first_level.fitted import predicted, r_squared, residuals
    from voxloom.models.first_level.noise import smooth_noise
    from voxloom.models.first_level.quality import quality_series, tsnr
    from voxloom.models.first_level.runs import conjunction, contrast_over_runs
    from voxloom.models.group.design import group_design
    from voxloom.models.group.fit import fit_group
    from voxloom.models.group.harmonise import apply_combat, fit_combat
    from voxloom.models.group.influence import group_influence, influential_maps
    from voxloom.models.group.sums import fit_sums, group_sums, merge_sums, subtract_sums
    from voxloom.models.inference.cluster_table import clusters_table
    from voxloom.models.inference.exchangeability import Exchangeability
    from voxloom.models.inference.multiplicity import bonferroni, fdr, threshold
    from voxloom.models.inference.permutation_test import permutation_test
    from voxloom.models.inference.tfce import tfce
    from voxloom.models.inference.true_discoveries import true_discovery_proportion
    from voxloom.pipeline import plan, remove_run, run
    from voxloom.pipeline.given_maps.group_maps import group_maps
    from voxloom.pipeline.given_maps.infer_maps import infer_maps
    from voxloom.pipeline.ingest_images import ingest
    from voxloom.pipeline.site_sums.api import export_sums, pool_sums
    from voxloom.pipeline.site_sums.stored import load_sums, save_sums
    from voxloom.report.design import plot_design
    from voxloom.report.in_memory import model_report
    from voxloom.report.stage import write_reports
    from voxloom.spec import TFCE, Analysis, ClusterMass, ClusterSize, MaxStat, load_analysis

#: Public name -> module that holds it. Imported at first use, so that `import voxloom` costs nothing.
_PUBLIC = {
    "Analysis": "voxloom.spec",
    "ClusterMass": "voxloom.spec",
    "ClusterSize": "voxloom.spec",
    "Exchangeability": "voxloom.models.inference.exchangeability",
    "MaxStat": "voxloom.spec",
    "Study": "voxloom.io.study.open",
    "TFCE": "voxloom.spec",
    "apply_combat": "voxloom.models.group.harmonise",
    "beta_series": "voxloom.models.first_level.beta_series",
    "bonferroni": "voxloom.models.inference.multiplicity",
    "clusters_table": "voxloom.models.inference.cluster_table",
    "concatenate_runs": "voxloom.models.design.concatenation",
    "conjunction": "voxloom.models.first_level.runs",
    "contrast": "voxloom.models.contrasts",
    "contrast_over_runs": "voxloom.models.first_level.runs",
    "design_diagnostics": "voxloom.models.design.diagnostics",
    "design_matrix": "voxloom.models.design.matrix",
    "export_sums": "voxloom.pipeline.site_sums.api",
    "fdr": "voxloom.models.inference.multiplicity",
    "fit_combat": "voxloom.models.group.harmonise",
    "fit_first_level": "voxloom.models.first_level.fit",
    "fit_group": "voxloom.models.group.fit",
    "fit_sums": "voxloom.models.group.sums",
    "fixed_effects": "voxloom.models.first_level.fit",
    "from_nifti": "voxloom.io.nifti.images",
    "group_design": "voxloom.models.group.design",
    "group_influence": "voxloom.models.group.influence",
    "group_maps": "voxloom.pipeline.given_maps.group_maps",
    "group_sums": "voxloom.models.group.sums",
    "infer_maps": "voxloom.pipeline.given_maps.infer_maps",
    "influential_maps": "voxloom.models.group.influence",
    "ingest": "voxloom.pipeline.ingest_images",
    "load_analysis": "voxloom.spec",
    "load_confounds": "voxloom.io.bids.denoise",
    "load_sums": "voxloom.pipeline.site_sums.stored",
    "merge_sums": "voxloom.models.group.sums",
    "model_report": "voxloom.report.in_memory",
    "open_study": "voxloom.io.study.open",
    "permutation_test": "voxloom.models.inference.permutation_test",
    "plan": "voxloom.pipeline",
    "plot_design": "voxloom.report.design",
    "pool_sums": "voxloom.pipeline.site_sums.api",
    "ppi_regressors": "voxloom.models.design.ppi",
    "predicted": "voxloom.models.first_level.fitted",
    "quality_series": "voxloom.models.first_level.quality",
    "r_squared": "voxloom.models.first_level.fitted",
    "remove_run": "voxloom.pipeline",
    "residuals": "voxloom.models.first_level.fitted",
    "run": "voxloom.pipeline",
    "save_sums": "voxloom.pipeline.site_sums.stored",
    "smooth_noise": "voxloom.models.first_level.noise",
    "subtract_sums": "voxloom.models.group.sums",
    "tfce": "voxloom.models.inference.tfce",
    "threshold": "voxloom.models.inference.multiplicity",
    "to_nifti": "voxloom.io.nifti.images",
    "true_discovery_proportion": "voxloom.models.inference.true_discoveries",
    "tsnr": "voxloom.models.first_level.quality",
    "write_reports": "voxloom.report.stage",
}

__all__ = [
    "TFCE",
    "Analysis",
    "ClusterMass",
    "ClusterSize",
    "Exchangeability",
    "MaxStat",
    "Study",
    "__version__",
    "apply_combat",
    "beta_series",
    "bonferroni",
    "clusters_table",
    "concatenate_runs",
    "conjunction",
    "contrast",
    "contrast_over_runs",
    "design_diagnostics",
    "design_matrix",
    "export_sums",
    "fdr",
    "fit_combat",
    "fit_first_level",
    "fit_group",
    "fit_sums",
    "fixed_effects",
    "from_nifti",
    "group_design",
    "group_influence",
    "group_maps",
    "group_sums",
    "infer_maps",
    "influential_maps",
    "ingest",
    "load_analysis",
    "load_confounds",
    "load_sums",
    "merge_sums",
    "model_report",
    "open_study",
    "permutation_test",
    "plan",
    "plot_design",
    "pool_sums",
    "ppi_regressors",
    "predicted",
    "quality_series",
    "r_squared",
    "remove_run",
    "residuals",
    "run",
    "save_sums",
    "smooth_noise",
    "subtract_sums",
    "tfce",
    "threshold",
    "to_nifti",
    "true_discovery_proportion",
    "tsnr",
    "write_reports",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'voxloom' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
