"""Out-of-core fMRI GLM analysis on Dask: first level, group models and permutation inference."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from voxloom._version import __version__

if TYPE_CHECKING:
    from voxloom.io.denoise import load_confounds
    from voxloom.io.images import from_nifti, to_nifti
    from voxloom.io.study import Study, open_study
    from voxloom.models.beta_series import beta_series
    from voxloom.models.cluster_table import clusters_table
    from voxloom.models.concatenation import concatenate_runs
    from voxloom.models.contrasts import contrast
    from voxloom.models.design import design_matrix
    from voxloom.models.diagnostics import design_diagnostics
    from voxloom.models.exchangeability import Exchangeability
    from voxloom.models.first_level import fit_first_level, fixed_effects
    from voxloom.models.fitted import predicted, r_squared, residuals
    from voxloom.models.group import fit_group
    from voxloom.models.group_design import group_design
    from voxloom.models.group_sums import fit_sums, group_sums, merge_sums, subtract_sums
    from voxloom.models.harmonise import apply_combat, fit_combat
    from voxloom.models.inference import permutation_test
    from voxloom.models.influence import group_influence, influential_maps
    from voxloom.models.multiplicity import bonferroni, fdr, threshold
    from voxloom.models.noise import smooth_noise
    from voxloom.models.ppi import ppi_regressors
    from voxloom.models.quality import quality_series, tsnr
    from voxloom.models.runs import conjunction, contrast_over_runs
    from voxloom.models.tfce import tfce
    from voxloom.models.true_discoveries import true_discovery_proportion
    from voxloom.pipeline import plan, remove_run, run
    from voxloom.pipeline.group_maps import group_maps
    from voxloom.pipeline.ingest_images import ingest
    from voxloom.pipeline.shared_sums import export_sums, pool_sums
    from voxloom.pipeline.stored_sums import load_sums, save_sums
    from voxloom.pipeline.tested_maps import infer_maps
    from voxloom.report.design import plot_design
    from voxloom.report.in_memory import model_report
    from voxloom.report.stage import write_reports
    from voxloom.spec import TFCE, Analysis, ClusterMass, ClusterSize, MaxStat, load_analysis

#: Public name -> module that holds it. Imported at first use, so that `import voxloom` costs nothing.
_PUBLIC = {
    "Analysis": "voxloom.spec",
    "ClusterMass": "voxloom.spec",
    "ClusterSize": "voxloom.spec",
    "Exchangeability": "voxloom.models.exchangeability",
    "MaxStat": "voxloom.spec",
    "Study": "voxloom.io.study",
    "TFCE": "voxloom.spec",
    "apply_combat": "voxloom.models.harmonise",
    "beta_series": "voxloom.models.beta_series",
    "bonferroni": "voxloom.models.multiplicity",
    "clusters_table": "voxloom.models.cluster_table",
    "concatenate_runs": "voxloom.models.concatenation",
    "conjunction": "voxloom.models.runs",
    "contrast": "voxloom.models.contrasts",
    "contrast_over_runs": "voxloom.models.runs",
    "design_diagnostics": "voxloom.models.diagnostics",
    "design_matrix": "voxloom.models.design",
    "export_sums": "voxloom.pipeline.shared_sums",
    "fdr": "voxloom.models.multiplicity",
    "fit_combat": "voxloom.models.harmonise",
    "fit_first_level": "voxloom.models.first_level",
    "fit_group": "voxloom.models.group",
    "fit_sums": "voxloom.models.group_sums",
    "fixed_effects": "voxloom.models.first_level",
    "from_nifti": "voxloom.io.images",
    "group_design": "voxloom.models.group_design",
    "group_influence": "voxloom.models.influence",
    "group_maps": "voxloom.pipeline.group_maps",
    "group_sums": "voxloom.models.group_sums",
    "infer_maps": "voxloom.pipeline.tested_maps",
    "influential_maps": "voxloom.models.influence",
    "ingest": "voxloom.pipeline.ingest_images",
    "load_analysis": "voxloom.spec",
    "load_confounds": "voxloom.io.denoise",
    "load_sums": "voxloom.pipeline.stored_sums",
    "merge_sums": "voxloom.models.group_sums",
    "model_report": "voxloom.report.in_memory",
    "open_study": "voxloom.io.study",
    "permutation_test": "voxloom.models.inference",
    "plan": "voxloom.pipeline",
    "plot_design": "voxloom.report.design",
    "pool_sums": "voxloom.pipeline.shared_sums",
    "ppi_regressors": "voxloom.models.ppi",
    "predicted": "voxloom.models.fitted",
    "quality_series": "voxloom.models.quality",
    "r_squared": "voxloom.models.fitted",
    "remove_run": "voxloom.pipeline",
    "residuals": "voxloom.models.fitted",
    "run": "voxloom.pipeline",
    "save_sums": "voxloom.pipeline.stored_sums",
    "smooth_noise": "voxloom.models.noise",
    "subtract_sums": "voxloom.models.group_sums",
    "tfce": "voxloom.models.tfce",
    "threshold": "voxloom.models.multiplicity",
    "to_nifti": "voxloom.io.images",
    "true_discovery_proportion": "voxloom.models.true_discoveries",
    "tsnr": "voxloom.models.quality",
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
