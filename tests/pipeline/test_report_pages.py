"""Reports of an analysis: their numbers are those of the store, they cost no run its success, and are drawn once."""

from __future__ import annotations

import base64
import gzip
import json
import re
import shutil
from html import unescape
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import voxloom
from voxloom.cli import app
from voxloom.engine.events import StageFinished
from voxloom.errors import StoreError
from voxloom.io.store.objects import Objects
from voxloom.models.design.diagnostics import design_diagnostics
from voxloom.pipeline.stored.fit import load_design
from voxloom.report.after_run import reports_after
from voxloom.report.kept import kept_analysis
from voxloom.report.series import run_series
from voxloom.report.stage import write_reports
from voxloom.spec import parse_analysis

if TYPE_CHECKING:
    from pathlib import Path

RUN = "sub-01_task-faces_run-1"


class Read:
    """A page as a reader has it: tables, facts about maps, volumes."""

    def __init__(self, path: Path) -> None:
        self.html = path.read_text(encoding="utf-8")
        self.tables = [self._table(text) for text in re.findall(r"<table>.*?</table>", self.html, re.DOTALL)]
        found = re.findall(r'<script type="application/json" class="about">(.*?)</script>', self.html, re.DOTALL)
        self.maps = {one["name"]: one for text in found for one in json.loads(text)}

    @staticmethod
    def _table(text: str) -> pd.DataFrame:
        def cells(row: str, tag: str) -> list[str]:
            return [
                unescape(re.sub("<.*?>", "", cell)).replace("\N{MINUS SIGN}", "-").replace(",", "")
                for cell in re.findall(rf"<{tag}[ >].*?</{tag}>", row, re.DOTALL)
            ]

        rows = [cells(row, "td") for row in re.findall(r"<tr>(?=<td).*?</tr>", text, re.DOTALL)]
        return pd.DataFrame(rows, columns=cells(text, "th"))

    def table(self, *columns: str) -> pd.DataFrame:
        """The first table that has these columns."""
        return next(table for table in self.tables if set(columns) <= set(table))

    def image(self, name: str) -> nib.Nifti1Image:
        """The volume of a map."""
        data = re.search(rf'<script type="text/plain" id="{self.maps[name]["id"]}">(.*?)<', self.html)[1]
        return nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(data)))

    def values(self, name: str, study: Any) -> np.ndarray:
        """A map's values in the voxels of the study."""
        image, ijk = self.image(name), np.stack(np.unravel_index(study.voxel, study.grid.shape), axis=1)
        xyz = nib.affines.apply_affine(study.grid.matrix, ijk)
        there = np.rint(nib.affines.apply_affine(np.linalg.inv(image.affine), xyz)).astype(int)
        return image.get_fdata()[tuple(there.T)]


@pytest.fixture(scope="module")
def analysis(pristine_study, analysis_of, undisturbed_run, tmp_path_factory) -> Any:
    """An analysis that has been run, over a store of its own."""
    folder = tmp_path_factory.mktemp("reported")
    shutil.copytree(undisturbed_run.store, folder / "study.zarr")
    return parse_analysis(analysis_of(pristine_study, folder))


@pytest.fixture(scope="module")
def pages(analysis) -> Path:
    """The folder of its reports."""
    return write_reports(analysis).parent


@pytest.fixture(scope="module")
def study(analysis) -> Any:
    return voxloom.open_study(analysis.store.path)


@pytest.fixture(scope="module")
def subject(pages) -> Read:
    return Read(pages / "sub-01.html")


@pytest.fixture(scope="module")
def model(pages) -> Read:
    return Read(pages / "model-mean.html")


def subject_z(analysis, contrast: str) -> np.ndarray:
    """z of a subject by the functions for models in memory."""
    study = voxloom.open_study(analysis.store.path)
    fits = [study.fit(f"sub-01_task-faces_run-{i}").load() for i in (1, 2)]
    return voxloom.contrast_over_runs(fits, analysis.first_level.contrasts[contrast].expression).z_score


def test_every_subject_and_model_has_a_page_and_the_index_leads_to_it(pages):
    there = {path.name for path in pages.iterdir()}
    assert there == {"index.html", "model-mean.html", *(f"sub-{i:02d}.html" for i in range(1, 5))}
    assert set(re.findall(r'<a href="([\w-]+\.html)"', (pages / "index.html").read_text())) == there - {"index.html"}


@pytest.mark.parametrize("contrast", ["faceVsHouse", "any"])
def test_maps_of_a_subject_are_those_of_its_fits(subject, study, analysis, contrast):
    z = subject_z(analysis, contrast)
    shown = subject.values(contrast, study)
    np.testing.assert_allclose(shown, np.nan_to_num(z), atol=1e-4 * np.nanmax(np.abs(z)))
    assert subject.maps[contrast]["largest"] == pytest.approx(float(np.nanmax(np.abs(z))))


def test_clusters_of_a_subject_are_those_of_the_function(subject, analysis):
    names = list(analysis.first_level.contrasts)
    shown = [table for table in subject.tables if "peak z" in table][names.index("faceVsHouse")]
    expected = voxloom.clusters_table(subject_z(analysis, "faceVsHouse"), threshold=3.09)
    assert list(shown["cluster"]) == list(expected["cluster_id"])
    for column, of_function in {"x": "x", "y": "y", "z": "z", "peak z": "peak"}.items():
        np.testing.assert_allclose(shown[column].astype(float), expected[of_function], atol=0.06)


def test_quality_is_that_of_the_data(subject, study, analysis):
    run = study.run(RUN).load()
    row = subject.table("median tSNR").set_index("run").loc[RUN]
    series = voxloom.quality_series(run)
    inside = run["in_mask"].to_numpy()
    assert float(row["median tSNR"]) == pytest.approx(float(np.nanmedian(run["tsnr"][inside])), rel=5e-3)
    assert float(row["mean DVARS"]) == pytest.approx(float(series["dvars"].mean()), rel=5e-3)
    assert float(row["mean FD mm"]) == pytest.approx(float(series["framewise_displacement"].mean()), rel=5e-3)
    assert int(row["kept"]) == 60
    assert int(row["voxels"]) == inside.sum()
    rho = study.fit(RUN, analysis.fit_digest)["rho"].to_numpy()[inside]
    assert float(row["median rho"]) == pytest.approx(np.nanmedian(rho), abs=5e-3)


def test_series_of_a_stored_run_are_those_of_the_function_whatever_the_chunks(study, analysis):
    design = load_design(study.objects, f"{analysis.fit_digest}/{RUN}")
    found, expected = run_series(study.objects, RUN, design), voxloom.quality_series(study.run(RUN).load())
    for name in ("global_signal", "dvars", "framewise_displacement", "kept"):
        np.testing.assert_allclose(found[name].astype(float), expected[name].astype(float), rtol=1e-10)


def test_maps_of_quality_are_means_over_the_runs(subject, study):
    runs = [study.run(f"sub-01_task-faces_run-{i}").load() for i in (1, 2)]
    tsnr = np.stack([np.where(run["in_mask"], run["tsnr"], np.nan) for run in runs])
    with np.errstate(invalid="ignore"):
        expected = np.nansum(tsnr, axis=0) / np.isfinite(tsnr).sum(axis=0)
    np.testing.assert_allclose(subject.values("tSNR", study), np.nan_to_num(expected), atol=0.01)
    np.testing.assert_array_equal(subject.values("coverage", study), sum(run["in_mask"].astype(int) for run in runs))


def test_designs_are_told_with_the_inflation_of_each_contrast(subject, study, analysis):
    matrix = load_design(study.objects, f"{analysis.fit_digest}/{RUN}").matrix
    expressions = {name: one.expression for name, one in analysis.first_level.contrasts.items()}
    expected = design_diagnostics(matrix, expressions).contrasts
    shown = subject.table("contrast", "VIF").set_index("contrast")
    for name, row in expected.iterrows():
        assert float(shown.loc[name, "VIF"]) == pytest.approx(row["vif"], rel=5e-3)
    assert "<svg" in subject.html


def test_maps_of_a_model_and_their_clusters_are_those_of_the_store(model, study, analysis):
    found = study.results(analysis.group_digest("mean")).isel(group_contrast=0, contrast=0).load()
    np.testing.assert_allclose(model.values("faceVsHouse", study), np.nan_to_num(found.z_score), atol=1e-3)
    np.testing.assert_array_equal(model.values("subjects", study), np.nan_to_num(found.n))
    alpha = analysis.group["mean"].inference.alpha
    expected = voxloom.clusters_table(found.z_score.where(found.p_max_stat <= alpha), threshold=1e-9, p=found)
    assert len(expected)
    shown = model.table("cluster", "p FWE").replace("", np.nan).astype({"p FWE": float, "q FDR": float})
    assert list(shown["cluster"]) == list(expected["cluster_id"])
    np.testing.assert_allclose(shown["p FWE"], expected["p_max_stat"], rtol=5e-3)
    np.testing.assert_allclose(shown["q FDR"], expected["p_fdr"], rtol=5e-3)


def test_nulls_and_survivors_of_a_model_are_those_of_the_store(model, study, analysis):
    found = study.results(analysis.group_digest("mean")).isel(group_contrast=0, contrast=0).load()
    null, alpha = found.null_max_stat.to_numpy(), analysis.group["mean"].inference.alpha
    row = model.table("rearrangements", "threshold").iloc[0].drop(["map", "statistic"]).astype(float)
    assert row["rearrangements"] == null.size == 16
    assert row["observed"] == pytest.approx(null[0], rel=5e-3)
    assert row["threshold"] == pytest.approx(np.quantile(null, 1 - alpha, method="higher"), rel=5e-3)
    assert row["p"] == pytest.approx(float(found.p_max_stat.min()), rel=5e-3)
    left = model.table("correction", "voxels").set_index("correction")
    for shown, variable in {"p FWE": "p_max_stat", "q FDR": "p_fdr", "p Bonferroni": "p_bonferroni"}.items():
        assert int(left.loc[shown, "voxels"]) == int((found[variable] <= alpha).sum())


def test_methods_and_provenance_tell_what_was_done(subject, model, analysis, study):
    for words in ("SPM's canonical", "AR(1)", "combined as fixed effects", "voxloom " + voxloom.__version__):
        assert words in unescape(subject.html)
    assert "Maps of 4 subjects entered a group model" in model.html
    assert "maximum of the voxelwise statistic, from 16 sign flips" in model.html
    assert "Nuisance variables" not in model.html  # a mean alone has none
    for page in (subject, model):
        cited = set(re.findall(r"\(?([A-Z][\w ]+(?: et al\.| and \w+)?, \d{4})[;)]", unescape(page.html)))
        assert cited
        assert len(re.findall(r'<p class="reference">', page.html)) >= len(cited)
    sources = json.loads(json.dumps([study.run(run).attrs for run in study.runs.index], default=str))
    assert sources
    assert study.runs.loc[RUN, "source"].rpartition("/")[2] in subject.html
    assert str(analysis.store.path) not in subject.html + model.html
    assert analysis.infer_digest("mean") in model.html


def test_pages_are_drawn_once_and_again_where_one_is_gone(pages, analysis):
    before = {path.name: path.read_bytes() for path in pages.iterdir()}

    def drawn() -> int:
        events: list[Any] = []
        write_reports(analysis, on_event=events.append)
        started = next(event for event in events if hasattr(event, "total"))
        finished = next(event for event in events if isinstance(event, StageFinished))
        return finished.done - started.done

    assert drawn() == 0
    (pages / "sub-03.html").unlink()
    (pages / "model-mean.html").write_text("of something else")
    assert drawn() == 2
    assert {path.name: path.read_bytes() for path in pages.iterdir()} == before


def test_a_store_alone_can_be_reported_on_again(pages, analysis, tmp_path):
    answer = CliRunner().invoke(app, ["report", str(analysis.store.path), "-o", str(tmp_path), "--quiet"])
    assert answer.exit_code == 0, answer.output
    assert answer.stdout == f"{tmp_path / 'reports/index.html'}\n"
    assert (tmp_path / "reports/sub-02.html").read_bytes() == (pages / "sub-02.html").read_bytes()


def test_a_store_that_was_never_reported_on_asks_for_the_analysis(undisturbed_run):
    with pytest.raises(StoreError, match="Give the analysis file"):
        kept_analysis(undisturbed_run.store)
    answer = CliRunner().invoke(app, ["report", undisturbed_run.store])
    assert answer.exit_code == 2
    assert "Give the analysis file" in answer.stderr


@pytest.mark.usefixtures("already_run")
def test_a_page_that_cannot_be_drawn_is_named_and_costs_the_run_nothing(
    pristine_study, tmp_path, analysis_of, monkeypatch
):
    def broken(**_: Any) -> None:
        raise ZeroDivisionError("of a drawing")

    monkeypatch.setattr("voxloom.report.stage.group_page", broken)
    spec = analysis_of(pristine_study, tmp_path)
    result = voxloom.run(spec, afterwards=reports_after)
    assert result.ok
    assert "report of mean: could not be drawn: ZeroDivisionError: of a drawing" in result.warnings
    index = (tmp_path / "results/reports/index.html").read_text()
    assert "mean: ZeroDivisionError: of a drawing" in index
    assert "sub-04.html" in index
    monkeypatch.undo()
    assert not any("drawn" in note for note in voxloom.run(spec, afterwards=reports_after).warnings)
    assert "ZeroDivisionError" not in (tmp_path / "results/reports/index.html").read_text()

    monkeypatch.setattr("voxloom.report.stage.tasks", broken)
    result = voxloom.run(spec, afterwards=reports_after)
    assert result.ok
    assert any("reports: could not be drawn" in note for note in result.warnings)


@pytest.mark.usefixtures("already_run")
def test_who_was_set_aside_is_on_the_page_of_the_model_with_the_reason(bids, tmp_path, analysis_of):
    for path in (bids / "derivatives/fmriprep/sub-02/func").glob("*preproc_bold.nii.gz"):
        path.write_bytes(path.read_bytes()[:5000])
    result = voxloom.run(analysis_of(bids, tmp_path), afterwards=reports_after)
    assert result.quarantined
    page = Read(tmp_path / "results/reports/model-mean.html")
    row = page.table("set aside", "reason").iloc[0]
    assert row["subject"] == "sub-02"
    assert row["in the model"] == "no"
    assert result.quarantined[0].reason.replace(",", "") == row["reason"]
    assert not (tmp_path / "results/reports/sub-02.html").exists()


def test_without_matplotlib_pages_say_so_and_keep_their_tables_and_maps(analysis, tmp_path, monkeypatch):
    for module in ("figures", "surface"):
        monkeypatch.setattr(f"voxloom.report.{module}.find_spec", lambda name: None)
    pages = write_reports(analysis, output=tmp_path).parent
    for name in ("sub-01", "model-mean"):
        page = Read(pages / f"{name}.html")
        assert "pip install &#39;voxloom[plot]&#39;" in page.html
        assert "<svg" not in page.html
        assert page.maps
        assert page.table("cluster") is not None


def test_the_store_says_no_more_than_which_analysis_it_is_of(analysis, undisturbed_run):
    before, after = (set(Objects(url).list("")) for url in (undisturbed_run.store, analysis.store.path))
    assert {key for key in after - before if not key.startswith("ledger/report/")} <= {"analysis.json", "lock.json"}


@pytest.mark.slow
def test_models_of_every_kind_of_inference_have_their_page(pristine_study, analysis_of, undisturbed_run, tmp_path):
    """F contrasts, clusters, TFCE, p over several contrasts, pseudo-t: what the store has of them is on the page."""
    shutil.copytree(undisturbed_run.store, tmp_path / "study.zarr")
    inference = {"n_perm": 16, "alpha": 0.25}
    spatial = {
        "statistics": ["max_stat", {"cluster_size": {"threshold": 0.2}}, "tfce"],
        "joint": "contrasts",
        "scheme": "flip",
    }
    group = {
        "sites": {
            "formula": "C(site)",
            "contrasts": {"both": ["intercept", "C(site)[T.site2]"], "site": "C(site)[T.site2]"},
            "first_level_contrasts": ["faceVsHouse"],
            "inference": inference | spatial,
        },
        "mean": {"inference": inference | {"variance_smoothing_fwhm": 12.0}},
    }
    result = voxloom.run(analysis_of(pristine_study, tmp_path, group=group), afterwards=reports_after)
    assert not [note for note in result.warnings if "drawn" in note]
    study = voxloom.open_study(result.store)
    found = study.results(result.group_names["sites"]).isel(contrast=0).load()
    page = Read(result.output / "reports/model-sites.html")
    np.testing.assert_allclose(
        page.values("faceVsHouse: both", study), np.nan_to_num(found.z_score.sel(group_contrast="both")), atol=1e-3
    )
    left = page.table("correction", "voxels").set_index("correction")
    for shown, variable in {
        "p FWE size": "p_cluster_size",
        "p FWE TFCE": "p_tfce",
        "p joint": "p_joint_max_stat",
    }.items():
        expected = (found[variable].sel(group_contrast="both") <= 0.25).sum()
        assert int(left.loc[shown, "voxels"]) == int(expected)
    table = page.table("cluster", "p FWE size", "p joint size")
    assert "treatment coding of" in page.html
    assert len(table) == len(
        voxloom.clusters_table(found.z_score.sel(group_contrast="both"), threshold=0.8416, two_sided=False)
    )
    smooth = study.results(result.group_names["mean"]).isel(contrast=0, group_contrast=0).load()
    np.testing.assert_allclose(
        Read(result.output / "reports/model-mean.html").values("faceVsHouse", study),
        np.nan_to_num(smooth.pseudo_t),
        atol=2e-3,
    )
