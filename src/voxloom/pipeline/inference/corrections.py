"""What the inference of a group model leaves: its variables in the store, and what their files are called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from voxloom.pipeline.inference.nulls import spatial_statistics
from voxloom.spec import bids_label
from voxloom.spec.statistics import MaxStat

if TYPE_CHECKING:
    from collections.abc import Mapping

    from voxloom.spec import Inference
    from voxloom.spec.statistics import Statistic

MAX_STAT = MaxStat.name
#: Variable of the statistic with variance groups, a normal deviate.
BY_GROUPS = "z_variance_groups"


#: Variable of the statistic with smoothed variances.
PSEUDO_T = "pseudo_t"
#: Variable of the rearrangements that a voxel took where counts stop.
USED = "n_used"


class Corrected(NamedTuple):
    """One map of p.

    Attributes
    ----------
    method : str
        As in the analysis file.
    desc : str
        In the name of its file.
    statistic : Statistic or None
        Whose null it rests on; None for none.
    joint : bool
        Whether that null is over several contrasts or modalities.
    """

    method: str
    desc: str
    statistic: Statistic | None = None
    joint: bool = False


def p_maps(wanted: Inference) -> dict[str, Corrected]:
    """Every map of p by its variable."""
    found = {f"p_{method}": Corrected(method, method) for method in wanted.method if method != "permutation"}
    if "permutation" in wanted.method:
        found["p_uncorrected"] = Corrected("permutation", "uncorrected")
        for name, statistic in wanted.named.items():
            of = "" if name == MAX_STAT else name
            found[f"p_{name}"] = Corrected("permutation", bids_label(f"{of} fwe"), statistic)
            if wanted.joint is not None:
                desc = bids_label(f"joint {of} fwe")
                found[f"p_joint_{name}"] = Corrected("permutation", desc, statistic, joint=True)
    return found


class StatMap(NamedTuple):
    """One map of what was permuted, as observed.

    Attributes
    ----------
    stat, desc : str, str or None
        In the name of its file; `desc` where several of a kind have to be told apart.
    parameters : mapping
        Of the statistic.
    """

    stat: str
    desc: str | None
    parameters: Mapping[str, Any]


def stat_maps(wanted: Inference) -> dict[str, StatMap]:
    """Maps of what was permuted, where it is not the statistic of the group model, by variable."""
    found = {}
    if "permutation" in wanted.method and wanted.variance_groups is not None:
        found[BY_GROUPS] = StatMap("z", "varianceGroups", {"VarianceGroups": wanted.variance_groups})
    if "permutation" in wanted.method and wanted.variance_smoothing_fwhm is not None:
        how = {"VarianceSmoothingFWHM": wanted.variance_smoothing_fwhm}
        found[PSEUDO_T] = StatMap("t", "smoothedVariance", how)
    if "permutation" in wanted.method and wanted.stop_at is not None:
        found[USED] = StatMap("rearrangements", None, {"StopAt": wanted.stop_at})
    for name, statistic in spatial_statistics(wanted).items():
        apart, parameters = name.removeprefix(statistic.name), statistic.model_dump(mode="json")
        found[name] = StatMap(bids_label(statistic.name), bids_label(apart) if apart else None, parameters)
    return found


def nulls_named(wanted: Inference) -> dict[str, Statistic]:
    """Statistics whose null is kept, by the null's variable."""
    return {
        f"null_{name.removeprefix('p_')}": made.statistic
        for name, made in p_maps(wanted).items()
        if made.statistic is not None
    }
