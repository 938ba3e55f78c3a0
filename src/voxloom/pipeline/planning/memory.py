"""What a task of each stage holds at most, in bytes: the plan shows it, and a run that does not fit is refused.

Counted is what the code holds side by side at its peak (docs/design/011-memory.md has the measurements). Values that
are written are counted once more in their encoded form, at their raw size: noise hardly compresses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from voxloom.errors import MemoryBudgetError
from voxloom.io.store.regions import READ_BYTES
from voxloom.io.study.run_memory import RunMemory
from voxloom.io.study.run_values import RunValues
from voxloom.kernels.first_level.fit_memory import Shape
from voxloom.kernels.first_level.noise_models import NOISE_MODELS
from voxloom.kernels.group.patterns import block_size
from voxloom.kernels.linalg import SUB_BLOCK
from voxloom.kernels.noise.lag_sums import block_voxels
from voxloom.kernels.permutation.products import TABLE_ROWS, TABLE_VOXELS, VOXELS
from voxloom.kernels.permutation.stat_maps import PERMUTATIONS
from voxloom.kernels.permutation.stat_maps import VOXELS as TILE_VOXELS
from voxloom.models.inference.permutation import BATCH_BYTES, PARTIAL_TILE
from voxloom.models.inference.sequential import BATCH_BYTES as COUNT_BYTES
from voxloom.pipeline.inference.nulls import BATCH, SPATIAL_BATCH
from voxloom.pipeline.stored.maps import STATISTICS, map_chunks
from voxloom.schema import MAP_CHUNK_MAPS, MAP_CHUNK_VOXELS, MAP_SHARD_VOXELS, TASK_OVERHEAD, MiB, bold_chunks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from voxloom.io.nifti.info import NiftiInfo
    from voxloom.spec import Contrast, Inference

FLOAT64 = 8
#: Bytes a voxel that the search for clusters holds beside the maps.
CLUSTER_BYTES = 88
#: Maps of the statistic in one chunk of those that go through the store.
MAP_ROWS = 8
#: Maps of voxels that tail probabilities hold while they are made.
TAIL_MAPS = 8


def ingest_memory(info: NiftiInfo, n_voxels: int, fwhm: float | None, budget: int, *, streams: bool) -> int:
    """A run on its way into the store; a longer one than the budget holds goes through a file.

    `streams` as `Objects.streams` of the store.
    """
    return RunMemory.of(info, n_voxels, RunValues.of(info, fwhm, None), streams=streams).peak(budget)


class FitSize(NamedTuple):
    """A run to be fitted.

    Parameters
    ----------
    n_voxels, n_volumes, itemsize : int
        As stored.
    is_scaled : bool
        Whether stored values have to be scaled.
    n_kept, n_regressors : int
        Rows and columns of the design.
    noise_model : str
    """

    n_voxels: int
    n_volumes: int
    itemsize: int
    is_scaled: bool
    n_kept: int
    n_regressors: int
    noise_model: str

    @property
    def shard(self) -> int:
        """Voxels of a task."""
        return min(bold_chunks(self.n_voxels, self.n_volumes, self.itemsize).shard, self.n_voxels)

    @property
    def piece(self) -> int:
        """Voxels of a task that are read and fitted at once."""
        return min(fit_piece(self.n_voxels, self.n_volumes, self.itemsize, self.is_scaled), self.n_voxels)

    @property
    def found(self) -> int:
        """Bytes of the estimates of a piece."""
        return FLOAT64 * self.piece * n_estimates(self.n_regressors, self.noise_model)


def fit_memory(run: FitSize) -> int:
    """Estimates of a shard; beside them the piece of it that is being fitted, or the encoded shard."""
    chunk = min(bold_chunks(run.n_voxels, run.n_volumes, run.itemsize).chunk, run.n_voxels)
    estimates = FLOAT64 * run.shard * n_estimates(run.n_regressors, run.noise_model)
    writing = FLOAT64 * run.n_regressors * (run.shard + 3 * chunk)
    return TASK_OVERHEAD + estimates + max(fitting_memory(run), writing)


def noise_memory(run: FitSize) -> int:
    """What a fit says of the noise of a shard; beside it the piece that is being fitted."""
    kept = FLOAT64 * run.shard * len(NOISE_MODELS[run.noise_model].parameters)
    return TASK_OVERHEAD + kept + fitting_memory(run)


def fitting_memory(run: FitSize) -> int:
    """A piece of a shard that is being read, or fitted, beside the estimates of the one before.

    All volumes are read, those that are kept are fitted, as they are stored or scaled to float64.
    """
    stored, kept = (run.piece * rows * run.itemsize for rows in (run.n_volumes, run.n_kept))
    chosen = kept if run.n_kept < run.n_volumes else 0
    signal = FLOAT64 * run.piece * run.n_kept if run.is_scaled else kept
    selecting = stored + max(reading(stored), chosen + (signal if run.is_scaled else 0))
    shape = Shape(run.n_kept, run.n_volumes, run.n_regressors, run.piece)
    solving = signal + run.found + NOISE_MODELS[run.noise_model].held(shape)
    return (run.found if run.shard > run.piece else 0) + max(selecting, solving)


def smooth_memory(n_voxels: int, n_volume: int, noise_model: str) -> int:
    """Parameters of the noise of a whole run as they are read, known, averaged and given back; a map as volumes."""
    m = len(NOISE_MODELS[noise_model].parameters)
    return TASK_OVERHEAD + FLOAT64 * (n_voxels * (5 * m + 4) + 3 * n_volume)


def n_estimates(n_regressors: int, noise_model: str) -> int:
    """Numbers that a fit keeps of a voxel: coefficients, variance, share explained, noise (room for one)."""
    return n_regressors + 2 + max(1, len(NOISE_MODELS[noise_model].parameters))


def reading(n_bytes: int) -> int:
    """What is held beside values that are being read: a block of them encoded, and decoded."""
    return 2 * min(READ_BYTES, n_bytes)


def fit_piece(n_voxels: int, n_volumes: int, itemsize: int, is_scaled: bool) -> int:
    """Voxels read and fitted at once: whole chunks, and whole sub-blocks of the kernel, however long the run.

    The kernel takes any type, and twice as many voxels as they are stored take less than these in float64.
    """
    piece = max(bold_chunks(n_voxels, n_volumes, itemsize).chunk, block_voxels(n_volumes))
    return 2 * piece if not is_scaled and itemsize <= 4 and piece <= SUB_BLOCK else piece


def combine_memory(
    n_voxels: int, runs: Sequence[tuple[int, int, int]], contrasts: Iterable[Contrast], noise_model: str = "ar1"
) -> int:
    """Contrasts of all runs over a shard of maps; beside them the estimates of one run, or one being combined.

    What is tabulated for a design stays until the next one's (`kernels.first_level.pieces`).

    Parameters
    ----------
    n_voxels : int
    runs : sequence of (int, int, int)
        Volumes that are kept of each, volumes, and columns of its design.
    contrasts : iterable of Contrast
    noise_model : str
    """
    sizes = [contrast_numbers(wanted) for wanted in contrasts]
    n_map = map_voxels(n_voxels)
    estimates = FLOAT64 * n_map * n_estimates(max((columns for *_, columns in runs), default=0), noise_model)
    tables = [NOISE_MODELS[noise_model].tabulated(Shape(*run, n_map)) for run in runs]
    kept = FLOAT64 * n_map * len(runs) * sum(kept for kept, _ in sizes)
    of_runs = 2 * len(runs) * max((joined for _, joined in sizes), default=0)
    joining = FLOAT64 * n_map * (of_runs + (2 * len(STATISTICS) + 1) * len(sizes))
    answering = estimates + max([reading(estimates), *(table.making for table in tables)])
    return TASK_OVERHEAD + max((table.kept for table in tables), default=0) + kept + max(answering, joining)


def contrast_numbers(wanted: Contrast) -> tuple[int, int]:
    """Numbers a voxel that a run keeps of a contrast, and those of them that are combined over runs."""
    if wanted.stat_type == "t":
        return len(STATISTICS), 3
    if wanted.stat_type == "conjunction":  # each t with its tails
        return (q := 6 * len(wanted.expression)) + len(STATISTICS), q
    q = 1 if isinstance(wanted.expression, str) else len(wanted.expression)
    rows = q + q * q + 1
    return len(STATISTICS) + rows, rows


def map_voxels(n_voxels: int) -> int:
    """Voxels of one shard of a map."""
    return min(n_voxels, map_chunks(n_voxels)[1])


def consolidate_memory(n_voxels: int, n_subjects: int) -> int:
    """A block of subjects over one shard of voxels, encoded beside it."""
    subjects = min(MAP_CHUNK_MAPS, n_subjects)
    chunk = subjects * min(MAP_CHUNK_VOXELS, n_voxels)
    return TASK_OVERHEAD + FLOAT64 * (2 * subjects * map_voxels(n_voxels) + 3 * chunk)


def gather_memory(n_maps: int, n_voxels: int, n_volume: int, shard: int, n_kinds: int = 1) -> int:
    """A block of maps over a stretch of voxels, one shard of it encoded beside it, and the volumes being read.

    Of two kinds, maps and their variances, both.
    """
    return TASK_OVERHEAD + FLOAT64 * (
        min(MAP_CHUNK_MAPS, n_maps) * (n_kinds * n_voxels + shard) + 3 * n_kinds * n_volume
    )


def gather_piece(budget: int, n_voxels: int, n_maps: int, n_volume: int, n_kinds: int = 1) -> int:
    """Voxels of which a task reads a block of maps at once: whole shards, one at least."""
    shard = map_voxels(n_voxels)
    pieces = range(-(-n_voxels // shard) * shard, shard, -shard)
    return next((n for n in pieces if gather_memory(n_maps, n, n_volume, shard, n_kinds) <= budget), shard)


class GroupWork(NamedTuple):
    """What the estimator of a group model holds.

    Attributes
    ----------
    n_maps : int
        Maps of a subject, read at once.
    copies : int
        Copies of a sub-block of one of them.
    numbers : int
        Of every voxel beside these.
    n_tests : int
        Contrasts whose tails are held.
    """

    n_maps: int = 1
    copies: int = 3
    numbers: int = 0
    n_tests: int = 3


def harmonise_memory(n_voxels: int, n_subjects: int, n_parameters: int, n_sites: int) -> int:
    """What the voxels of a shard tell, the shrunken values, a block of maps over them, encoded beside it; a chunk."""
    shard, subjects = map_voxels(n_voxels), min(MAP_CHUNK_MAPS, n_subjects)
    chunk = (4 * subjects + 10 * n_sites) * min(MAP_CHUNK_VOXELS, n_voxels)
    held = (n_parameters + 2 * n_sites + 2 * subjects) * shard
    return TASK_OVERHEAD + FLOAT64 * (held + chunk)


LEAST_SQUARES = GroupWork()


def group_memory(n_subjects: int, n_voxels: int, n_numbers: int, work: GroupWork = LEAST_SQUARES) -> int:
    """So many statistics (numbers), all subjects over a piece of `n_voxels`, and what fitting that takes."""
    effects = work.n_maps * FLOAT64 * n_subjects * n_voxels
    patterns = effects // 8 + n_voxels * n_subjects // 4  # a byte a value, then two copies of a bit
    block = FLOAT64 * (work.copies * n_subjects + work.numbers) * min(block_size(n_subjects), n_voxels)
    fitting = max(reading(effects), patterns, block) + work.n_tests * TAIL_MAPS * FLOAT64 * n_voxels
    return TASK_OVERHEAD + FLOAT64 * n_numbers + effects + fitting


def group_piece(budget: int, n_subjects: int, n_numbers: int, work: GroupWork = LEAST_SQUARES) -> int:
    """Voxels that a group task fits at once."""
    return most_voxels(lambda voxels: group_memory(n_subjects, voxels, n_numbers, work) <= budget)


def sums_memory(n_maps: int, n_voxels: int, width: int, block: int) -> int:
    """Maps of a stretch of voxels; beside them what reading takes, or a block with its sums and those they join."""
    effects = FLOAT64 * n_maps * n_voxels
    numbers = 2 * (width**2 + width + 1) + 1
    return TASK_OVERHEAD + effects + max(reading(effects), FLOAT64 * block * (3 * n_maps + 3 * numbers))


def sums_piece(budget: int, n_maps: int, width: int, block: int) -> int:
    """Voxels whose maps a task of sums reads at once."""
    return most_voxels(lambda voxels: sums_memory(n_maps, voxels, width, block) <= budget)


def infer_memory(n_subjects: int, n_voxels: int, n_regressors: int, n_perm: int) -> int:
    """All subjects over a stretch of voxels, its counts; rearranged designs, residuals of a sub-block, their products.

    What reading took is not given back before: it lies among the small arrays of the allocator's heap.
    """
    effects = FLOAT64 * n_subjects * n_voxels
    rearranged = min(BATCH_BYTES, 4 * (1 + n_regressors) * n_subjects * n_perm)
    residuals = 3 * FLOAT64 * VOXELS * n_subjects
    products = 4 * TABLE_ROWS * TABLE_VOXELS
    counts = 3 * FLOAT64 * n_voxels
    tile, width = PARTIAL_TILE
    partial = FLOAT64 * width * (3 * n_subjects + 10 * tile)
    return TASK_OVERHEAD + effects + counts + reading(effects) + rearranged + residuals + products + partial


def infer_rows(wanted: Inference) -> int:
    """Rearrangements of a task; with variance groups counted twice, as their designs are float64."""
    return BATCH if wanted.variance_groups is None else 2 * BATCH


def infer_stretch(budget: int, n_subjects: int, n_regressors: int, n_perm: int) -> int:
    """Voxels whose maxima a task takes at once."""
    return most_voxels(lambda voxels: infer_memory(n_subjects, voxels, n_regressors, n_perm) <= budget)


def spatial_memory(n_voxels: int, n_subjects: int) -> int:
    """All subjects over the whole map; then maps of a tile of rearrangements, the same as z, and the clusters'."""
    effects, maps = FLOAT64 * n_subjects * n_voxels, FLOAT64 * PERMUTATIONS * n_voxels
    making = 2 * maps + CLUSTER_BYTES * n_voxels + block_memory(n_subjects)
    return TASK_OVERHEAD + effects + max(reading(effects), making)


def block_memory(n_subjects: int) -> int:
    """Residuals of a sub-block of voxels whose maps are made: as read, as float64, and padded; of v squared too."""
    return 4 * FLOAT64 * TILE_VOXELS * n_subjects


def counting_memory(stop_at: int | None) -> int:
    """Rearranged statistics and designs of counts that stop, and copies of these; nothing where none do."""
    return 0 if stop_at is None else 3 * COUNT_BYTES


def pseudo_t_memory(n_voxels: int, n_subjects: int) -> int:
    """The same of effect and error, whose variances are smoothed; and statistic, counts and comparisons of voxels."""
    return spatial_memory(n_voxels, n_subjects) + (3 * FLOAT64 + PERMUTATIONS) * n_voxels


def map_fits(budget: int, n_voxels: int, n_subjects: int) -> bool:
    """Whether a task makes the maps of the statistic that it uses; else they go through the store."""
    return spatial_memory(n_voxels, n_subjects) <= budget


def stored_spatial_memory(n_voxels: int, n_rows: int) -> int:
    """So many stored maps of the statistic, as z, and room for the search of clusters."""
    return TASK_OVERHEAD + 2 * FLOAT64 * n_rows * n_voxels + CLUSTER_BYTES * n_voxels


def map_rows(n_voxels: int, budget: int) -> int:
    """Stored maps that a task reads at a time: whole chunks, one at least."""
    rows = range(PERMUTATIONS, MAP_ROWS, -MAP_ROWS)
    return next((n for n in rows if stored_spatial_memory(n_voxels, n) <= budget), MAP_ROWS)


def rearrange_memory(n_subjects: int, n_voxels: int) -> int:
    """All subjects over a stretch of voxels, the maps of a batch over it, encoded beside them."""
    effects, maps = FLOAT64 * n_subjects * n_voxels, FLOAT64 * SPATIAL_BATCH * n_voxels
    return TASK_OVERHEAD + effects + max(reading(effects), block_memory(n_subjects)) + 2 * maps


def rearrange_stretch(budget: int, n_subjects: int) -> int:
    """Voxels whose maps of the statistic a task writes."""
    return most_voxels(lambda voxels: rearrange_memory(n_subjects, voxels) <= budget)


def maps_bytes(n_voxels: int) -> int:
    """Bytes of the maps of one batch in the store, at most: noise hardly compresses."""
    return FLOAT64 * SPATIAL_BATCH * n_voxels


def scratch_batches(budget: int, n_voxels: int) -> int:
    """Batches whose maps may be in the store at once."""
    return max(1, budget // maps_bytes(n_voxels))


def most_voxels(fits: Callable[[int], bool]) -> int:
    """Most voxels that fit, in whole chunks: at most a shard, at least a chunk."""
    whole_chunks = range(MAP_SHARD_VOXELS, MAP_CHUNK_VOXELS, -MAP_CHUNK_VOXELS)
    return next((voxels for voxels in whole_chunks if fits(voxels)), MAP_CHUNK_VOXELS)


def correct_memory(n_voxels: int, methods: Sequence[str]) -> int:
    """t, z, n and p of a whole map, a correction, and what making it sorts and compares."""
    sorts = {"fdr", "permutation"} & set(methods)
    return TASK_OVERHEAD + FLOAT64 * n_voxels * (5 + (7 if sorts else 2))


def export_memory(n_voxels: int, n_volume: int) -> int:
    """The maps of a contrast with z and p being made, or one of them as a volume, its copy and its bytes."""
    made = FLOAT64 * n_voxels * (1 + len(STATISTICS) + TAIL_MAPS)
    written = FLOAT64 * n_voxels * 8 + 3 * 4 * n_volume
    return TASK_OVERHEAD + max(made, written)


def clusters_memory(n_voxels: int, n_maps: int) -> int:
    """Maps of a group test that its table of clusters is made of, and the search for these; labels and places."""
    return TASK_OVERHEAD + n_voxels * (FLOAT64 * (n_maps + 6) + CLUSTER_BYTES)


def require(where: str, need: int, budget: int) -> None:
    """Raise `MemoryBudgetError` unless `need` bytes fit."""
    if need > budget:
        enough = -(-need // (64 * MiB)) * 64
        raise MemoryBudgetError(
            where,
            f"a task needs {need / MiB:.0f} MiB, but memory_budget is {budget / MiB:.0f} MiB.",
            f"Set memory_budget: {enough}MiB, or --memory-budget {enough}MiB.",
        )
