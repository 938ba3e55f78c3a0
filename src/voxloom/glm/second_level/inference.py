"""`non_parametric_inference` over `voxloom.permutation_test`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from voxloom.glm.second_level.design import chosen_contrast, with_intercept
from voxloom.glm.second_level.model import SecondLevelModel
from voxloom.models.inference.exchangeability import Exchangeability
from voxloom.models.inference.permutation_test import permutation_test
from voxloom.spec.statistics import TFCE, ClusterMass, ClusterSize, MaxStat

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from voxloom.glm.images import Masker


def non_parametric_inference(
    second_level_input: Any,
    confounds: pd.DataFrame | None = None,
    design_matrix: Any = None,
    second_level_contrast: Any = None,
    first_level_contrast: Any = None,
    mask: Any = None,
    smoothing_fwhm: float | None = None,
    model_intercept: bool = True,
    n_perm: int = 10000,
    two_sided_test: bool = False,
    random_state: int | None = None,
    n_jobs: int = 1,
    verbose: int = 0,
    threshold: float | None = None,
    tfce: bool = False,
    *,
    exchangeability: Exchangeability | None = None,
    client: Any = None,
) -> Any:
    """Permutation test of a group model: family-wise error p of voxels, clusters and TFCE, as images of -log10 p.

    Differs from nilearn's: the nuisance is all that the contrast leaves of the design, rearrangement i depends on the
    seed and i alone (`n_jobs` is without effect), exhaustive where few rearrangements are distinct, F contrasts,
    exact TFCE.

    Parameters
    ----------
    second_level_input, confounds, design_matrix, second_level_contrast, first_level_contrast
        As in `SecondLevelModel`.
    mask : path or image, optional
    smoothing_fwhm : float, optional
    model_intercept : bool
        Add an intercept to a design that does not hold the constant.
    n_perm : int
        Random rearrangements besides the observed order.
    two_sided_test : bool
    random_state : int, optional
        Seed; 0 by default.
    n_jobs, verbose : int
        Without effect.
    threshold : float, optional
        Cluster-forming p, in (0, 1): adds ``size``, ``mass`` and their -log10 p.
    tfce : bool
        Adds ``tfce`` and ``logp_max_tfce``.
    exchangeability : Exchangeability, optional
        Blocks, variance groups, given rearrangements.
    client : distributed.Client, optional

    Returns
    -------
    Nifti1Image or dict of Nifti1Image
        ``logp_max_t`` alone without threshold and TFCE, else with ``t``, ``size``, ``logp_max_size``, ``mass``,
        ``logp_max_mass``, ``tfce``, ``logp_max_tfce``.

    Raises
    ------
    InputError
        The threshold is no p.
    """
    model = SecondLevelModel(mask_img=mask, smoothing_fwhm=smoothing_fwhm).fit(
        second_level_input, confounds, design_matrix
    )
    chosen = chosen_contrast(second_level_contrast, model.design_matrix_)
    design = with_intercept(model.design_matrix_.reset_index(drop=True), model_intercept)
    if not isinstance(chosen, str):
        chosen = np.atleast_2d(np.asarray(chosen, dtype=float))
        chosen = np.pad(chosen, ((0, 0), (0, design.shape[1] - chosen.shape[1])))
    found = permutation_test(
        model.maps_of(first_level_contrast),
        design,
        chosen,
        n_perm=n_perm + 1,
        statistics=_statistics(threshold, tfce),
        exchangeability=exchangeability or Exchangeability(),
        two_sided=two_sided_test,
        seed=random_state or 0,
        client=client,
    )
    return _as_images(found, model.masker_, threshold, tfce)


def _statistics(threshold: float | None, tfce: bool) -> list[Any]:
    found: list[Any] = [MaxStat()]
    if threshold is not None:
        found += [
            ClusterSize(threshold=threshold, connectivity=6, on="stat"),
            ClusterMass(threshold=threshold, connectivity=6, on="stat"),
        ]
    return [*found, TFCE(on="stat")] if tfce else found


#: Names of nilearn's images by those of ours.
_NAMES = {"max_stat": "t", "cluster_size": "size", "cluster_mass": "mass", "tfce": "tfce"}


def _as_images(found: xr.Dataset, masker: Masker, threshold: float | None, tfce: bool) -> Any:
    def logp(name: str) -> Any:
        return masker.image(cast("xr.DataArray", -np.log10(found[f"p_{name}"])))

    if threshold is None and not tfce:
        return logp("max_stat")
    images = {"t": masker.image(found["stat"])}
    for ours, theirs in _NAMES.items():
        if f"p_{ours}" in found:
            images[f"logp_max_{theirs}"] = logp(ours)
            if ours in found:
                images[theirs] = masker.image(found[ours])
    return images
