"""`SecondLevelModel` over `voxloom.fit_group`."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from voxloom.errors import DesignError, InputError, VoxloomWarning
from voxloom.glm.contrasts import padded
from voxloom.glm.images import Masker, require_no_resampling
from voxloom.glm.outputs import outputs_of, require_output
from voxloom.glm.parameters import Parameters
from voxloom.glm.report import Reported
from voxloom.glm.second_level.design import chosen_contrast, design_of
from voxloom.glm.second_level.inputs import images_of, is_choice, labels_of
from voxloom.glm.smoothing import require_fwhm, smoothed
from voxloom.models.contrasts import contrast
from voxloom.models.group.fit import fit_group
from voxloom.models.group.fitted import group_predicted, group_r_squared, group_residuals

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


@dataclass(eq=False, repr=False)
class SecondLevelModel(Reported, Parameters):
    """A group model: least squares over maps at every voxel, over those of the maps that are finite there.

    Parameters
    ----------
    mask_img : path or image, optional
        By default the voxels that are finite in all maps and not 0 in some.
    target_affine, target_shape : None
        Resampling is refused.
    smoothing_fwhm : float, optional
        Gaussian smoothing of every map, mm.
    memory, memory_level, verbose, n_jobs, minimize_memory, reports
        As in nilearn; without effect here.
    """

    mask_img: Any = None
    target_affine: Any = None
    target_shape: Any = None
    smoothing_fwhm: float | None = None
    memory: Any = None
    memory_level: int = 1
    verbose: int = 0
    n_jobs: int = 1
    minimize_memory: bool = True
    reports: bool = True

    def require_sound(self) -> None:
        """Raise `InputError` where a parameter cannot be right."""
        require_no_resampling(self.target_affine, self.target_shape)
        require_fwhm(self.smoothing_fwhm)

    def fit(
        self, second_level_input: Any, confounds: pd.DataFrame | None = None, design_matrix: Any = None
    ) -> SecondLevelModel:
        """Take maps and their design.

        Parameters
        ----------
        second_level_input : list of maps, 4-D image, DataFrame, or list of fitted FirstLevelModel
            A table has the columns ``subject_label``, ``map_name`` and ``effects_map_path``; of it, as of models,
            `compute_contrast` chooses by ``first_level_contrast``.
        confounds : DataFrame, optional
            With ``subject_label``, for tables and models.
        design_matrix : DataFrame or path, optional
            A row per map, in their order. By default the confounds and an intercept.
        """
        self.require_sound()
        self.masker_ = Masker(self.mask_img)
        self.second_level_input_ = second_level_input
        self.confounds_ = confounds
        labels = labels_of(second_level_input)
        self.design_matrix_ = design_of(design_matrix, labels, confounds)
        self._maps: dict[str, xr.DataArray] = {}
        self._fits: dict[str, xr.Dataset] = {}
        self._chosen: Any = None
        if not is_choice(second_level_input):
            self.maps_of(None)
        return self

    def compute_contrast(
        self,
        second_level_contrast: Any = None,
        first_level_contrast: Any = None,
        second_level_stat_type: str | None = None,
        output_type: str = "z_score",
    ) -> Any:
        """Test a contrast of the design's columns.

        Parameters
        ----------
        second_level_contrast : str, array_like, optional
            Expression, weights, or rows of weights for F; may be left out where the design has one column.
        first_level_contrast : str or array_like, optional
            Which map of each subject, for tables (``map_name``) and models (a contrast of them).
        second_level_stat_type : {"t", "F"}, optional
        output_type : {"z_score", "stat", "p_value", "effect_size", "effect_variance", "all"}
            "effect_size" and "effect_variance" are of t.

        Returns
        -------
        Nifti1Image, or dict of them for "all"

        Raises
        ------
        ContrastError
            Not found in the design, not estimable, or none given and the design has several columns.
        InputError
            `output_type` is unknown, or it is not fitted.
        """
        require_output(output_type)
        found = self.answer(second_level_contrast, second_level_stat_type, first_level_contrast=first_level_contrast)
        return outputs_of(found, output_type, self.masker_.image)

    def answer(
        self, second_level_contrast: Any = None, stat_type: str | None = None, *, first_level_contrast: Any = None
    ) -> xr.Dataset:
        """A contrast as a Dataset over voxels, with ``dof``."""
        self._require_fit()
        if first_level_contrast is not None and not is_choice(self.second_level_input_):
            what = "first_level_contrast is not used: there is one map of each subject."
            warnings.warn(what, VoxloomWarning, stacklevel=3)
        columns = list(map(str, self.design_matrix_.columns))
        chosen = padded(chosen_contrast(second_level_contrast, self.design_matrix_), columns)
        fit = self._fit_of(first_level_contrast)
        return contrast(fit, chosen, stat_type=stat_type)

    @property
    def residuals(self) -> Any:
        """What the fit leaves, a 4-D image with a volume per map; of the contrast that was last computed."""
        return self._image(group_residuals(*self._last()))

    def residual_series(self) -> list[xr.DataArray]:
        """`residuals` as ``(map, voxel)``, one for all maps."""
        return [group_residuals(*self._last()).rename(map="time").assign_coords(self.masker_.coords)]

    @property
    def predicted(self) -> Any:
        """What the fit predicts, a 4-D image with a volume per map."""
        return self._image(group_predicted(self._last()[1]))

    @property
    def r_square(self) -> Any:
        """Share of the variance between maps that the fit explains, an image."""
        return self._image(group_r_squared(*self._last()))

    #: nilearn's newer names.
    residuals_, predicted_, r_square_ = residuals, predicted, r_square

    def _image(self, data: xr.DataArray) -> Any:
        return self.masker_.image(data)

    def _last(self) -> tuple[xr.DataArray, xr.Dataset]:
        """Maps and fit of the first-level contrast that was last asked for."""
        self._require_fit()
        return self.maps_of(self._chosen), self._fit_of(self._chosen)

    def _fit_of(self, first_level_contrast: Any) -> xr.Dataset:
        self._chosen, key = first_level_contrast, self._key(first_level_contrast)
        if key not in self._fits:
            self._fits[key] = fit_group(self.maps_of(first_level_contrast), self.design_matrix_.reset_index(drop=True))
        return self._fits[key]

    def maps_of(self, first_level_contrast: Any) -> xr.DataArray:
        """``(map, voxel)``: the map of every subject, smoothed; read once."""
        key = self._key(first_level_contrast)
        if key not in self._maps:
            self._maps[key] = self._read(first_level_contrast)
        return self._maps[key]

    def _key(self, first_level_contrast: Any) -> str:
        """What tells the maps apart: nothing, where there is one of each subject."""
        return repr(first_level_contrast) if is_choice(self.second_level_input_) else ""

    def _read(self, first_level_contrast: Any) -> xr.DataArray:
        images = images_of(self.second_level_input_, first_level_contrast)
        found = smoothed(self.masker_.maps(images)["effect"], images, self.smoothing_fwhm)
        if found.sizes["map"] != len(self.design_matrix_):
            raise DesignError(
                "design_matrix",
                f"has {len(self.design_matrix_)} rows, but there are {found.sizes['map']} maps.",
                "Give one row per map, in their order.",
            )
        return found.drop_vars("map")

    def _require_fit(self) -> None:
        if not hasattr(self, "design_matrix_"):
            raise InputError("SecondLevelModel", "is not fitted.", "Call fit(maps) first.")
