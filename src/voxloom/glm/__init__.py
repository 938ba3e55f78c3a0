"""nilearn's names for the GLM: a script changes ``nilearn.glm`` to ``voxloom.glm``."""

from __future__ import annotations

from voxloom.glm import first_level, second_level
from voxloom.glm.bids import save_glm_to_bids
from voxloom.glm.contrasts import Contrast, compute_contrast, compute_fixed_effects, expression_to_contrast_vector
from voxloom.glm.thresholding import cluster_level_inference, fdr_threshold, threshold_stats_img

__all__ = [
    "Contrast",
    "cluster_level_inference",
    "compute_contrast",
    "compute_fixed_effects",
    "expression_to_contrast_vector",
    "fdr_threshold",
    "first_level",
    "save_glm_to_bids",
    "second_level",
    "threshold_stats_img",
]
