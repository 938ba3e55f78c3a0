"""`FirstLevelModel` over `voxloom.fit_first_level`."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxloom.errors import DesignError, InputError
from voxloom.glm.contrasts import over_runs
from voxloom.glm.designs import design_table
from voxloom.glm.first_level.bold import is_file, masker_of, repetition_time, require_series, runs_of, series
from voxloom.glm.first_level.design import make_first_level_design_matrix
from voxloom.glm.first_level.fitted import Fitted
from voxloom.glm.first_level.rules import noise_model_of, require_rules
from voxloom.glm.first_level.scaling import require_units, scaled
from voxloom.glm.first_level.tables import confounds_of, events_of, masks_per_run, per_run
from voxloom.glm.images import load, require_no_resampling
from voxloom.glm.outputs import outputs_of, require_output
from voxloom.glm.smoothing import require_fwhm
from voxloom.io.study.run_files import run_file
from voxloom.models.design.matrix import frame_times
from voxloom.models.first_level.fit import fit_first_level

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


@dataclass(eq=False, repr=False)
class FirstLevelModel(Fitted):
    """A general linear model per voxel of the runs of one subject.

    A path is streamed into a store in bounded memory, whatever its size, and read from there block by block; an image
    in memory is taken as it is. What stays in memory are coefficients and maps.

    Parameters
    ----------
    t_r : float, optional
        Repetition time in s; the header's when not given.
    slice_time_ref, hrf_model, drift_model, high_pass, drift_order, fir_delays, min_onset
        As in nilearn; `hrf_model` may also be a function of seconds.
    mask_img : path, image, masker or False, optional
        By default the brain, found in the first volumes; False takes every voxel.
    target_affine, target_shape : None
        Resampling is refused.
    smoothing_fwhm : float, optional
        Gaussian smoothing of every volume, mm.
    standardize : bool
        Fit in standard deviations of each voxel over time (nilearn ignores it).
    signal_scaling : {0, 1, (0, 1), False}
        Percent of the mean of each voxel, of each volume, of all; or units of the signal.
    noise_model : {"ar1", "ols", "ar2" ... "ar8", "arma11"}
        "ar1" is nilearn's under its rules, and REML per voxel under ours; the others are by REML under both.
    subject_label : str, optional
        Names the subject in a group model.
    memory, memory_level, verbose, n_jobs, minimize_memory, random_state, reports
        As in nilearn; without effect here.
    rules : {"nilearn", "voxloom"}
        Numerical rules where the two differ: AR(1), and events before `min_onset`.
    client : distributed.Client, optional
        Cluster to work on; threads without one.
    store : path-like or str, optional
        Where files are put, to be found there by the next fit; a temporary folder when not given.

    Attributes
    ----------
    design_matrices_ : list of DataFrame
    masker_, mask_img_
    run_entities_ : list of dict
        BIDS entities of the runs' files, where their names have any.
    labels_ : list of (voxel,) array
        AR(1) coefficient of every voxel; 0 where the noise has none.
    series_ : list of DataArray
        ``bold(voxel, time)`` of the runs, lazy where they are files.
    results_ : list of Dataset
        Fits, as `voxloom.fit_first_level` gives them, in place of nilearn's dictionaries of results.
    residuals, predicted, r_square : list of images
        In units of the (scaled) signal, one per run.
    """

    t_r: float | None = None
    slice_time_ref: float = 0.0
    hrf_model: Any = "glover"
    drift_model: str | None = "cosine"
    high_pass: float = 0.01
    drift_order: int = 1
    fir_delays: Any = None
    min_onset: float = -24
    mask_img: Any = None
    target_affine: Any = None
    target_shape: Any = None
    smoothing_fwhm: float | None = None
    memory: Any = None
    memory_level: int = 1
    standardize: bool = False
    signal_scaling: Any = 0
    noise_model: str = "ar1"
    verbose: int = 0
    n_jobs: int = 1
    minimize_memory: bool = True
    subject_label: str | None = None
    random_state: Any = None
    reports: bool = True
    _: KW_ONLY
    rules: str = "nilearn"
    client: Any = None
    store: Any = None

    def require_sound(self) -> None:
        """Raise `InputError` where a parameter cannot be right."""
        require_no_resampling(self.target_affine, self.target_shape)
        require_rules(self.rules)
        require_fwhm(self.smoothing_fwhm)
        require_units(self.signal_scaling, self.standardize)

    def fit(
        self,
        run_imgs: Any,
        events: Any = None,
        confounds: Any = None,
        sample_masks: Any = None,
        design_matrices: Any = None,
        bins: int = 100,
    ) -> FirstLevelModel:
        """Fit every run.

        Parameters
        ----------
        run_imgs : path, 4-D image, or list of them
        events : DataFrame or path, or a list with one for each run
            Not needed with `design_matrices`.
        confounds : DataFrame, array or path, or a list with one for each run
            Missing values in the first rows are filled, with a warning.
        sample_masks : array of indices or bool, or a list with one for each run
            Volumes to keep. By default those of ``sample_masks_``, which `first_level_from_bids` sets.
        design_matrices : DataFrame, array or path, or a list with one for each run
            In place of events and confounds.
        bins : 100
            Of the AR(1) coefficient; fixed.

        Raises
        ------
        InputError
            The numbers of images, events, confounds, masks or designs differ; an image is no series or on another grid;
            there is no repetition time.
        DesignError
            Events make no design, or it does not fit the volumes.
        """
        self.require_sound()
        runs = runs_of(run_imgs)
        grid = require_series(runs)
        self.run_entities_ = [run_file(run).entities if is_file(run) else {} for run in runs]
        given = per_run(design_matrices, len(runs), "design_matrices")
        tables = per_run(events, len(runs), "events"), per_run(confounds, len(runs), "confounds")
        masks = masks_per_run(self.sample_masks_ if sample_masks is None else sample_masks, len(runs))
        seconds = [repetition_time(self.t_r, run) for run in runs]
        self.design_matrices_ = [
            self._design(load(run).shape[3], t_r, design, *table, where=f"run {i}")
            for i, (run, t_r, design, *table) in enumerate(zip(runs, seconds, given, *tables), 1)
        ]
        self.masker_ = masker_of(self.mask_img, runs, grid)
        # a series needs times, of which a given design makes no use
        times = [1.0 if t_r is None else t_r for t_r in seconds]
        self.series_ = series(
            runs, self.masker_, times, fwhm=self.smoothing_fwhm, store=self._place(runs), client=self.client
        )
        with self._at_work():
            self.results_ = [self._fit_run(*run) for run in zip(self.series_, self.design_matrices_, masks)]
        return self

    def _place(self, runs: list[Any]) -> Any:
        if self.store is not None or not any(map(is_file, runs)):
            return self.store
        folder = tempfile.mkdtemp(prefix="voxloom-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)  # gone with the model
        return Path(folder) / "store"

    def _design(
        self, n_scans: int, t_r: float | None, given: Any, events: Any, confounds: Any, *, where: str
    ) -> pd.DataFrame:
        if given is not None:
            return design_table(given)
        if events is None and confounds is None:
            raise DesignError("events", "are missing.", "Give events, or design_matrices.")
        if t_r is None:
            raise InputError("t_r", "is missing, and the header has none.", "Pass t_r= in seconds.")
        return make_first_level_design_matrix(
            frame_times(n_scans, t_r, self.slice_time_ref),
            events_of(events),
            self.hrf_model,
            self.drift_model,
            self.high_pass,
            self.drift_order,
            self.fir_delays,
            confounds_of(confounds, f"confounds of {where}"),
            min_onset=self.min_onset,
            rules=self.rules,
        )

    def _fit_run(self, bold: xr.DataArray, design: pd.DataFrame, sample_mask: Any) -> xr.Dataset:
        signal, scaling = scaled(bold, self.signal_scaling, self.standardize)
        noise_model = noise_model_of(self.noise_model, self.rules)
        return fit_first_level(
            signal, design, noise_model=noise_model, signal_scaling=scaling, sample_mask=sample_mask
        ).compute()

    def compute_contrast(self, contrast_def: Any, stat_type: str | None = None, output_type: str = "z_score") -> Any:
        """Test a contrast, by fixed effects over the runs.

        Parameters
        ----------
        contrast_def : str, array_like, or list with one for each run
            Expression, weights (short ones are filled up with 0, with a warning), or rows of weights for F. None or
            zeros leave a run out.
        stat_type : {"t", "F"}, optional
        output_type : {"z_score", "stat", "p_value", "effect_size", "effect_variance", "all"}
            p is one-sided. "effect_size" and "effect_variance" are of t.

        Returns
        -------
        Nifti1Image, or dict of them for "all"

        Raises
        ------
        ContrastError
            Not found in the design, too long, or not estimable in any run.
        InputError
            `output_type` is unknown, contrasts are not as many as runs, or the model is not fitted.
        """
        require_output(output_type)
        return outputs_of(self.answer(contrast_def, stat_type), output_type, self.masker_.image)

    def answer(
        self, contrast_def: Any, stat_type: str | None = None, *, first_level_contrast: Any = None
    ) -> xr.Dataset:
        """A contrast as a Dataset over voxels, with ``dof``; `first_level_contrast` is of group models."""
        self._require_fit()
        return over_runs(self.results_, contrast_def, stat_type)
