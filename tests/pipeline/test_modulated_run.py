"""Modulators from the events files to the maps, through the store."""

from __future__ import annotations

import numpy as np
import pandas as pd

import voxloom
from voxloom.io.store.objects import Objects
from voxloom.models.contrasts import contrast
from voxloom.models.design.matrix import design_matrix
from voxloom.models.first_level.fit import fit_first_level
from voxloom.pipeline.stored.fit import load_design
from voxloom.spec import parse_analysis

RUN = "sub-01_task-faces_run-1"


def test_maps_of_a_modulator_are_those_of_its_files(bids, tmp_path, analysis_of):
    """`rt` is n/a for houses, as BIDS writes it; so they have none."""
    rng = np.random.default_rng(0)
    for path in bids.glob("sub-*/func/*events.tsv"):
        table = pd.read_csv(path, sep="\t")
        rt = np.where(table["trial_type"] == "face", rng.uniform(0.3, 1.5, len(table)), np.nan)
        table.assign(rt=rt).to_csv(path, sep="\t", index=False, na_rep="n/a")
    level = {"confounds": [], "modulators": ["rt"], "oversampling": 20, "contrasts": {"rt": "face*rt"}}
    spec = analysis_of(bids, tmp_path, first_level=level)
    spec["group"], spec["data"]["filters"] = {}, {"subject": "01", "run": 1}
    result = voxloom.run(spec)
    assert result.ok
    study = voxloom.open_study(result.store)
    run = study.run(RUN)
    table = pd.read_csv(next(bids.glob("sub-01/func/*run-1_events.tsv")), sep="\t")
    X = design_matrix(run.time.to_numpy(), table, oversampling=20, modulators=["rt"])
    assert "face*rt" in X
    assert "house*rt" not in X
    stored = load_design(Objects(result.store), f"{parse_analysis(spec).fit_digest}/{RUN}")
    np.testing.assert_allclose(stored.matrix, X, atol=1e-12)
    expected = contrast(fit_first_level(run, X), "face*rt")
    maps = study.results(result.results_name).sel(subject="sub-01", contrast="rt")
    np.testing.assert_allclose(maps.effect, expected.effect, rtol=1e-8, atol=1e-10)
