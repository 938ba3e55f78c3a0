"""The run table: which images an analysis means, with the mask, events, confounds and TR of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from voxloom.errors import InputError
from voxloom.io.bids.images import IMAGES, choose_images, derivative_trees, find_images
from voxloom.io.bids.tree import VERSION_ENTITIES, BIDSTree, natural_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from voxloom.io.bids.tree import BIDSFile

#: Sidecar and header may differ by this many s: headers keep float32 and are often rounded to ms.
T_R_TOLERANCE = 1e-3
#: A longer one is in ms.
MAX_T_R = 100.0


@dataclass(frozen=True, kw_only=True)
class RunFile:
    """One run: its image and the files that belong to it.

    Parameters
    ----------
    id : str
        Entities that say which run it is, such as `sub-01_ses-1_task-x_run-1`; of several sites with
        `site-<name>` in front.
    entities : dict of str to str
        All entities of the image by their keys in file names, values as written, and `site`.
    bold : Path
    mask, events, confounds : Path or None
        None where there is no such file.
    t_r : float or None
        Repetition time in s as the sidecars say; None where they do not.
    """

    id: str
    entities: dict[str, str]
    bold: Path
    mask: Path | None = None
    events: Path | None = None
    confounds: Path | None = None
    t_r: float | None = None

    @property
    def site(self) -> str:
        """Name of the dataset among several; empty where there is one."""
        return self.entities.get("site", "")

    @property
    def subject(self) -> str:
        """`sub-<label>`, as participants.tsv has it; one label at two sites is two people, no label one of its own."""
        return subject_of(self.id, self.entities)


def at_site(site: str, name: str) -> str:
    """Name of a run or subject in a study of several sites."""
    return f"site-{site}_{name}" if site else name


def subject_of(run_id: str, entities: Mapping[str, str]) -> str:
    """Name of the person a run is of; of a run whose name says nothing, the run's."""
    return at_site(entities.get("site", ""), f"sub-{entities['sub']}") if "sub" in entities else run_id


def index_runs(
    bids_dir: str | Path,
    derivatives: str | Path | Sequence[str | Path] | None = None,
    *,
    task: str | None = None,
    space: str | None = None,
    filters: Mapping[str, str | int | Sequence[str | int]] | None = None,
    site: str = "",
) -> list[RunFile]:
    """Find the runs of one dataset.

    Parameters
    ----------
    bids_dir : path
        Raw dataset: events and inherited sidecars come from here, and images where there are no derivatives.
    derivatives : path, sequence of paths, optional
        Preprocessed data; of several folders the first that has a file prevails. None: `derivatives/fmriprep`
        of `bids_dir` where it exists; an empty sequence: the raw images.
    task, space : str, optional
        May be left out where there is only one; `space="native"` means images without a space entity.
    filters : mapping, optional
        Values wanted of other entities, by long or short name.
    site : str
        Name of the dataset where it is one of several.

    Returns
    -------
    list of RunFile
        In natural order of their ids. Images are not opened: an empty file is listed like any other.

    Raises
    ------
    InputError
        Nothing fits, or several images fit one run; the message lists what there is.
    """
    raw = BIDSTree(Path(bids_dir))
    derived = derivative_trees(raw.root, derivatives)
    filters = filters or {}
    images = choose_images(find_images(raw, derived, filters), task=task, space=space, filters=filters)
    masks, confounds = _masks(derived), _confounds(derived)
    runs = [
        RunFile(
            id=at_site(site, run_id),
            entities=({"site": site} if site else {}) | image.entities,
            bold=image.path,
            mask=masks.get(_version(image)),
            events=_events(raw, image),
            confounds=confounds.get(run_id),
            t_r=_sidecar_t_r(raw, derived, image),
        )
        for run_id, image in images.items()
    ]
    return sorted(runs, key=lambda run: natural_key(run.id))


def resolve_t_r(sidecar: float | None, header: float | None, where: str) -> float:
    """Repetition time in s, from the sidecar, else from the header.

    Parameters
    ----------
    sidecar, header : float or None
        What they say; None or 0 where they say nothing.
    where : str
        The image, for messages.

    Raises
    ------
    InputError
        Neither says it, or they contradict each other by more than `T_R_TOLERANCE`.
    """
    known = [t_r for t_r in (sidecar, header) if t_r]
    if not known:
        raise InputError(
            where,
            "neither sidecar nor header has a repetition time.",
            "Add RepetitionTime to the JSON sidecar, or set `data.t_r`.",
        )
    if len(known) == 2 and abs(known[0] - known[1]) > T_R_TOLERANCE:
        raise InputError(
            where,
            f"the sidecar says RepetitionTime {known[0]:g} s, the header {known[1]:g} s.",
            "Correct the wrong one, or set `data.t_r`.",
        )
    return known[0]


def _version(file: BIDSFile) -> frozenset[tuple[str, str]]:
    """Entities that an image and its mask share."""
    return frozenset((k, v) for k, v in file.entities.items() if k not in ("desc", "echo", "part"))


def _masks(trees: Sequence[BIDSTree]) -> dict[frozenset[tuple[str, str]], Path]:
    """Brain masks by the entities they share with their image."""
    masks: dict[frozenset[tuple[str, str]], Path] = {}
    for tree in trees:
        for file in tree.select(("mask",), IMAGES):
            if file.entities.get("desc") == "brain":
                masks.setdefault(_version(file), file.path)
    return masks


def _confounds(trees: Sequence[BIDSTree]) -> dict[str, Path]:
    """Confounds tables by run; `timeseries` is the name since fMRIPrep 20.2, `regressors` the one before."""
    tables: dict[str, Path] = {}
    for tree in trees:
        for suffix in ("timeseries", "regressors"):
            for file in tree.select((suffix,), (".tsv",)):
                if file.entities.get("desc") == "confounds":
                    tables.setdefault(file.run_id, file.path)
    return tables


def _raw_place(image: BIDSFile) -> tuple[Path, dict[str, str]]:
    """Folder in the raw dataset, and entities, of the raw image a preprocessed one was made of."""
    entities = {key: value for key, value in image.entities.items() if key not in VERSION_ENTITIES}
    session = [f"ses-{entities['ses']}"] if "ses" in entities else []
    return Path(f"sub-{entities['sub']}", *session, "func"), entities


def _events(raw: BIDSTree, image: BIDSFile) -> Path | None:
    """Find the nearest, most specific events file."""
    found = raw.inherited(_raw_place(image)[0], "events", ".tsv", _raw_place(image)[1])
    if not found:
        return None
    first = found[0]
    rivals = [f for f in found[1:] if (f.path.parent, len(f.entities)) == (first.path.parent, len(first.entities))]
    if rivals:
        raise InputError(
            image.run_id,
            f"two events files fit equally well: {first.path} and {rivals[0].path.name}.",
            "Rename or remove one.",
        )
    return first.path


def _sidecar_t_r(raw: BIDSTree, derived: Sequence[BIDSTree], image: BIDSFile) -> float | None:
    """RepetitionTime of the image's sidecars, else of the raw image's."""
    trees = [tree for tree in (*derived, raw) if image.path.is_relative_to(tree.root)]
    # a derivative folder may lie inside the raw dataset: the innermost is the image's own
    own = max(trees, key=lambda tree: len(tree.root.parts))
    found = own.metadata(image.path.parent.relative_to(own.root), image.suffix, image.entities)
    if "RepetitionTime" not in found and own is not raw:
        folder, entities = _raw_place(image)
        found = raw.metadata(folder, "bold", entities)
    t_r = found.get("RepetitionTime")
    if t_r is None and "VolumeTiming" in found:
        raise InputError(
            str(image.path),
            "has VolumeTiming, so its volumes are not equally spaced.",
            "Leave it out with data.filters.",
        )
    if t_r is not None and (isinstance(t_r, bool) or not isinstance(t_r, (int, float)) or not 0 < t_r <= MAX_T_R):
        raise InputError(
            str(image.path),
            f"RepetitionTime in its sidecar is {t_r!r}.",
            f"Seconds are wanted, 0 < TR <= {MAX_T_R:g}.",
        )
    return None if t_r is None else float(t_r)
