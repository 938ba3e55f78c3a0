"""The memory a task is said to need is never less than what it takes, and at most a quarter more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import memory_cases as cases
import pytest

import voxloom
from voxloom.errors import MemoryBudgetError
from voxloom.io.study.run_memory import RunMemory
from voxloom.pipeline.planning import memory
from voxloom.schema import MiB
from voxloom.spec import parse_analysis

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[..., cases.Case]

BOTH = ("effect", "variance")
FIVE = {"t": "a", "u": "b", "v": "a - b", "w": "a + b", "f": ["a", "b"]}
#: Maker of a task, sizes of a tiny one and of those that are measured; each needs more than 40 MiB.
STAGES: dict[str, tuple[Make, tuple[Any, ...], list[tuple[Any, ...]]]] = {
    "ingest": (cases.ingest_case, (500, 20), [(150_000, 300), (200_000, 400)]),
    "ingest through a file": (cases.spilled_case, (500, 20), [(200_000, 400)]),
    "ingest with smoothing": (cases.smoothed_case, (500, 20), [(140_000, 150)]),
    "fit": (cases.fit_case, (500, 40, 6), [(200_000, 100, 40), (120_000, 200, 60)]),
    "fit of AR(p)": (
        cases.fit_case,
        (500, 60, 6, "ar3"),
        [(40_000, 300, 60, "ar2"), (8192, 2000, 60, "ar3"), (2048, 1500, 80, "ar8"), (1024, 1500, 80, "ar8", 300)],
    ),
    "fit of ARMA(1, 1)": (
        cases.fit_case,
        (500, 60, 6, "arma11"),
        [(8192, 600, 40, "arma11"), (4096, 1500, 60, "arma11")],
    ),
    "noise": (cases.noise_case, (500, 60, 6, "arma11"), [(16_384, 500, 50, "arma11")]),
    "smoothing of the noise": (cases.smooth_case, (500, "ar3"), [(600_000, "ar3"), (500_000, "arma11")]),
    "combine": (cases.combine_case, (500, 6, 2, FIVE), [(65_536, 40, 4, FIVE), (100_000, 60, 8, {"f": ["a", "b"]})]),
    "combine of AR(p)": (
        cases.combine_case,
        (500, 6, 1, {"t": "a"}, "ar3", 60),
        [
            (65_536, 20, 2, {"t": "a"}, "ar4", 200),
            (65_536, 20, 1, {"t": "a"}, "ar8", 100),
            (65_536, 40, 1, {"t": "a"}, "ar3", 300, 60),
            (24, 60, 1, {"t": "a"}, "ar8", 700, 300),
        ],
    ),
    "consolidate": (cases.consolidate_case, (500, 6), [(65_536, 128), (65_536, 100)]),
    "group": (cases.group_case, (500, 12, 2), [(65_536, 120, 3), (40_000, 300, 1)]),
    "group in pieces": (cases.tight_group_case, (500, 12, 2), [(65_536, 300, 1)]),
    **{
        f"group by {name}": (cases.estimator_case, (500, 12, 2, name), [(65_536, 120, 3, name)])
        for name in ("random-intercept", "reml", "sandwich-cr2", "sandwich-homogeneous", "unequal-variances")
    },
    "influence": (cases.influence_case, (500, 12, 2), [(40_000, 400, 3)]),
    "combat": (cases.combat_case, (500, 12, 2), [(65_536, 120, 5)]),
    "harmonise": (cases.harmonise_case, (500, 12, 2), [(65_536, 120, 5), (65_536, 200, 12)]),
    "infer with holes": (cases.partial_case, (500, 12, 2, 300), [(16_384, 400, 2, 300)]),
    "infer": (
        cases.infer_case,
        (500, 12, 2, 300),
        [(65_536, 120, 1, 3000), (65_536, 200, 4, 300)],
    ),
    "infer with variance groups": (cases.infer_case, (500, 12, 2, 300, 2), [(30_000, 200, 3, 3000, 2)]),
    "rearrange": (cases.rearrange_case, (500, 12), [(40_000, 100), (65_536, 40)]),
    "spatial": (cases.spatial_case, (500, 12), [(120_000, 30), (80_000, 150)]),
    "spatial by stored maps": (cases.stored_spatial_case, (500, 8), [(230_000, 32), (400_000, 8)]),
    "gather": (cases.gather_case, (500, 6), [(65_536, 128), (100_000, 100)]),
    "gather with variances": (
        cases.gather_case,
        (500, 6, ("effect", "variance")),
        [(65_536, 100, ("effect", "variance"))],
    ),
    "sums": (cases.sums_case, (500, 12, 2), [(65_536, 100, 3), (65_536, 40, 20)]),
    "pooled": (cases.pooled_case, (500, 2, 4), [(65_536, 2, 11)]),
    "correct": (cases.correct_case, (500,), [(1_500_000,)]),
    "export": (cases.export_case, (500,), [(1_200_000,)]),
}
QUICK = [("ingest", (180_000, 250)), ("fit", (130_000, 100, 60))]


def require_truth(stage: str, size: tuple[Any, ...], tmp_path) -> None:  # type: ignore[no-untyped-def]
    make, tiny, _ = STAGES[stage]
    folders = [tmp_path / "tiny", tmp_path / "case"]
    for folder in folders:
        folder.mkdir()
    case = make(folders[1], *size)
    taken = cases.measured(make(folders[0], *tiny), case, tmp_path)
    assert case.predicted > 40 * MiB
    assert taken <= case.predicted <= 1.25 * taken, (taken / MiB, case.predicted / MiB)


@pytest.mark.parametrize(("stage", "size"), QUICK, ids=[stage for stage, _ in QUICK])
def test_predicted_memory_is_that_of_a_fresh_process(stage, size, tmp_path):
    require_truth(stage, size, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "size"),
    [(stage, size) for stage, (_, _, sizes) in STAGES.items() for size in sizes],
    ids=lambda value: value if isinstance(value, str) else "-".join(str(x) for x in value if isinstance(x, int)),
)
def test_predicted_memory_of_every_stage(stage, size, tmp_path):
    require_truth(stage, size, tmp_path)


@pytest.mark.parametrize("n_subjects", [20, 300, 5000])
def test_pieces_fill_the_budget_and_keep_to_it(n_subjects):
    """The next chunk would not fit; only one chunk alone may be too much, which a run refuses."""
    for piece_of, need in (
        (memory.group_piece, memory.group_memory),
        (
            lambda budget, n, regressors: memory.infer_stretch(budget, n, regressors, 2500),
            lambda n, voxels, regressors: memory.infer_memory(n, voxels, regressors, 2500),
        ),
    ):
        for budget in (128 * MiB, 512 * MiB, 4096 * MiB):
            piece = piece_of(budget, n_subjects, 3)
            assert piece % 4096 == 0
            assert need(n_subjects, piece, 3) <= budget or piece == 4096
            assert need(n_subjects, piece + 4096, 3) > budget or piece == 65_536


@pytest.mark.parametrize("n_volumes", [1, 320, 6804])
@pytest.mark.parametrize("writing", [MiB, 90 * MiB])
def test_an_ingest_keeps_to_any_budget_that_holds_one_volume(n_volumes, writing):
    held = RunMemory(n_volumes=n_volumes, row=MiB // 3, axis=5 * MiB, volume=3 * MiB, writing=writing)
    for budget in (64 * MiB, 128 * MiB, 1024 * MiB):
        assert (held.peak(budget) <= budget) == (held.slab(budget) >= held.row)


def test_a_run_that_does_not_fit_is_refused_with_the_budget_that_would(pristine_study, tmp_path, analysis_of):
    fits = parse_analysis(analysis_of(pristine_study, tmp_path))
    voxloom.plan(fits).require_fits(64 * MiB)
    tight = fits.model_copy(update={"memory_budget": 8 * MiB})
    with pytest.raises(MemoryBudgetError, match="memory_budget: 64MiB"):
        voxloom.plan(tight).require_fits(8 * MiB)
    with pytest.raises(MemoryBudgetError, match=r"sub-01.*memory_budget: 64MiB|group.*memory_budget: 64MiB"):
        voxloom.run(tight)
    assert not list((tmp_path / "study.zarr").glob("runs/*"))
