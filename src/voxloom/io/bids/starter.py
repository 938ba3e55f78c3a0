"""Writes an analysis file for a dataset that runs as it is, with comments on what to change."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from voxloom.errors import InputError
from voxloom.io.bids.confound_names import component_names, require_image
from voxloom.io.bids.confounds import read_components
from voxloom.io.bids.survey import MOTION, Findings, look
from voxloom.spec import parse_confounds
from voxloom.spec.confounds import PRESETS
from voxloom.spec.labels import bids_label

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


#: A task with more conditions than this is likely coded by trial; the rest is left to the user.
MAX_CONDITIONS = 12
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: Plain words that YAML reads as something else.
_RESERVED = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


def starter(
    bids_dir: str | Path,
    derivatives: str | Path | Sequence[str | Path] | None = None,
    *,
    base: str | Path | None = None,
) -> str:
    """Text of a commented analysis file for a dataset.

    Parameters
    ----------
    bids_dir, derivatives : path
        As for `index_runs`.
    base : path, optional
        Folder the file will lie in: paths below it are written relative to it, others in full.

    Raises
    ------
    InputError
        There is no BOLD image, or an events or confounds file cannot be read.
    """
    found = look(bids_dir, derivatives)
    sections = (
        _head(found),
        _data(found, Path(bids_dir), derivatives, None if base is None else Path(base)),
        _first_level(found),
        _group(found),
        _machine(),
    )
    return "\n".join(sections)


def write_starter(
    bids_dir: str | Path,
    derivatives: str | Path | Sequence[str | Path] | None,
    path: str | Path,
    *,
    force: bool = False,
) -> Path:
    """Write the starter file; an existing one is kept unless `force`.

    Raises
    ------
    InputError
        The file exists, or the dataset cannot be understood.
    """
    path = Path(path)
    if path.exists() and not force:
        raise InputError(str(path), "exists already.", "Choose another name, or pass --force to replace it.")
    text = starter(bids_dir, derivatives, base=path.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _head(found: Findings) -> str:
    runs, subjects = len(found.runs), found.subjects
    return (
        f"# Analysis of {runs} run{'s' * (runs > 1)} of {subjects} subject{'s' * (subjects > 1)}.\n"
        "#   voxloom plan FILE     what it will read, write and need\n"
        "#   voxloom run FILE      do it; run it again after an interruption to go on\n"
        "version: 1\n"
    )


def _data(
    found: Findings,
    bids_dir: Path,
    derivatives: str | Path | Sequence[str | Path] | None,
    base: Path | None,
) -> str:
    lines = ["data:", f"  bids_dir: {_path(bids_dir, base)}"]
    if derivatives is not None:
        folders = [derivatives] if isinstance(derivatives, (str, Path)) else derivatives
        lines.append(f"  derivatives: [{', '.join(_path(Path(folder), base) for folder in folders)}]")
    elif (bids_dir / "derivatives" / "fmriprep").is_dir():
        lines.append(f"  derivatives: {_path(bids_dir / 'derivatives' / 'fmriprep', base)}")
    if found.task:
        lines.append(f"  task: {_scalar(found.task)}{_others(found.tasks, found.task)}")
    chosen = "_".join([found.space or "native", *([f"res-{found.resolution}"] if found.resolution else [])])
    lines.append(f"  space: {_scalar(found.space or 'native')}{_others(found.versions, chosen)}")
    if found.resolution:
        lines.append(f"  filters: {{res: {json.dumps(found.resolution)}}}")
    else:
        lines.append('  # filters: {subject: ["01", "02"], run: 1}    # only these')
    masks = sum(run.mask is not None for run in found.runs)
    lines.append(f"  mask: union    # or intersection, or a file; {masks} of {len(found.runs)} runs have one")
    return "\n".join(lines) + "\n"


def _first_level(found: Findings) -> str:
    cosines = any(name.startswith("cosine") for name in found.confounds)
    motion = [name for name in MOTION if name in found.confounds]
    chosen = [*motion, *(["cosine*"] if cosines else [])]
    lines = [
        "first_level:",
        "  hrf_model: spm          # or glover, each `+ derivative` or `+ derivative + dispersion`; fir",
        "  drift_model: null       # the cosines among the confounds remove slow drift"
        if cosines
        else "  drift_model: cosine",
        *([] if cosines else ["  high_pass: 0.0078125    # Hz, 1 / 128 s"]),
        "  noise_model: ar1        # AR(1) by REML in every voxel; ar2 to ar8, arma11, ols, ar1-yule-walker",
        "  signal_scaling: 0       # effects in percent of the voxel's mean; null: the data's own units",
        "  smoothing_fwhm: null    # mm",
        f"  confounds: [{', '.join(_scalar(name) for name in chosen)}]",
    ]
    extra = [f"{name}*" for name in ("a_comp_cor_0", "motion_outlier") if _any_starts(found.confounds, name)]
    if extra:
        lines.append(f"  # also there: {', '.join(extra)}")
    presets = _presets(found) if cosines else []  # every preset takes in the cosines
    if presets:
        lines.append(f"  # or by a strategy, instead of columns: confounds: {' | '.join(presets)}")
    lines += ["  contrasts:", *_contrast_lines(found)]
    return "\n".join(lines) + "\n"


def _presets(found: Findings) -> list[str]:
    """Presets of confounds for which the tables have all columns."""
    tables = [run.confounds for run in found.runs if run.confounds is not None]
    components = read_components(tables[0]) if tables else None
    offered = []
    for name in PRESETS:
        wanted = parse_confounds(name)
        try:
            require_image(wanted, found.runs[0].entities.get("desc", ""), "")
            for component in wanted.strategy:
                component_names(component, wanted, sorted(found.confounds), components, "")
        except InputError:
            continue
        offered.append(name)
    return offered


def _usable(found: Findings) -> list[str]:
    """Conditions that occur in as many runs as any, up to `MAX_CONDITIONS` of them."""
    most = max(found.conditions.values(), default=0)
    return [name for name, n in found.conditions.items() if n == most and "`" not in name][:MAX_CONDITIONS]


def _contrast_lines(found: Findings) -> list[str]:
    """Every condition against rest, and one pair; what some runs lack, and what is too much, as comments."""
    usable = _usable(found)
    if not usable:
        return ["    {}    # no events were found: without conditions there is nothing to contrast"]
    expressions = {name: _operand(name) for name in usable}
    if len(usable) > 1:
        first, second = ("face", "house") if {"face", "house"} <= set(usable) else usable[:2]
        expressions[f"{first} - {second}"] = f"{_operand(first)} - {_operand(second)}"
    lines = [
        f"    {_scalar(name)}: {json.dumps(expression, ensure_ascii=False)}"
        for name, expression in _distinct(expressions).items()
    ]
    rest = [name for name in found.conditions if name not in usable]
    if rest:
        shown = ", ".join(f"{name} ({found.conditions[name]} runs)" for name in rest[:MAX_CONDITIONS])
        lines.append(f"    # also there: {_one_line(shown)}{', ...' if len(rest) > MAX_CONDITIONS else ''}")
    return lines


def _group(found: Findings) -> str:
    if found.subjects < 2 or not _usable(found):
        return "# group: needs several subjects and a contrast\ngroup: {}\n"
    return (
        "group:\n"
        "  mean:                   # is the mean over subjects zero?\n"
        "    contrasts: {mean: intercept}\n"
        "    inference:\n"
        "      method: [bonferroni, fdr, permutation]\n"
        "      alpha: 0.05\n"
        "      two_sided: true\n"
        "      n_perm: 10000       # all sign flips where there are fewer\n" + _covariate_example(found)
    )


def _covariate_example(found: Findings) -> str:
    if not found.covariates:
        return "  # a model with covariates needs columns in participants.tsv\n"
    name = found.covariates[0]
    return (
        f"  # covariate:            # participants.tsv has: {_one_line(', '.join(found.covariates))}\n"
        f"  #   covariates: [{_scalar(name)}]\n"
        f"  #   contrasts: {{{_scalar(name)}: {json.dumps(_operand(name), ensure_ascii=False)}}}\n"
    )


def _machine() -> str:
    return (
        "cluster: local            # or the address of a Dask scheduler, tcp://host:8786\n"
        "workers: null             # as many as cores and memory allow\n"
        "memory_budget: 512MiB     # of one worker\n"
        "seed: 0\n"
    )


def _distinct(expressions: Mapping[str, str]) -> dict[str, str]:
    """Rename contrasts whose labels in file names would be empty or the same."""
    named: dict[str, str] = {}
    taken: set[str] = set()
    for i, (name, expression) in enumerate(expressions.items(), start=1):
        try:
            label = bids_label(name)
        except InputError:
            name = label = f"contrast{i}"
        while label.casefold() in taken:
            name, label = f"{name} {i}", f"{label}{i}"
        taken.add(label.casefold())
        named[name] = expression
    return named


def _operand(condition: str) -> str:
    """Name of a column in a contrast expression, in backticks unless it is a plain word."""
    return condition if _PLAIN.fullmatch(condition) else f"`{condition}`"


def _scalar(text: str) -> str:
    """Text as YAML reads it back: plain where it can be, else in quotes."""
    plain = _PLAIN.fullmatch(text) and text.lower() not in _RESERVED
    return text if plain else json.dumps(text, ensure_ascii=False)


def _path(path: Path, base: Path | None) -> str:
    full = path.absolute()
    if base is not None and full.is_relative_to(base.absolute()):
        full = full.relative_to(base.absolute())
    return json.dumps(str(full), ensure_ascii=False)


def _others(counts: Mapping[str, int], chosen: str) -> str:
    others = [f"{name} ({n} images)" for name, n in sorted(counts.items()) if name and name != chosen]
    return f"    # also there: {_one_line(', '.join(others))}" if others else ""


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _any_starts(names: Iterable[str], start: str) -> bool:
    return any(name.startswith(start) for name in names)
