"""A longer permutation test begins with a shorter one: what that did is kept, and the bytes are those of one run."""

from __future__ import annotations

import shutil
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

import voxloom
from voxloom.engine.events import TaskFinished
from voxloom.pipeline.inference import nulls
from voxloom.pipeline.stages import infer

if TYPE_CHECKING:
    from pathlib import Path


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the run comes after it."""


class Watch:
    """Keeps the keys of the infer tasks that were run; ends the run after some of them."""

    def __init__(self, kill_after: int | None = None) -> None:
        self.starts: list[int] = []
        self.kill_after = kill_after

    def __call__(self, event: Any) -> None:
        if isinstance(event, TaskFinished) and event.stage == infer.NAME:
            self.starts.append(int(event.record.key.rpartition("-")[2]))
            if len(self.starts) == self.kill_after:
                raise Killed


@pytest.fixture(autouse=True)
def _short_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four subjects have 16 distinct flips, so random tests are shorter than that."""
    monkeypatch.setattr(nulls, "BATCH", 6)
    for module in (nulls, infer):
        monkeypatch.setattr(module, "CHUNK", 2, raising=False)
    monkeypatch.setattr(nulls, "FIRST", 4)


def of_length(n_perm: int) -> dict[str, Any]:
    return {"mean": {"inference": {"method": "permutation", "n_perm": n_perm, "alpha": 0.25}}}


@pytest.mark.parametrize("n_perm", [1, 3, 4, 5, 6, 7, 12, 13, 20_000])
def test_batches_cover_every_rearrangement_once_and_begin_alike_for_every_length(n_perm):
    found, longer = nulls.batches(n_perm), nulls.batches(n_perm + 31)
    assert (found[0].start, found[-1].stop) == (0, n_perm)
    assert all(a.stop == b.start for a, b in pairwise(found))
    assert found[:-1] == longer[: len(found) - 1]
    assert found[-1].start == longer[len(found) - 1].start


@pytest.mark.usefixtures("already_run")
@pytest.mark.parametrize("kill_after", [pytest.param(None, marks=pytest.mark.slow), 1])
def test_an_extended_test_keeps_its_beginning_and_ends_in_the_bytes_of_one_run(
    pristine_study: Path,
    undisturbed_run: Any,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    analysis_of: Any,
    store_digests_of: Any,
    digests_of: Any,
    kill_after: int | None,
) -> None:
    at_once = tmp_path_factory.mktemp("at-once")
    shutil.copytree(undisturbed_run.store, at_once / "study.zarr")
    wanted = voxloom.run(analysis_of(pristine_study, at_once, group=of_length(13)), on_event=(whole := Watch()))
    assert whole.starts == [0, 4, 6, 12]

    result = voxloom.run(analysis_of(pristine_study, tmp_path, group=of_length(4)), on_event=(first := Watch()))
    assert first.starts == [0]
    short = voxloom.open_study(result.store).results(result.group_names["mean"]).null_max_stat.to_numpy()
    longer = analysis_of(pristine_study, tmp_path, group=of_length(13))
    second = Watch(kill_after)
    if kill_after is not None:
        with pytest.raises(Killed):
            voxloom.run(longer, on_event=second)
    result = voxloom.run(longer, on_event=(third := Watch()))
    assert second.starts + third.starts == [4, 6, 12]
    assert store_digests_of(result.store) == store_digests_of(wanted.store)
    assert digests_of(result.output) == digests_of(wanted.output)
    long = voxloom.open_study(result.store).results(result.group_names["mean"]).null_max_stat.to_numpy()
    assert (long[..., :4] == short).all()

    # shorter again, not at the edge of a batch, then long once more: what is whole is not done again
    voxloom.run(analysis_of(pristine_study, tmp_path, group=of_length(9)), on_event=(shorter := Watch()))
    assert shorter.starts == [6]
    result = voxloom.run(longer, on_event=(again := Watch()))
    assert again.starts == [6]
    assert store_digests_of(result.store) == store_digests_of(wanted.store)


@pytest.mark.usefixtures("already_run")
def test_the_list_of_all_rearrangements_is_another_null(pristine_study, tmp_path, analysis_of):
    """In its own order: a random test of 13 is no beginning of it."""
    voxloom.run(analysis_of(pristine_study, tmp_path, group=of_length(13)))
    watch = Watch()
    result = voxloom.run(analysis_of(pristine_study, tmp_path, group=of_length(500)), on_event=watch)
    attrs = voxloom.open_study(result.store).results(result.group_names["mean"]).p_max_stat.attrs
    assert attrs["n_perm"] == 500
    assert watch.starts == [0, 4, 6, 12]
