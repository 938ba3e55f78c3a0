"""Models of the runs of a subject by nilearn's names."""

from __future__ import annotations

from voxloom.glm.first_level.arrays import run_glm
from voxloom.glm.first_level.bids import first_level_from_bids
from voxloom.glm.first_level.design import (
    check_design_matrix,
    compute_regressor,
    make_first_level_design_matrix,
)
from voxloom.glm.first_level.hrf import (
    glover_dispersion_derivative,
    glover_hrf,
    glover_time_derivative,
    spm_dispersion_derivative,
    spm_hrf,
    spm_time_derivative,
)
from voxloom.glm.first_level.model import FirstLevelModel
from voxloom.glm.first_level.scaling import mean_scaling

__all__ = [
    "FirstLevelModel",
    "check_design_matrix",
    "compute_regressor",
    "first_level_from_bids",
    "glover_dispersion_derivative",
    "glover_hrf",
    "glover_time_derivative",
    "make_first_level_design_matrix",
    "mean_scaling",
    "run_glm",
    "spm_dispersion_derivative",
    "spm_hrf",
    "spm_time_derivative",
]
