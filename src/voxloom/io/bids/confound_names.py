"""Columns of fMRIPrep's confounds table that a noise component stands for; what is absent is named with its cure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voxloom.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from voxloom.spec.confounds import Confounds

    #: Name of a CompCor component -> its mask; None for the temporal ones.
    Components = Mapping[str, str | None]
    Names = Callable[[Confounds, Sequence[str], Components | None, str], list[str]]

MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
SUFFIXES = {
    "basic": ("",),
    "derivatives": ("", "_derivative1"),
    "power2": ("", "_power2"),
    "full": ("", "_derivative1", "_power2", "_derivative1_power2"),
}
#: Prefix of the components, and mask that the sidecar must give them; None: any. fMRIPrep writes separate masks as
#: w_ and c_comp_cor since 21.0, before that as a_comp_cor with their mask in the sidecar.
_ANATOMICAL = {
    "combined": (("a", "combined"),),
    "separated": (("a", "WM"), ("a", "CSF"), ("w", None), ("c", None)),
}
COMPCOR: dict[str, tuple[tuple[str, str | None], ...]] = {
    "temporal": (("t", None),),
    **{f"anat_{mask}": kinds for mask, kinds in _ANATOMICAL.items()},
    **{f"temporal_anat_{mask}": (("t", None), *kinds) for mask, kinds in _ANATOMICAL.items()},
}
#: How to get the columns of a component.
REMEDIES = {
    "motion": "fMRIPrep >= 1.4 writes them; older tables have other names: list those under `columns`.",
    "wm_csf": "fMRIPrep >= 1.4 with `--level full` (its default) writes them, their derivatives and squares.",
    "global_signal": "fMRIPrep >= 1.4 with `--level full` (its default) writes it, its derivative and square.",
    "compcor": "fMRIPrep >= 1.4 with `--level full` writes a_ and t_comp_cor, >= 21.0 also w_ and c_comp_cor.",
    "ica_aroma": "fMRIPrep < 23.1 writes aroma_motion with `--use-aroma`; after that fMRIPost-AROMA does.",
    "scrub": "fMRIPrep >= 1.2 with `--level full` (its default) writes framewise_displacement and std_dvars.",
}
SCRUB = ("framewise_displacement", "std_dvars")
#: `desc` of an image that ICA-AROMA has denoised.
AROMA_IMAGE = "smoothAROMAnonaggr"


def component_names(
    component: str, wanted: Confounds, columns: Sequence[str], components: Components | None, where: str
) -> list[str]:
    """Columns of one component of a strategy.

    Parameters
    ----------
    component : str
    wanted : Confounds
    columns : sequence of str
        Columns of the table.
    components : mapping or None
        CompCor components of the sidecar with their masks; None where there is no sidecar.
    where : str
        How messages name the table.

    Raises
    ------
    InputError
        Columns are absent, or the sidecar is; the message names what makes them.
    """
    names = NAMES[component](wanted, columns, components, where)
    known = set(columns)
    absent = [name for name in names if name not in known]
    if absent:
        shown = ", ".join(absent[:6]) + (f" and {len(absent) - 6} more" if len(absent) > 6 else "")
        raise InputError(where, f"lacks {shown} of the strategy's {component}.", REMEDIES[component])
    return names


def require_image(wanted: Confounds, desc: str, where: str) -> None:
    """Raise `InputError` where the strategy wants images that ICA-AROMA has denoised, and this one is not."""
    if "ica_aroma" in wanted.strategy and wanted.ica_aroma == "full" and desc != AROMA_IMAGE:
        raise InputError(
            where,
            f"ica_aroma: full wants an image that ICA-AROMA has denoised, but this one is desc-{desc or 'none'}.",
            f"Set `data.filters: {{desc: {AROMA_IMAGE}}}`, or `ica_aroma: basic` for its components as regressors.",
        )


def _expanded(names: Iterable[str], expansion: str) -> list[str]:
    return [name + suffix for name in names for suffix in SUFFIXES[expansion]]


def _compcor(wanted: Confounds, columns: Sequence[str], components: Components | None, where: str) -> list[str]:
    anatomical = "anat" in wanted.compcor
    if components is None and anatomical:
        raise InputError(
            where,
            f"has no JSON sidecar, which says the mask of every component; compcor: {wanted.compcor} needs it.",
            "fMRIPrep >= 1.4 writes it beside the table.",
        )
    known: Components = components if components is not None else dict.fromkeys(columns)
    chosen: list[str] = []
    for prefix, mask in COMPCOR[wanted.compcor]:
        found = sorted(
            (name for name in known if name.startswith(f"{prefix}_comp_cor_") and mask in (None, known[name])),
            key=lambda name: int(name.rpartition("_")[2]),
        )
        chosen += found if wanted.n_compcor == "all" else found[: wanted.n_compcor]
    if not chosen:
        raise InputError(where, f"has no component for compcor: {wanted.compcor}.", REMEDIES["compcor"])
    return chosen


def _aroma(wanted: Confounds, columns: Sequence[str], components: Components | None, where: str) -> list[str]:
    if wanted.ica_aroma == "full":
        return []
    found = [name for name in columns if "aroma" in name]
    if not found:
        raise InputError(where, "has no column aroma_motion_* for ica_aroma: basic.", REMEDIES["ica_aroma"])
    return found


#: Those of scrub and non_steady_state say which volumes are left out; the others are regressors.
NAMES: dict[str, Names] = {
    "high_pass": lambda wanted, columns, *_: [name for name in columns if "cosine" in name],
    "motion": lambda wanted, *_: _expanded(MOTION, wanted.motion),
    "wm_csf": lambda wanted, *_: _expanded(("csf", "white_matter"), wanted.wm_csf),
    "global_signal": lambda wanted, *_: _expanded(("global_signal",), wanted.global_signal),
    "compcor": _compcor,
    "ica_aroma": _aroma,
    "scrub": lambda *_: list(SCRUB),
    "non_steady_state": lambda wanted, columns, *_: [name for name in columns if "non_steady_state" in name],
}
