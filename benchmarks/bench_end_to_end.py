"""One run, `.nii.gz` to z map, as a whole process: `voxloom run` against nilearn's FirstLevelModel, AR(1).

Both sides read the same file, mask and events, build the same design (SPM HRF, cosine drift, 24 confounds) and
write the z map of one contrast. voxloom goes the whole line: ingest into a store, fit, combine, export of six
maps with sidecars; neither draws a report. Imports and compilation caches count on both sides; one BLAS thread each.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks._harness import whole_process
from voxloom.io.nifti.write import make_image, single_file_header, write_volumes
from voxloom.schema import Grid

#: The geometry of a task run of the Human Connectome Project: 2 mm, 405 volumes, TR 0.72 s.
SHAPE, N_VOLUMES, T_R = (91, 109, 91), 405, 0.72
N_CONFOUNDS = 24

NILEARN = """
import sys
import pandas as pd
from nilearn.glm.first_level import FirstLevelModel
bold, mask, events, confounds, out = sys.argv[1:]
model = FirstLevelModel(t_r={t_r}, hrf_model="spm", noise_model="ar1", mask_img=mask, signal_scaling=False, n_jobs=1)
model.fit(bold, events, pd.read_csv(confounds, sep="\\t"))
model.compute_contrast("face - house").to_filename(out)
"""


def write_dataset(root: Path, seed: int = 0) -> dict[str, Path]:
    """One run of plausible BOLD: smooth anatomy, AR noise, int16, an ellipsoid as the brain."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    mask = sum((a / 0.78) ** 2 for a in axes) < 1
    grid = Grid.of(SHAPE, np.diag([2.0, 2.0, 2.0, 1.0]))
    mean = np.where(mask, 9000 + 1500 * np.sin(4 * axes[0]) * np.cos(3 * axes[1]), 300)
    raw, deriv = root / "sub-01/func", root / "derivatives/fmriprep/sub-01/func"
    stem = "sub-01_task-faces"
    for folder in (raw, deriv):
        folder.mkdir(parents=True)
    for folder, kind in ((root, "raw"), (root / "derivatives/fmriprep", "derivative")):
        (folder / "dataset_description.json").write_text(
            json.dumps({"Name": "bench", "BIDSVersion": "1.8.0", "DatasetType": kind})
        )

    def volumes() -> Any:
        noise = np.zeros(SHAPE, np.float32)
        for _ in range(N_VOLUMES):
            noise = 0.4 * noise + rng.standard_normal(SHAPE, np.float32) * (0.015 * mean)
            yield np.clip(mean + noise, 0, 32767).astype(np.int16)

    image = make_image(np.zeros(SHAPE, np.int16), grid, t_r=T_R)
    image.header.set_data_shape((*SHAPE, N_VOLUMES))
    image.header["pixdim"][4] = T_R
    bold = write_volumes(deriv / f"{stem}_desc-preproc_bold.nii.gz", single_file_header(image.header), volumes())
    mask_image = make_image(mask.astype(np.uint8), grid)
    mask_path = write_volumes(
        deriv / f"{stem}_desc-brain_mask.nii.gz",
        single_file_header(mask_image.header),
        [mask.astype(np.uint8)],
    )
    onsets = np.arange(10, N_VOLUMES * T_R - 30, 30.0)
    events = pd.DataFrame({"onset": onsets, "duration": 15.0, "trial_type": np.resize(["face", "house"], len(onsets))})
    events_path = raw / f"{stem}_events.tsv"
    events.to_csv(events_path, sep="\t", index=False)
    walks = rng.standard_normal((N_VOLUMES, N_CONFOUNDS)).cumsum(axis=0)
    confounds_path = deriv / f"{stem}_desc-confounds_timeseries.tsv"
    pd.DataFrame(walks, columns=[f"walk{i:02d}" for i in range(N_CONFOUNDS)]).to_csv(
        confounds_path, sep="\t", index=False
    )
    (raw / f"{stem}_bold.json").write_text(json.dumps({"RepetitionTime": T_R, "TaskName": "faces"}))
    return {"bold": bold, "mask": mask_path, "events": events_path, "confounds": confounds_path}


def write_analysis(root: Path, folder: Path) -> Path:
    """The analysis file; tasks run in the one process."""
    analysis = {
        "data": {"bids_dir": str(root), "task": "faces"},
        "store": {"path": str(folder / "study.zarr")},
        "output": {"dir": str(folder / "results")},
        "first_level": {"noise_model": "ar1", "confounds": ["walk*"], "contrasts": {"fh": "face - house"}},
        "cluster": "threads",
    }
    path = folder / "analysis.json"
    path.write_text(json.dumps(analysis))
    return path


def run(repeats: int = 3) -> dict[str, Any]:
    """CPU seconds and peak memory of both sides, as whole processes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = write_dataset(folder / "bids")
        analysis = write_analysis(folder / "bids", folder)
        (folder / "theirs.py").write_text(NILEARN.format(t_r=T_R))
        # a fresh store every time: the shell removes it first, which costs milliseconds
        work = f"{sys.executable} -m voxloom run --no-report {analysis}"
        ours = f"rm -rf {folder}/study.zarr {folder}/results; exec {work}"
        theirs = [
            sys.executable,
            str(folder / "theirs.py"),
            *(str(files[k]) for k in ("bold", "mask", "events", "confounds")),
        ]
        measured = whole_process(
            ["sh", "-c", ours],
            [*theirs, str(folder / "z.nii.gz")],
            repeats,
            env={"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        ratio = measured["ratio_b_over_a"]
        return {
            "what": "one run, .nii.gz to z map; a: voxloom run, REML AR(1); b: nilearn FirstLevelModel, ar1",
            "shape": [*SHAPE, N_VOLUMES],
            "file_mib": files["bold"].stat().st_size / 2**20,
            "cpu_ratio_nilearn_over_voxloom": ratio["cpu"]["median"],
            "memory_ratio_nilearn_over_voxloom": ratio["peak_mib"]["median"],
            **measured,
        }
