"""Which BOLD images of a dataset an analysis means; where that is not clear, an error lists the choices."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from voxloom.errors import InputError
from voxloom.io.bids.tree import BIDSTree
from voxloom.spec.entities import same_value, short_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from voxloom.io.bids.tree import BIDSFile

IMAGES = (".nii.gz", ".nii")
#: Value of `space` for images whose name has none.
NATIVE = "native"
PREPROCESSED = "preproc"
_VARIANT = ("space", "cohort", "res", "den")


def derivative_trees(bids_dir: Path, derivatives: str | Path | Sequence[str | Path] | None) -> list[BIDSTree]:
    """Folders of preprocessed data in the order in which they are asked.

    None stands for `derivatives/fmriprep` where that exists; an empty list for none.
    """
    if derivatives is None:
        default = bids_dir / "derivatives" / "fmriprep"
        derivatives = [default] if default.is_dir() else []
    elif isinstance(derivatives, (str, Path)):
        derivatives = [derivatives]
    return [BIDSTree(Path(folder)) for folder in derivatives]


def find_images(
    raw: BIDSTree, derived: Sequence[BIDSTree], filters: Mapping[str, str | int | Sequence[str | int]]
) -> list[BIDSFile]:
    """BOLD images that pass the filters: preprocessed ones where there are derivatives, else raw ones.

    Raises
    ------
    InputError
        There are none; the message says what was searched and what there is.
    """
    trees = derived or [raw]
    images = [file for tree in trees for file in tree.select(("bold",), IMAGES)]
    wanted = {short_name(key) or key: _texts(value) for key, value in filters.items()}
    if derived:
        wanted = {"desc": [PREPROCESSED]} | wanted
    if "part" not in wanted:
        images = [file for file in images if file.entities.get("part", "mag") == "mag"]
    where = ", ".join(str(tree.root) for tree in trees)
    if not images:
        raise InputError(
            where,
            f"no BOLD image ({'*_desc-preproc_bold' if derived else 'sub-*/**/*_bold'}.nii[.gz]) was found.",
            "Check data.derivatives; `derivatives: []` takes the raw images." if derived else "Check data.bids_dir.",
        )
    for key, values in wanted.items():
        kept = [f for f in images if any(same_value(key, v, f.entities.get(key, "")) for v in values)]
        if not kept:
            there = _tally(f.entities.get(key) for f in images)
            raise InputError(
                where,
                f"no BOLD image has {key}-{' or '.join(values)}; there is {there}.",
                f"Set `data.filters: {{{key}: ...}}`.",
            )
        images = kept
    return images


def choose_images(
    images: list[BIDSFile],
    *,
    task: str | None,
    space: str | None,
    filters: Mapping[str, str | int | Sequence[str | int]],
) -> dict[str, BIDSFile]:
    """Choose one image for every run, by run id.

    Raises
    ------
    InputError
        Task, space, resolution or echo is not clear, or not there; the message lists the choices.
    """
    images = _one_task(images, task)
    images = _one_variant(images, space)
    images = _one_echo(images, any(short_name(key) == "echo" for key in filters))
    chosen: dict[str, BIDSFile] = {}
    for file in images:
        other = chosen.setdefault(file.run_id, file)
        # of several derivative folders the first prevails; within one folder a run has one image
        if other is not file and other.path.parent == file.path.parent:
            raise InputError(
                file.run_id,
                f"two images fit: {other.path.name} and {file.path.name}.",
                "Tell them apart with data.filters, such as `filters: {desc: preproc}`.",
            )
    return chosen


def tasks_of(images: Iterable[BIDSFile]) -> Counter[str]:
    """Count the images of each task."""
    return Counter(file.entities.get("task", "") for file in images)


def variants_of(images: Iterable[BIDSFile]) -> Counter[str]:
    """Count the images of each space and resolution, such as `MNI152NLin2009cAsym_res-2` or `native`."""
    return Counter(_variant(file) for file in images)


def _variant(file: BIDSFile) -> str:
    rest = [f"{key}-{file.entities[key]}" for key in _VARIANT[1:] if key in file.entities]
    return "_".join([file.entities.get("space", NATIVE), *rest])


def _one_task(images: list[BIDSFile], task: str | None) -> list[BIDSFile]:
    tasks = tasks_of(images)
    if task is None and len(tasks) == 1:
        return images
    if task is None:
        raise InputError("data.task", f"is not given, and there are several: {_tally(tasks.elements())}.", "Name one.")
    kept = [file for file in images if file.entities.get("task") == task]
    if not kept:
        raise InputError("data.task", f"{task!r} has no image; there is {_tally(tasks.elements())}.", "Name one.")
    return kept


def _one_variant(images: list[BIDSFile], space: str | None) -> list[BIDSFile]:
    """Images of one space and one resolution, for one study is one grid."""
    spaces = Counter(file.entities.get("space", NATIVE) for file in images)
    if space is not None:
        images = [file for file in images if file.entities.get("space", NATIVE) == space]
        if not images:
            there = _tally(spaces.elements())
            raise InputError("data.space", f"{space!r} has no image; there is {there}.", "Name one.")
    elif len(spaces) > 1:
        first = min(spaces, key=lambda name: (name == NATIVE, name))
        raise InputError(
            "data.space",
            f"is not given, and there are several: {_tally(spaces.elements())}.",
            f"Choose one, such as `space: {first}`.",
        )
    variants = variants_of(images)
    if len(variants) > 1:
        keys = [key for key in _VARIANT[1:] if len({file.entities.get(key) for file in images}) > 1]
        raise InputError(
            "data.filters",
            f"leave several versions of one space: {_tally(variants.elements())}.",
            f"Choose one, such as `filters: {{{keys[0]}: ...}}`.",
        )
    return images


def _one_echo(images: list[BIDSFile], echo_wanted: bool) -> list[BIDSFile]:
    """Drop single echoes; a run that has nothing else is refused unless an echo was asked for."""
    if echo_wanted:
        return images
    combined = [file for file in images if "echo" not in file.entities]
    runs = {file.run_id for file in combined}
    left = [file for file in images if file.run_id not in runs]
    if left:
        echoes = sum(file.run_id == left[0].run_id for file in left)
        raise InputError(
            str(left[0].path),
            f"is one of {echoes} echoes, and their combination is not there.",
            "Combine the echoes first (fMRIPrep does), or take one with `data.filters: {echo: 2}`.",
        )
    return combined


def _texts(value: str | int | Sequence[str | int]) -> list[str]:
    return [str(v) for v in ([value] if isinstance(value, (str, int)) else value)]


def _tally(values: Iterable[str | None]) -> str:
    """Write counts as `a (12 images), b (3 images)`."""
    counts = Counter(value or "none" for value in values)
    return ", ".join(f"{name} ({n} image{'s' * (n > 1)})" for name, n in sorted(counts.items())) or "none"
