"""Names and texts of the results: read back by nilearn, and the same bytes for the same content."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nilearn.interfaces.bids import parse_bids_filename

from voxloom import __version__
from voxloom.errors import InputError
from voxloom.io.bids.derivative_dataset import write_dataset
from voxloom.io.bids.derivatives import (
    STATISTICS,
    design_name,
    group_design_name,
    group_name,
    json_text,
    sidecar,
    subject_name,
    write_design,
    write_sidecar,
)

if TYPE_CHECKING:
    from pathlib import Path

RUN = {"sub": "01", "ses": "a", "task": "faces", "run": "1", "space": "MNI", "desc": "preproc"}


def test_names():
    assert subject_name(RUN, contrast="face - house", stat="t") == (
        "sub-01/ses-a/func/sub-01_ses-a_task-faces_run-1_space-MNI_contrast-faceMinusHouse_stat-t_statmap.nii.gz"
    )
    assert subject_name({"sub": "01"}, contrast="any", stat="F", extension=".nii") == (
        "sub-01/func/sub-01_contrast-any_stat-F_statmap.nii"
    )
    shared = {"task": "x", "space": "MNI"}
    assert group_name("age model", contrast="face", test="age", stat="p", desc="fwe", entities=shared) == (
        "group/ageModel/model-ageModel_task-x_space-MNI_contrast-face_test-age_stat-p_desc-fwe_statmap.nii.gz"
    )
    assert design_name(RUN) == "sub-01/ses-a/func/sub-01_ses-a_task-faces_run-1_design.tsv"
    assert group_design_name("age model") == "group/ageModel/model-ageModel_design.tsv"
    with pytest.raises(InputError, match="Known: effect"):
        subject_name(RUN, contrast="a", stat="zscore")


@given(
    st.fixed_dictionaries({"sub": st.from_regex(r"[A-Za-z0-9]{1,4}", fullmatch=True)}),
    st.sampled_from(sorted(STATISTICS)),
    st.sampled_from(["a", "a - b", "0.5*a + b"]),
)
def test_names_are_read_back_by_nilearn(entities, stat, contrast):
    name = subject_name(entities | {"task": "x"}, contrast=contrast, stat=stat).rsplit("/", 1)[1]
    parsed = parse_bids_filename(name)
    assert parsed["entities"]["stat"] == stat
    assert parsed["entities"]["sub"] == entities["sub"]
    assert parsed["suffix"] == "statmap"
    assert re.fullmatch(r"([a-z]+-[A-Za-z0-9]+_)+statmap\.nii\.gz", name)


def content(**more: object) -> dict[str, object]:
    return sidecar(
        "p",
        contrast="diff",
        expression=["face", "house"],
        model={"noise_model": "ar1", "high_pass": 0.01},
        test={"name": "mean", "expression": "intercept"},
        dof=5.0,
        n=6,
        correction={"method": "permutation", "n_perm": 64, "seed": 0, "tail": "two-sided"},
        inputs="0123456789ab",
        sources=["sub-01/func/sub-01_bold.nii.gz"],
        **more,
    )


def test_sidecar_says_how_the_map_was_made():
    said = content()
    assert said["Correction"]["n_perm"] == 64
    assert said["Expression"] == ["face", "house"]
    assert said["Sources"] == ["bids::sub-01/func/sub-01_bold.nii.gz"]
    assert said["Software"]["numpy"] == version("numpy") == np.__version__
    assert said["Software"]["voxloom"] == __version__
    assert "DegreesOfFreedom" not in sidecar("t", contrast="a", expression="a", model={})


def test_text_has_no_date_no_path_and_no_order():
    text = json_text(content())
    assert json.loads(text) == content()
    assert json_text(dict(reversed(content().items()))) == text
    assert str(datetime.now(tz=UTC).year) not in text.replace(json.dumps(content()["Software"], indent=2), "")[:400]
    assert not re.search(r'"/', text)
    with pytest.raises(ValueError, match="JSON"):
        json_text({"a": float("nan")})


def test_a_data_set_of_others_stays_theirs(tmp_path: Path):
    theirs = {"Name": "theirs", "BIDSVersion": "1.4.0", "GeneratedBy": [{"Name": "fMRIPrep"}], "License": "CC0"}
    (tmp_path / "dataset_description.json").write_text(json.dumps(theirs))
    (tmp_path / ".bidsignore").write_text("/logs\n")
    for _ in range(2):
        written = write_dataset(tmp_path, name="mine", ignore=["*mask.nii.gz"])
    found = json.loads(written.read_text())
    assert {key: found[key] for key in ("Name", "BIDSVersion", "License")} == {
        key: theirs[key] for key in ("Name", "BIDSVersion", "License")
    }
    assert [one["Name"] for one in found["GeneratedBy"]] == ["fMRIPrep", "voxloom"]
    ignored = (tmp_path / ".bidsignore").read_text().split()
    assert {"/logs", "*_statmap.*", "*mask.nii.gz"} <= set(ignored)
    assert len(set(ignored)) == len(ignored)


def test_files(tmp_path: Path):
    image = tmp_path / "a" / "x_statmap.nii.gz"
    assert write_sidecar(image, content()) == tmp_path / "a" / "x_statmap.json"
    described = json.loads(write_dataset(tmp_path, name="mine").read_text())
    assert described["DatasetType"] == "derivative"
    assert described["GeneratedBy"][0] == {
        "Name": "voxloom",
        "Version": __version__,
        "Description": described["GeneratedBy"][0]["Description"],
    }
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        ".bidsignore",
        "a",
        "dataset_description.json",
        "x_statmap.json",
    ]


@pytest.mark.parametrize("index", [None, "subject"])
def test_design_round_trip(tmp_path: Path, index):
    rng = np.random.default_rng(1)
    design = pd.DataFrame(rng.normal(size=(6, 2)), columns=["face", "a b"], index=[f"sub-{i}" for i in range(6)])
    design.index.name = index
    path = write_design(tmp_path / "x_design.tsv", design, {"InputsDigest": "abc"})
    again = pd.read_csv(path, sep="\t", index_col=0 if index else None)
    text = [line.split("\t") for line in path.read_text().splitlines()[1:]]
    values = np.array([[float(v) for v in row[1 if index else 0 :]] for row in text])
    np.testing.assert_array_equal(values, design.to_numpy())
    assert list(again.columns) == ["face", "a b"]
    assert json.loads((tmp_path / "x_design.json").read_text()) == {
        "Columns": ["face", "a b"],
        "InputsDigest": "abc",
    }
