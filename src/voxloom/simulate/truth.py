"""What a simulated study was made from, kept beside it as NIfTI."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voxloom.errors import InputError
from voxloom.simulate.files import read_nifti, write_nifti
from voxloom.simulate.phantom import CONDITIONS, active

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

#: Folder of the truth in the BIDS directory, and the file whose presence says that the study is complete.
FOLDER = "truth"
MARKER = f"{FOLDER}/simulation.json"


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What a simulated study was made from.

    Parameters
    ----------
    root : Path
        The BIDS directory.
    affine : (4, 4) array
    brain : (I, J, K) bool array
        Voxels that every run covers.
    population : mapping of condition to (I, J, K) array
        Percent signal change per unit regressor that subjects are drawn around.
    sample : mapping of condition to (I, J, K) array
        Mean of the effects of the subjects that were drawn: what an error-free analysis would find.
    """

    root: Path
    affine: FloatArray
    brain: NDArray[np.bool_]
    population: Mapping[str, FloatArray]
    sample: Mapping[str, FloatArray]

    def contrast(self, weights: Mapping[str, float]) -> tuple[FloatArray, FloatArray]:
        """Return the population and the sample map of a weighted sum of conditions, percent signal change."""
        population = sum(weight * self.population[name] for name, weight in weights.items())
        sample = sum(weight * self.sample[name] for name, weight in weights.items())
        return np.asarray(population), np.asarray(sample)


def read_truth(path: str | Path) -> Truth:
    """Read the truth of a study that `write_bids_study` wrote.

    Parameters
    ----------
    path : path
        The BIDS directory.

    Raises
    ------
    InputError
        Where there is no complete simulated study.
    """
    root = Path(path)
    if not (root / MARKER).exists():
        raise InputError(str(root), "is not a complete simulated study.", "Write one with write_bids_study.")
    maps = {
        f"{name}_{kind}": read_nifti(root / FOLDER / f"{name}_{kind}.nii.gz")[0]
        for name in CONDITIONS
        for kind in ("population", "sample")
    }
    brain, affine = read_nifti(root / FOLDER / "brain.nii.gz")
    return Truth(
        root=root,
        affine=affine,
        brain=brain > 0,
        population={name: maps[f"{name}_population"] for name in CONDITIONS},
        sample={name: maps[f"{name}_sample"] for name in CONDITIONS},
    )


def write_truth(
    root: Path, affine: FloatArray, population: FloatArray, effects: FloatArray, covered: NDArray[np.bool_]
) -> None:
    """Write the maps of the truth, all but the marker that the study is complete.

    Parameters
    ----------
    root : Path
        The BIDS directory.
    affine : (4, 4) array
    population : (condition, I, J, K) array
        Percent signal change.
    effects : (subject, condition, I, J, K) array
    covered : (subject, I, J, K) bool array
    """
    weights = covered / np.maximum(covered.sum(axis=0), 1)
    sample = np.einsum("sijk,scijk->cijk", weights, effects)
    images: dict[str, NDArray[Any]] = {"brain": np.asarray(covered.all(axis=0), dtype=np.uint8)}
    for name, centre, drawn in zip(CONDITIONS, population, sample):
        images |= {f"{name}_population": centre, f"{name}_sample": drawn}
    difference = population[0] - population[1]
    images["face-house_population"] = difference
    images["face-house_active"] = active(difference).astype(np.uint8)
    for name, image in images.items():
        write_nifti(root / FOLDER / f"{name}.nii.gz", image, affine)
