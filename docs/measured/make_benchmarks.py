"""Write benchmarks.md beside this from benchmarks/results/*.json: what voxloom costs, beside what others cost.

Run by `make docs`, checked by tests/test_benchmarks_page.py. The numbers are measured by `python -m benchmarks`.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

PAGE = Path(__file__).with_name("benchmarks.md")
RESULTS = Path(__file__).resolve().parents[2] / "benchmarks/results"


@cache
def result(name: str) -> dict[str, Any]:
    """A file of results."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def value(address: str) -> float:
    """Number at ``file/key/key/...``."""
    name, *keys = address.split("/")
    found: Any = result(name)["results"]
    for key in keys:
        found = found[key]
    return float(found)


def digits(number: float) -> str:
    """Three significant digits, thousands apart."""
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


class Pair(NamedTuple):
    """A measured pair: ours and another's cost of the same, in a unit, and how many times less ours is."""

    what: str
    other: str
    ours: str
    theirs: str
    ratio: str
    unit: str
    headline: bool = False

    def line(self) -> str:
        """Row of a table."""
        ours, theirs = (digits(value(address)) for address in (self.ours, self.theirs))
        ratio = value(self.ratio) if self.ratio else value(self.theirs) / value(self.ours)
        return f"| {self.what} | {ours} {self.unit} | {self.other}: {theirs} {self.unit} | {digits(ratio)} |"


def paired(what: str, other: str, at: str, measure: str, unit: str, *, headline: bool = False) -> Pair:
    """Pair as `benchmarks._harness.paired` writes it, a ours and b another's."""
    ours, theirs = (f"{at}/{side}/{measure}/median" for side in "ab")
    return Pair(what, other, ours, theirs, f"{at}/ratio_b_over_a/{measure}/median", unit, headline)


RUN = "one run, 91 x 109 x 91 x 405 voxels, `.nii.gz` to z map"
FIT = "AR(1) fit of 45,768 voxels, 150 scans, 33 regressors"
PAIRS = [
    paired(f"{RUN}: CPU", "nilearn `FirstLevelModel`", "end_to_end", "cpu", "s", headline=True),
    paired(f"{RUN}: peak memory", "nilearn", "end_to_end", "peak_mib", "MiB", headline=True),
    paired(
        f"{FIT}, REML", "nilearn `run_glm`", "first_level/T150_K33/reml_faster_than_nilearn", "cpu", "s", headline=True
    ),
    paired(
        f"{FIT}, Yule-Walker", "nilearn `run_glm`", "first_level/T150_K33/yule_walker_faster_than_nilearn", "cpu", "s"
    ),
    Pair(
        "maximum t, 300 maps of a mean, one permutation",
        "nilearn `permuted_ols`",
        "max_t/nilearn/300 maps, 0 covariates/voxloom_ms_per_permutation",
        "max_t/nilearn/300 maps, 0 covariates/nilearn_ms_per_permutation",
        "max_t/nilearn/300 maps, 0 covariates/times_faster",
        "ms",
        headline=True,
    ),
    Pair(
        "maximum t, 300 maps, two covariates (Freedman-Lane)",
        "nilearn",
        "max_t/nilearn/300 maps, 2 covariates/voxloom_ms_per_permutation",
        "max_t/nilearn/300 maps, 2 covariates/nilearn_ms_per_permutation",
        "max_t/nilearn/300 maps, 2 covariates/times_faster",
        "ms",
    ),
    Pair(
        "TFCE of a smooth map of 230,000 voxels (exact; nilearn takes 100 steps)",
        "nilearn",
        "tfce/smooth_one_sided/ms_per_map",
        "tfce/smooth_one_sided/nilearn_ms_per_map",
        "tfce/smooth_one_sided/times_faster_than_nilearn",
        "ms",
        headline=True,
    ),
    Pair(
        "the same, exact",
        "the `tfce` package, in C",
        "tfce/smooth_one_sided/ms_per_map",
        "tfce/smooth_one_sided/package_ms_per_map",
        "tfce/smooth_one_sided/times_faster_than_package",
        "ms",
    ),
    Pair(
        "ingest of a run (64 x 64 x 40 x 320): CPU",
        "`nibabel` `get_fdata` alone",
        "ingest/b/b/cpu/median",
        "ingest/b/a/cpu/median",
        "",
        "s",
    ),
    paired("the same: CPU", "nifti-zarr-py", "ingest/e_nifti_zarr", "cpu", "s"),
    paired("the same: peak memory", "nifti-zarr-py", "ingest/e_nifti_zarr", "peak_mib", "MiB"),
]


class Figure(NamedTuple):
    """A number of ours alone."""

    what: str
    at: str
    unit: str

    def line(self) -> str:
        """Row of a table."""
        return f"| {self.what} | {digits(value(self.at))} {self.unit}".rstrip() + " |"


FIGURES = [
    Figure(
        "a run of 64 x 76 x 64 x 6,804 voxels (nilearn's issue 5588): peak memory of the whole ingest process",
        "ingest/d_long_run/peak_mib",
        "MiB",
    ),
    Figure(
        "a group of 10,000 maps, 8,192 voxels: peak memory of a task (budget 512 MiB)",
        "group_scale/group/peak_mib",
        "MiB",
    ),
    Figure(
        "1,000 maps of 230,000 voxels, 10,000 permutations, maximum t: CPU, from a slice",
        "inference/large/max_stat_cpu_hours",
        "h",
    ),
    Figure("the same with TFCE", "inference/large/tfce_cpu_hours", "h"),
    Figure("ingest on two workers over one: times faster", "scaling/speedup/ingest", ""),
    Figure("fit on two workers over one: times faster", "scaling/speedup/fit", ""),
    Figure("permutation on two workers over one: times faster", "scaling/speedup/infer", ""),
    Figure(
        "CPU of one task that does nothing, client, scheduler and worker together",
        "scheduler/cpu_ms_per_task/together",
        "ms",
    ),
    Figure(
        "LSS of 60 trials, 200 scans: times less CPU than a refit a trial with nilearn",
        "beta_series/T200_n60_K20/cpu_of_all_nilearn_over_ours",
        "",
    ),
]


def machine() -> str:
    """The machine of the newest result, and the releases it had."""
    newest = max((result(path.stem) for path in RESULTS.glob("*.json")), key=lambda found: found["date"])
    on = newest["machine"]
    packages = ", ".join(f"{name} {number}" for name, number in on["packages"].items())
    return (
        f"{on['cpu']}, {on['cores']} cores, {on['ram_gib']:.0f} GiB, {on['os']}, Python {on['python']}, "
        f"BLAS on one thread ({newest['date']}). {packages}."
    )


PAGE_TEXT = """# Benchmarks

Written by `make_benchmarks.py` beside it from `benchmarks/results`, which `python -m benchmarks` measures. Both sides
of a pair run in turn, on the same data, in the same run, on one thread; medians, and the median of the pairs' ratios.
On another machine times are others, ratios less so.

{machine}

## Beside others

<!-- headlines -->

| what | voxloom | beside | times less |
|---|---|---|---|
{headlines}

<!-- end of headlines -->

| further pairs | voxloom | beside | times less |
|---|---|---|---|
{pairs}

## By itself

| what | |
|---|---|
{figures}

Numbers of false positives, not of speed: [first level](../explanation/calibration.md),
[group models](../explanation/group.md#false-positives). Numbers that agree: [parity](parity.md).
"""


def page() -> str:
    """The whole page."""
    return PAGE_TEXT.format(
        machine=machine(),
        headlines="\n".join(pair.line() for pair in PAIRS if pair.headline),
        pairs="\n".join(pair.line() for pair in PAIRS if not pair.headline),
        figures="\n".join(figure.line() for figure in FIGURES),
    )


if __name__ == "__main__":
    PAGE.write_text(page())
