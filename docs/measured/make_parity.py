"""Write parity.md beside this: every option of nilearn's FirstLevelModel, beside what voxloom does with the same data.

Run by `make docs`, checked by tests/test_parity.py.
"""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import nilearn
import numpy as np
from nilearn.glm.first_level import spm_hrf

from parity_measures import (
    F_NAMES,
    F_ROWS,
    SHAPE,
    N,
    apart,
    both,
    bump,
    confounded,
    early,
    given_design,
    modulated,
    ours,
    output,
    over_runs,
    sampled_bump,
    scrubbed,
    singular,
    smoothed,
    theirs,
    wide_f,
)

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = Path(__file__).with_name("parity.md")
#: Differences up to this share of the largest value are rounding.
ROUNDING = 1e-11


class Row(NamedTuple):
    """One setting: what nilearn does, what voxloom does, and how far they are apart (None: nothing to compare)."""

    option: str
    setting: str
    here: str
    measure: Callable[[], float] | None = None
    same: bool = True


RESPONSES = [m + tail for m in ("spm", "glover") for tail in ("", " + derivative", " + derivative + dispersion")]


ROWS = [
    Row("t_r", "2 s", "`frame_times(n, t_r)`; from sidecar and header in an analysis", both),
    Row("slice_time_ref", "0.5", "the same", partial(both, slice_time_ref=0.5)),
    *(
        Row("hrf_model", f"`{m}`", "the same; the default is spm, nilearn's glover", partial(both, hrf_model=m))
        for m in RESPONSES
    ),
    Row(
        "hrf_model",
        "`fir`, delays 0 to 2",
        "the same",
        partial(both, "face_delay_2 - house_delay_2", hrf_model="fir", fir_delays=[0, 1, 2]),
    ),
    Row("hrf_model", "None", "the same", partial(both, hrf_model=None)),
    Row(
        "hrf_model",
        "f(t_r, oversampling)",
        "the same",
        partial(both, "face_spm_hrf - house_spm_hrf", hrf_model=spm_hrf),
    ),
    Row("hrf_model", "[f, g]", "the same", partial(both, "face_spm_hrf", hrf_model=[spm_hrf, sampled_bump])),
    Row(
        "hrf_model",
        "f(seconds)",
        "one argument: sampled for you; nilearn calls it with two",
        lambda: apart(ours("face_bump", hrf_model=bump), theirs("face_sampled_bump", hrf_model=sampled_bump)),
    ),
    Row("drift_model", "`cosine`", "the same", partial(both, drift_model="cosine")),
    Row("drift_model", "`polynomial`", "the same", partial(both, drift_model="polynomial")),
    Row("drift_model", "None", "the same", partial(both, drift_model=None)),
    Row("high_pass", "0.02 Hz", "the same; 0.5 / TR and above is refused", partial(both, high_pass=0.02)),
    Row("drift_order", "3", "the same", partial(both, drift_model="polynomial", drift_order=3)),
    Row(
        "fir_delays", "[0, 3]", "the same, in scans", partial(both, "face_delay_3", hrf_model="fir", fir_delays=[0, 3])
    ),
    Row("min_onset", "-10 s", "the same for events after it", partial(both, min_onset=-10)),
    Row("min_onset", "an event at -30 s", "dropped with a warning; nilearn moves it to -24 s", early, same=False),
    Row("mask_img", "an image", "the same", both),
    Row("mask_img", "None", "a study takes union or intersection of run masks; `from_nifti` every voxel with signal"),
    Row("target_affine", "", "not there: nothing is resampled"),
    Row("target_shape", "", "not there: nothing is resampled"),
    Row("smoothing_fwhm", "6 mm", "the same (difference of the images)", smoothed),
    Row("memory", "", "not there: results are kept in the store"),
    Row("memory_level", "", "not there"),
    Row("standardize", "", "not there; nilearn never applies it"),
    Row("signal_scaling", "False", "`None`, the default; nilearn's is 0", both),
    Row("signal_scaling", "0", "the same", partial(both, signal_scaling=0)),
    Row(
        "signal_scaling",
        "1, (0, 1)",
        "refused: scaling by the volume's mean removes effects; nilearn's 1 raises an error",
    ),
    Row("noise_model", "`ols`", "the same", both),
    Row(
        "noise_model",
        "`ar1`",
        "`ar1-yule-walker`; equal where the design has a constant: nilearn takes out the mean of all residuals",
        partial(both, noise_model="ar1"),
    ),
    Row(
        "noise_model",
        "`ar1`",
        "`ar1`, the default here: REML per voxel with Kenward-Roger degrees of freedom, to keep false positives down",
        lambda: apart(ours(noise_model="ar1"), theirs(noise_model="ar1")),
        same=False,
    ),
    Row(
        "noise_model",
        "`ar3`",
        "`ar3`: REML per voxel; nilearn clusters voxels, so that its result depends on the batch",
        lambda: apart(ours(noise_model="ar3"), theirs(noise_model="ar3", random_state=0)),
        same=False,
    ),
    Row("n_jobs", "", "`workers`, `cluster`; results do not depend on them"),
    Row("minimize_memory", "", "not there: a fit keeps no residuals"),
    Row("subject_label", "", "from BIDS"),
    Row("random_state", "", "not there: no fit is random"),
    Row("reports", "", "not there"),
    Row("verbose", "", "not there: progress is of the command line"),
    Row("fit: events", "`modulation` column", '`modulation="amplitude"`', partial(modulated, "amplitude")),
    Row(
        "fit: events",
        "`modulation` column",
        '`"separate"`, the default: a regressor of its own, centred',
        partial(modulated, "separate"),
        same=False,
    ),
    Row("fit: confounds", "three columns", "the same; `n/a` is an error", confounded),
    Row("fit: sample_masks", "6 volumes out, `ols`", "the same", partial(scrubbed, "ols")),
    Row(
        "fit: sample_masks",
        "6 volumes out, `ar1`",
        "autocorrelation does not reach over gaps; in nilearn it does",
        partial(scrubbed, "ar1"),
        same=False,
    ),
    Row("fit: design_matrices", "a table", "the same", given_design),
    Row(
        "fit: design_matrices",
        "a column twice",
        "variance over scans - rank; nilearn's over scans - columns",
        singular,
        same=False,
    ),
    Row("fit: bins", "", "not there; a grid of 0.01, nilearn's usual"),
    Row("contrast", "expression", "the same, backticks included", partial(both, "0.5 * face + 0.5 * house")),
    Row("contrast", "weights, too few", "refused; nilearn fills up with 0"),
    Row("contrast", "two rows, F", "the same", lambda: apart(ours(F_NAMES), theirs(wide_f()))),
    Row("contrast", "one row, F", '`stat_type="F"`', lambda: apart(ours(stat_type="F"), theirs(stat_type="F"))),
    Row("output_type", "`effect_size`", "`effect`", partial(output, "effect_size", "effect")),
    Row("output_type", "`effect_variance`", "`variance`", partial(output, "effect_variance", "variance")),
    Row("output_type", "`stat`", "`stat`", partial(output, "stat", "stat")),
    Row(
        "output_type",
        "`z_score`",
        "`z_score`, exact beyond 37 too, where nilearn stops",
        partial(output, "z_score", "z_score"),
    ),
    Row("output_type", "`p_value`", "`p_value`, one-sided", partial(output, "p_value", "p_value")),
    Row("output_type", "`effect_size` of F", "`contrast_rows`: effects in the data's units; nilearn's are whitened"),
    Row("several runs", "t", "`fixed_effects`", partial(over_runs, "face - house", None)),
    Row(
        "several runs",
        "F",
        "`combine_f`: from the mean effect and its covariance; nilearn adds whitened effects",
        partial(over_runs, F_ROWS, None),
        same=False,
    ),
    Row("several runs", "a condition missing in one", "the mean over the runs that have it; nilearn raises an error"),
    Row("compute_fixed_effects", "plain", "the same", partial(over_runs, "face - house", False)),
    Row("compute_fixed_effects", "precision_weighted", "the same", partial(over_runs, "face - house", True)),
]


def measured(row: Row) -> float | None:
    """The difference, without the warnings that both packages give on the way."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return None if row.measure is None else row.measure()


def line(row: Row, difference: float | None) -> str:
    """A line of the table."""
    if difference is None:
        return f"| {row.option} | {row.setting} | | {row.here} |"
    number = f"< {ROUNDING:g}" if row.same else f"{difference:.1g}"
    return f"| {row.option} | {row.setting} | {number} | {row.here} |"


HEAD = f"""# nilearn's FirstLevelModel, option by option

Written by `make_parity.py` beside it with nilearn {{version}}. The number is the largest difference of the t (or F, or
named) map over all voxels, over its largest value: {N} volumes of {np.prod(SHAPE)} voxels with autocorrelated noise,
two conditions. Below {ROUNDING:g} it is rounding: the two give the same. Options that a row does not name are equal in
both: `hrf_model="spm"`, `noise_model="ols"`, cosines below 0.01 Hz. No number: there is nothing to compare. Why things
differ: [Statistics](../explanation/statistics.md).

| option of nilearn | set to | difference | in voxloom |
|---|---|---|---|
"""


def page(differences: list[float | None]) -> str:
    """The whole page."""
    rows = [line(row, difference) for row, difference in zip(ROWS, differences, strict=True)]
    return HEAD.format(version=nilearn.__version__) + "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page([measured(row) for row in ROWS]))
