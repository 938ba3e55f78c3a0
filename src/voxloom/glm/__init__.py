"""nilearn's names for the GLM: a script changes ``nilearn.glm`` to ``voxloom.glm``."""

from __future__ import annotations

from voxloom.glm import second_level
from voxloom.glm.thresholding import cluster_level_inference, fdr_threshold, threshold_stats_img

__all__ = ["cluster_level_inference", "fdr_threshold", "second_level", "threshold_stats_img"]
