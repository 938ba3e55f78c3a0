"""Twelve real runs of one person, file to z map, against nilearn's FirstLevelModel on the same files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pytest
from nilearn.glm.first_level import FirstLevelModel

import voxloom

if TYPE_CHECKING:
    from pathlib import Path

T_R = 2.5


def analysis(voxloom_data: Path, folder: Path, noise_model: str, precision_weighted: bool = False) -> dict:
    return {
        "data": {"bids_dir": str(voxloom_data / "data/haxby2001_sub001/bids"), "task": "objectviewing"},
        "store": {"path": str(folder / "study.zarr")},
        "output": {"dir": str(folder / f"{noise_model}-{precision_weighted}")},
        "subject_level": {"fixed_effects": {"precision_weighted": precision_weighted}},
        "first_level": {
            "hrf_model": "spm",
            "high_pass": 1 / 128,
            "noise_model": noise_model,
            "contrasts": {"face - house": "face - house", "categories": ["face - house", "cat - chair"]},
        },
        "cluster": "local",
        "workers": 2,
        "memory_budget": "128MiB",
    }


@pytest.fixture(scope="module")
def studies(voxloom_data, tmp_path_factory):
    """One store for both models: the runs are ingested once."""
    folder = tmp_path_factory.mktemp("haxby")
    done = {}
    for noise_model in ("ols", "ar1-yule-walker"):
        done[noise_model] = voxloom.run(analysis(voxloom_data, folder, noise_model))
    done["weighted"] = voxloom.run(analysis(voxloom_data, folder, "ols", precision_weighted=True))
    assert all(result.ok for result in done.values()), done
    return done


@pytest.fixture(scope="module")
def nilearn_fits(voxloom_data, studies):
    study = voxloom.open_study(studies["ols"].store)
    mask = nibabel.Nifti1Image(study.mask.astype(np.uint8), study.grid.matrix)
    func = voxloom_data / "data/haxby2001_sub001/bids/sub-001/func"
    images = sorted(func.glob("*_bold.nii.gz"))
    events = [path.with_name(path.name.replace("_bold.nii.gz", "_events.tsv")) for path in images]
    assert len(images) == 12

    def fit(noise_model: str) -> FirstLevelModel:
        return FirstLevelModel(
            t_r=T_R,
            hrf_model="spm",
            high_pass=1 / 128,
            noise_model=noise_model,
            mask_img=mask,
            signal_scaling=False,
        ).fit([str(p) for p in images], [str(p) for p in events])

    return {"ols": fit("ols"), "ar1-yule-walker": fit("ar1")}


@pytest.mark.parametrize("noise_model", ["ols", "ar1-yule-walker"])
def test_fixed_effects_equal_nilearn(studies, nilearn_fits, noise_model):
    result = studies[noise_model]
    ours = voxloom.open_study(result.store).results(result.results_name).sel(contrast="face - house").isel(subject=0)
    model = nilearn_fits[noise_model]
    theirs = model.compute_contrast("face - house", output_type="all")

    def values(name: str) -> np.ndarray:
        return model.masker_.transform(theirs[name]).ravel()

    np.testing.assert_allclose(ours.effect, values("effect_size"), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ours.variance, values("effect_variance"), rtol=1e-5)
    np.testing.assert_allclose(ours.stat, values("stat"), rtol=1e-5, atol=1e-5)


def test_known_face_house_effect(studies):
    """Precision-weighted fixed effects of OLS fits span -11.7 to 4.8, as the README of the data reports."""
    name = "sub-001_task-objectviewing_contrast-faceMinusHouse_stat-t_statmap.nii.gz"
    t = nibabel.load(studies["weighted"].output / "sub-001" / "func" / name).get_fdata()
    assert t.shape == (40, 20, 1)
    assert t.min() == pytest.approx(-11.7, abs=0.05)
    assert t.max() == pytest.approx(4.8, abs=0.05)


def test_store_holds_the_source_bit_for_bit(studies, voxloom_data, tmp_path):
    study = voxloom.open_study(studies["ols"].store)
    assert len(study.runs) == 12
    run_id = study.runs.index[0]
    source = nibabel.load(study.runs.loc[run_id, "source"])
    bold = study.run(run_id).bold
    assert bold.dtype == source.get_data_dtype()
    np.testing.assert_array_equal(bold.values, np.asanyarray(source.dataobj)[study.mask])
