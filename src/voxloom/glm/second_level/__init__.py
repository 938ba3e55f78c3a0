"""Group models by nilearn's names."""

from __future__ import annotations

from voxloom.glm.second_level.design import make_second_level_design_matrix
from voxloom.glm.second_level.inference import non_parametric_inference
from voxloom.glm.second_level.model import SecondLevelModel

__all__ = ["SecondLevelModel", "make_second_level_design_matrix", "non_parametric_inference"]
