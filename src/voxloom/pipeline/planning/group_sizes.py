"""What group models over so many voxels are made of, and the stages that fit them and write their files.

Bytes are those that the tasks' records will count, to the last one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from voxloom.engine.plan import StagePlan
from voxloom.pipeline.inference.cluster_tables import cluster_rule
from voxloom.pipeline.inference.corrections import nulls_named, p_maps, stat_maps
from voxloom.pipeline.inference.nulls import SPATIAL_BATCH, nulls_of, spatial_batches, spatial_statistics, stops, swept
from voxloom.pipeline.inference.rounds import cut
from voxloom.pipeline.planning import harmonise_sizes, memory
from voxloom.pipeline.stages import harmonise, infer, influence, spatial
from voxloom.pipeline.stages.group import GROUP_STATISTICS
from voxloom.pipeline.stored.map_files import GROUP_FILES, MAP_DTYPE, MASK_DTYPE
from voxloom.pipeline.stored.maps import map_chunks
from voxloom.schema import shard_slices

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from voxloom.pipeline.inference.nulls import Null
    from voxloom.pipeline.stages.group import GroupTest
    from voxloom.spec import GroupAnalysis, Inference

#: Bytes of a stored estimate, and of every map.
FLOAT64 = 8


@dataclass(frozen=True)
class Work:
    """Group tests over so many voxels."""

    analysis: GroupAnalysis
    tests: Sequence[GroupTest]
    n_voxels: int

    @property
    def budget(self) -> int:
        """Memory of a task."""
        return self.analysis.memory_budget

    def wanted(self, test: GroupTest) -> Inference:
        """How a model is thresholded."""
        return self.analysis.group[test.name].inference

    def nulls(self, test: GroupTest) -> list[Null]:
        """The nulls of a model; none without permutation inference."""
        return nulls_of(test, self.wanted(test), self.analysis.seed)

    def maps(self, n_maps: int = 1) -> int:
        """Bytes of so many maps."""
        return n_maps * FLOAT64 * self.n_voxels

    @property
    def pairs(self) -> int:
        """First-level contrasts times group contrasts of all models: maps of the statistic."""
        return sum(map(pairs_of, self.tests))

    @property
    def images(self) -> int:
        """Images of all models that are written as files."""
        return sum(map(self.images_of, self.tests))

    def images_of(self, test: GroupTest) -> int:
        """Images of one model."""
        wanted = self.wanted(test)
        fitted = sum(len(GROUP_FILES[question.stat_type]) for question in test.questions)
        return len(test.first_level) * fitted + pairs_of(test) * (len(p_maps(wanted)) + len(stat_maps(wanted)))

    @property
    def null_tables(self) -> int:
        """Bytes of the nulls that are written as files, each as long as the longest of its model."""
        return sum(
            pairs_of(test) * len(nulls_named(self.wanted(test))) * self.longest(test) * FLOAT64 for test in self.tests
        )

    @property
    def tables(self) -> int:
        """Bytes of all that is read for tables."""
        return self.null_tables + sum(map(self.influence_tables, self.tests))

    def influence_tables(self, test: GroupTest) -> int:
        """Bytes of the totals of a model that are read for its tables."""
        if self.analysis.group[test.name].influence is None:
            return 0
        told = sum(question.stat_type == "t" for question in test.questions)
        return map_shards(self.n_voxels) * len(test.first_level) * told * influence.total_bytes(test)

    def longest(self, test: GroupTest) -> int:
        """Length of the longest null of a model."""
        return max((null.setup.n_perm for null in self.nulls(test)), default=0)

    def stretches(self, test: GroupTest) -> int:
        """Stretches of voxels that the maxima of a model are taken over."""
        return len(infer.voxel_stretches(self.n_voxels, test, self.wanted(test), self.budget))

    def batches(self, test: GroupTest) -> int:
        """Batches in which the maxima of a model are made."""
        return sum(len(swept(null, self.wanted(test))) for null in self.nulls(test))

    def maxima(self, test: GroupTest) -> int:
        """Bytes of the maxima of voxels of a model, by stretches."""
        made = sum(null.setup.n_perm for null in self.nulls(test) if swept(null, self.wanted(test)))
        return made * self.stretches(test) * FLOAT64

    def counts(self, test: GroupTest) -> int:
        """Bytes of the counts of a model that batches leave."""
        return self.maps(self.batches(test))

    def counted(self, test: GroupTest) -> int:
        """Maps of counts that p of a model rest on."""
        wanted = self.wanted(test)
        return sum(2 if stops(null, wanted) else len(null.batches) for null in self.nulls(test))

    def spatial_maxima(self, test: GroupTest) -> int:
        """Bytes of the maxima of spatial statistics of a model."""
        batches = sum(len(spatial_batches(null.setup.n_perm)) for null in self.nulls(test))
        return batches * len(spatial_statistics(self.wanted(test))) * SPATIAL_BATCH * FLOAT64

    @property
    def whole(self) -> list[GroupTest]:
        """Models with statistics of the whole map."""
        return [test for test in self.tests if spatial_statistics(self.wanted(test))]

    @property
    def n_batches(self) -> int:
        """Batches whose maps the store may hold at once."""
        return memory.scratch_batches(self.analysis.scratch_budget, self.n_voxels)

    def rounds(self, test: GroupTest) -> int:
        """Rounds in which the maps of a model go through the store."""
        if not self.stored(test):
            return 0
        return sum(len(cut(spatial_batches(null.setup.n_perm), self.n_batches)) for null in self.nulls(test))

    def scratch(self, test: GroupTest) -> int:
        """Bytes that the maps of a model take in the store at a time, at most."""
        return min(self.rearranged(test), self.n_batches * memory.maps_bytes(self.n_voxels))

    def rearranged(self, test: GroupTest) -> int:
        """Bytes of a map for each rearrangement of a model."""
        return self.maps(sum(null.setup.n_perm for null in self.nulls(test)))

    def stored(self, test: GroupTest) -> bool:
        """Whether the maps of a model go through the store."""
        return spatial.through_store(self.n_voxels, test, self.wanted(test), self.budget)


def pairs_of(test: GroupTest) -> int:
    """First-level contrasts times group contrasts of a model."""
    return len(test.first_level) * len(test.contrasts)


def map_shards(n_voxels: int) -> int:
    """Shards of a map."""
    return len(shard_slices(n_voxels, map_chunks(n_voxels)[1]))


def group_stages(work: Work) -> Iterator[StagePlan]:
    """The stages that fit, in order."""
    if harmonise.is_wanted(work.analysis):
        yield from harmonise_sizes.harmonise_sizes(work)
    yield group_size(work)
    if influence.is_wanted(work.analysis):
        yield influence.influence_size(work)


def group_size(work: Work) -> StagePlan:
    """Effects of all subjects in, statistics of every pair of contrasts out."""
    return StagePlan(
        name="group",
        n_tasks=map_shards(work.n_voxels) * len(work.tests),
        bytes_read=sum(work.maps(len(test.maps) * len(test.subjects) * len(test.first_level)) for test in work.tests),
        bytes_written=work.maps(len(GROUP_STATISTICS) * work.pairs),
        peak_memory=max((group_task(work.n_voxels, test, work.budget) for test in work.tests), default=0),
    )


def group_task(n_voxels: int, test: GroupTest, budget: int) -> int:
    """Peak memory of a task of a group model."""
    shard = memory.map_voxels(n_voxels)
    n_subjects, n_numbers = len(test.subjects), len(GROUP_STATISTICS) * pairs_of(test) * shard
    piece = min(shard, memory.group_piece(budget, n_subjects, n_numbers, test.work))
    return memory.group_memory(n_subjects, piece, n_numbers, test.work)


def group_export_size(work: Work, n_volume: int) -> StagePlan:
    """Maps and nulls in, values of the volumes (of `n_volume` voxels) out."""
    return StagePlan(
        name="export",
        n_tasks=work.pairs,
        bytes_read=work.maps(work.images) + work.tables,
        bytes_written=n_volume * (work.images * MAP_DTYPE.itemsize + work.pairs * MASK_DTYPE.itemsize),
        peak_memory=max((export_task(work, test, n_volume) for test in work.tests), default=0),
    )


def export_task(work: Work, test: GroupTest, n_volume: int) -> int:
    """Peak memory of the files of a group test: its images one by one beside the maps of its clusters, then these."""
    kept = len(cluster_rule(work.wanted(test)).variables)
    images = memory.export_memory(work.n_voxels, n_volume) + work.maps(kept)
    return max(images, memory.clusters_memory(work.n_voxels, kept))
