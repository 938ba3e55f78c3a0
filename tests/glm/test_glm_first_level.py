"""First-level models by nilearn's names: each usual pattern, and the nearest wrong use of each."""

from __future__ import annotations

import inspect
import warnings

import nibabel
import nilearn.glm
import numpy as np
import pandas as pd
import pytest
from distributed import Client
from nilearn.glm import first_level as theirs

import voxloom
import voxloom.glm
from voxloom.errors import ContrastError, DesignError, GridError, InputError, VoxloomWarning
from voxloom.glm import first_level as ours
from voxloom.glm.first_level import FirstLevelModel
from voxloom.glm.second_level import SecondLevelModel

N, T_R, SHAPE = 60, 2.0, (5, 4, 3)
AFFINE = np.diag([3.0, 3, 3, 1])
MASK = nibabel.Nifti1Image(np.ones(SHAPE, np.uint8), AFFINE)
OPTIONS = {"t_r": T_R, "mask_img": MASK, "noise_model": "ols"}


def events(run: int = 0) -> pd.DataFrame:
    onset = np.arange(2.0, 112, 9) + np.random.default_rng(run).uniform(0, 3, 13)
    return pd.DataFrame({"onset": onset, "duration": 3.0, "trial_type": np.resize(["face", "house", "house"], 13)})


def image(run: int = 0, shape: tuple[int, ...] = SHAPE) -> nibabel.Nifti1Image:
    """Noise, with a response to faces in the first voxel."""
    data = 500 + 5 * np.random.default_rng(10 + run).standard_normal((*shape, N))
    X = voxloom.design_matrix(voxloom.models.design.matrix.frame_times(N, T_R), events(run), hrf_model="glover")
    data[0, 0, 0] += 40 * X["face"].to_numpy()
    made = nibabel.Nifti1Image(data.astype(np.float32), AFFINE)
    made.header.set_zooms((3, 3, 3, T_R))
    made.header.set_xyzt_units("mm", "sec")
    return made


def values(img) -> np.ndarray:
    return np.asarray(img.dataobj, dtype=np.float64)


@pytest.fixture(scope="module")
def fitted() -> FirstLevelModel:
    return FirstLevelModel(**OPTIONS).fit(image(), events())


@pytest.fixture(scope="module")
def two_runs() -> FirstLevelModel:
    return FirstLevelModel(**OPTIONS).fit([image(0), image(1)], [events(0), events(1)])


# -- the same names

NAMES = ["compute_contrast", "compute_fixed_effects", "expression_to_contrast_vector", "save_glm_to_bids"]


@pytest.mark.parametrize("name", theirs.__all__)
def test_signatures_of_the_first_level_are_nilearns_and_rules_at_the_end(name):
    require_same_parameters(getattr(ours, name), getattr(theirs, name))


@pytest.mark.parametrize("name", NAMES)
def test_signatures_are_nilearns(name):
    require_same_parameters(getattr(voxloom.glm, name), getattr(nilearn.glm, name))


@pytest.mark.parametrize("name", ["fit", "compute_contrast"])
def test_methods_are_nilearns(name):
    require_same_parameters(getattr(FirstLevelModel, name), getattr(theirs.FirstLevelModel, name))


def require_same_parameters(here, there):
    mine, other = (inspect.signature(f).parameters for f in (here, there))
    own = {name for name, p in mine.items() if p.kind is p.KEYWORD_ONLY} & {"rules", "client", "store"}
    assert [name for name in mine if name not in own] == list(other)
    assert {name: p.default for name, p in mine.items() if name not in own} == {n: p.default for n, p in other.items()}


# -- images in


def test_a_path_is_streamed_and_gives_the_maps_of_the_image(tmp_path, fitted):
    nibabel.save(image(), tmp_path / "bold.nii.gz")
    for given in (tmp_path / "bold.nii.gz", str(tmp_path / "bold.nii.gz"), [tmp_path / "bold.nii.gz"]):
        model = FirstLevelModel(**OPTIONS).fit(given, events())
        assert model.series_[0].chunks is not None
        found = values(model.compute_contrast("face - house"))
        np.testing.assert_allclose(found, values(fitted.compute_contrast("face - house")), atol=1e-5)
        np.testing.assert_allclose(values(model.r_square[0]), values(fitted.r_square[0]), atol=1e-6)


def test_files_of_one_name_are_runs_of_their_own_in_a_store_that_stays(tmp_path, two_runs):
    paths = [tmp_path / f"run{i}" / "bold.nii.gz" for i in (0, 1)]
    for i, path in enumerate(paths):
        path.parent.mkdir()
        nibabel.save(image(i), path)
    model = FirstLevelModel(**OPTIONS, store=tmp_path / "study").fit(paths, [events(0), events(1)])
    np.testing.assert_allclose(
        values(model.compute_contrast("face")), values(two_runs.compute_contrast("face")), atol=1e-5
    )
    assert len(voxloom.open_study(tmp_path / "study").runs) == 2
    FirstLevelModel(**OPTIONS, store=tmp_path / "study").fit(paths[1], events(1))
    assert len(voxloom.open_study(tmp_path / "study").runs) == 2


def test_a_brain_is_found_where_no_mask_is_given():
    data = values(image()).copy()
    data[0] = data[-1] = 0
    model = FirstLevelModel(t_r=T_R, noise_model="ols").fit(nibabel.Nifti1Image(data, AFFINE), events())
    np.testing.assert_array_equal(values(model.mask_img_), (data != 0).any(axis=-1))
    everything = FirstLevelModel(t_r=T_R, noise_model="ols", mask_img=False).fit(image(), events())
    assert values(everything.mask_img_).all()


def test_smoothing_of_a_path_and_of_an_image_are_the_same(tmp_path):
    nibabel.save(image(), tmp_path / "bold.nii.gz")
    maps = [
        values(FirstLevelModel(**OPTIONS, smoothing_fwhm=6).fit(img, events()).compute_contrast("face"))
        for img in (image(), tmp_path / "bold.nii.gz")
    ]
    np.testing.assert_allclose(*maps, atol=1e-3)  # the store keeps float32


# -- tables in


def test_events_may_be_a_file(tmp_path, fitted):
    events().to_csv(tmp_path / "events.tsv", sep="\t", index=False)
    model = FirstLevelModel(**OPTIONS).fit(image(), tmp_path / "events.tsv")
    np.testing.assert_allclose(model.design_matrices_[0], fitted.design_matrices_[0])


def test_missing_first_rows_of_confounds_are_filled_and_told():
    table = pd.DataFrame({"fd": np.r_[np.nan, np.arange(1.0, N)], "x": np.arange(N) ** 2.0})
    with pytest.warns(VoxloomWarning, match=r"first values of \['fd'\] are missing"):
        model = FirstLevelModel(**OPTIONS).fit(image(), events(), confounds=table)
    assert model.design_matrices_[0]["fd"].iloc[0] == 1.0


def test_a_given_design_needs_no_repetition_time(fitted):
    model = FirstLevelModel(mask_img=MASK, noise_model="ols").fit(plain(), design_matrices=fitted.design_matrices_)
    np.testing.assert_allclose(values(model.compute_contrast("face")), values(fitted.compute_contrast("face")))


def test_volumes_are_left_out(fitted):
    kept = np.setdiff1d(np.arange(N), [5, 6, 30])
    model = FirstLevelModel(**OPTIONS).fit(image(), events(), sample_masks=kept)
    assert model.results_[0].sizes["time"] == N - 3
    assert values(model.residuals[0]).shape == (*SHAPE, N - 3)


# -- designs


@pytest.mark.parametrize(
    ("hrf_model", "column", "more"),
    [
        ("spm", "face", {}),
        ("glover + derivative", "face_derivative", {}),
        ("spm + derivative + dispersion", "house_dispersion", {}),
        ("fir", "face_delay_2", {"fir_delays": [0, 1, 2]}),
        (None, "face", {}),
        (lambda t: t**2 * np.exp(-t), "face_<lambda>", {}),
        (theirs.spm_hrf, "face_spm_hrf", {}),
    ],
)
def test_every_kind_of_response(hrf_model, column, more):
    model = FirstLevelModel(**OPTIONS, hrf_model=hrf_model, **more).fit(image(), events())
    weights = np.array([float(name == column) for name in model.design_matrices_[0]])
    found = values(model.compute_contrast(weights, output_type="stat"))
    assert np.isfinite(found).all()
    assert np.ptp(found) > 0


def test_durations_may_be_blocks_and_impulses():
    mixed = events().assign(duration=np.resize([0.0, 8.0, 3.0], 13))
    model = FirstLevelModel(**OPTIONS).fit(image(), mixed)
    X = theirs.make_first_level_design_matrix(voxloom.models.design.matrix.frame_times(N, T_R), mixed)
    np.testing.assert_allclose(model.design_matrices_[0], X, atol=1e-12)


def test_a_modulation_that_varies_is_a_regressor_of_its_own():
    modulated = events().assign(modulation=np.linspace(1, 2, 13))
    with pytest.warns(VoxloomWarning, match="nilearn scales the conditions"):
        model = FirstLevelModel(**OPTIONS).fit(image(), modulated)
    assert np.isfinite(values(model.compute_contrast("face*modulation"))).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = FirstLevelModel(**OPTIONS).fit(image(), events().assign(modulation=2.0))
    plain = FirstLevelModel(**OPTIONS).fit(image(), events())  # one value of all events scales them, as in nilearn
    np.testing.assert_allclose(model.design_matrices_[0]["face"], 2 * plain.design_matrices_[0]["face"])


def test_high_pass_and_drifts_are_those_asked_for():
    for options in ({"high_pass": 0.03}, {"drift_model": "polynomial", "drift_order": 3}, {"drift_model": None}):
        model = FirstLevelModel(**OPTIONS, **options).fit(image(), events())
        X = theirs.make_first_level_design_matrix(voxloom.models.design.matrix.frame_times(N, T_R), events(), **options)
        assert list(model.design_matrices_[0]) == list(X)
        np.testing.assert_allclose(model.design_matrices_[0], X, atol=1e-12)


def test_early_events_are_moved_by_nilearns_rule_and_dropped_by_ours():
    times = voxloom.models.design.matrix.frame_times(N, T_R)
    early = pd.concat([events(), pd.DataFrame({"onset": [-30.0], "duration": [20.0], "trial_type": ["face"]})])
    with pytest.warns(VoxloomWarning, match="are moved"):
        moved = ours.make_first_level_design_matrix(times, early)
    with pytest.warns(UserWarning, match="not considered"):
        np.testing.assert_allclose(moved, theirs.make_first_level_design_matrix(times, early), atol=1e-12)
    with pytest.warns(VoxloomWarning, match="are dropped"):
        dropped = ours.make_first_level_design_matrix(times, early, rules="voxloom")
    np.testing.assert_array_equal(dropped, ours.make_first_level_design_matrix(times, events()))


@pytest.mark.parametrize("name", [name for name in theirs.__all__ if name.startswith(("spm", "glover"))])
def test_responses_are_nilearns(name):
    for args in ({"t_r": 2.0}, {"t_r": 0.7, "oversampling": 16, "time_length": 20.0, "onset": 1.5}):
        np.testing.assert_allclose(getattr(ours, name)(**args), getattr(theirs, name)(**args), atol=1e-13)


@pytest.mark.parametrize("hrf_model", ["glover + derivative", "fir", None])
def test_regressors_are_nilearns(hrf_model):
    condition = np.array([[-26.0, 4, 20, 33], [0.0, 3, 5, 0], [1.0, 1, 2, -1]])
    times = voxloom.models.design.matrix.frame_times(N, T_R)
    with pytest.warns(VoxloomWarning, match="are moved"):
        found, names = ours.compute_regressor(condition, hrf_model, times, con_id="x", fir_delays=[0, 2])
    with pytest.warns(UserWarning, match="not considered"):
        expected, their_names = theirs.compute_regressor(condition, hrf_model, times, con_id="x", fir_delays=[0, 2])
    assert names == their_names
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_design_is_taken_apart():
    X = pd.DataFrame({"a": [1.0, 2], "b": [3.0, 4]}, index=[0.0, 2.0])
    times, matrix, names = ours.check_design_matrix(X)
    assert (list(times), matrix.tolist(), names) == ([0.0, 2.0], [[1, 3], [2, 4]], ["a", "b"])


# -- units


def test_units_are_of_voxel_volume_or_all():
    """Percent of a voxel's mean, or of all, keeps t; percent of each volume takes out what its voxels share."""
    data = values(image())
    common = np.random.default_rng(5).uniform(0.9, 1.1, N)
    img = nibabel.Nifti1Image(data * common, AFFINE)
    t = {}
    for scaling in (False, 0, 1, (0, 1)):
        model = FirstLevelModel(**OPTIONS, signal_scaling=scaling).fit(img, events())
        t[scaling] = values(model.compute_contrast("face", output_type="stat"))
    np.testing.assert_allclose(t[0], t[False], rtol=1e-4)
    np.testing.assert_allclose(t[(0, 1)], t[False], rtol=1e-4)
    assert t[1][0, 0, 0] > 3 * t[False][0, 0, 0]


def test_mean_scaling_is_nilearns_and_takes_every_axis():
    Y = np.random.default_rng(0).uniform(50, 90, (8, 3))
    for axis in (0, (0, 1)):
        for mine, other in zip(ours.mean_scaling(Y, axis), theirs.mean_scaling(Y, axis)):
            np.testing.assert_allclose(mine, other)
    scaled, mean = ours.mean_scaling(Y, 1)
    np.testing.assert_allclose(scaled.mean(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(mean, Y.mean(axis=1))


def test_standardizing_gives_effects_in_standard_deviations(fitted):
    model = FirstLevelModel(**OPTIONS, standardize=True).fit(image(), events())
    raw = FirstLevelModel(**OPTIONS, signal_scaling=False).fit(image(), events())
    effect, plain = (values(m.compute_contrast("face", output_type="effect_size")) for m in (model, raw))
    np.testing.assert_allclose(effect, plain / values(image()).std(axis=-1, ddof=1), rtol=1e-4)


# -- contrasts


def test_expressions_weights_and_loops(fitted):
    X = fitted.design_matrices_[0]
    half = np.array([0.5 * (name in ("face", "house")) for name in X])
    found = {
        name: values(fitted.compute_contrast(d)) for name, d in {"mean": "0.5*face + 0.5*house", "w": half}.items()
    }
    np.testing.assert_allclose(found["mean"], found["w"])
    maps = fitted.compute_contrast("face - house", output_type="all")
    assert set(maps) == {"z_score", "stat", "p_value", "effect_size", "effect_variance"}
    t = values(maps["effect_size"]) / np.sqrt(values(maps["effect_variance"]))
    np.testing.assert_allclose(values(maps["stat"]), t, rtol=1e-5)


def test_short_weights_are_filled_up_and_told(fitted):
    with pytest.warns(VoxloomWarning, match="2 weights for"):
        found = fitted.compute_contrast([1, -1])
    np.testing.assert_array_equal(values(found), values(fitted.compute_contrast("face - house")))


def test_rows_are_tested_by_f(fitted):
    with pytest.warns(VoxloomWarning, match="0 is taken"):
        found = values(fitted.compute_contrast(np.eye(2), stat_type="F", output_type="stat"))
    one = values(fitted.compute_contrast("face", stat_type="F", output_type="stat"))
    t = values(fitted.compute_contrast("face", output_type="stat"))
    np.testing.assert_allclose(one, t**2, rtol=1e-5)
    assert found.argmax() == 0


def test_a_run_is_left_out_by_none_or_zeros(two_runs):
    first = FirstLevelModel(**OPTIONS).fit(image(0), events(0))
    K = two_runs.design_matrices_[0].shape[1]
    expected = values(first.compute_contrast("face"))
    np.testing.assert_array_equal(values(two_runs.compute_contrast(["face", None])), expected)
    np.testing.assert_array_equal(values(two_runs.compute_contrast(["face", np.zeros(K)])), expected)


def test_fixed_effects_of_images_are_those_of_the_model(two_runs):
    runs = [FirstLevelModel(**OPTIONS).fit(image(i), events(i)) for i in (0, 1)]
    effects, variances = (
        [run.compute_contrast("face", output_type=kind) for run in runs] for kind in ("effect_size", "effect_variance")
    )
    dofs = [N - X.shape[1] for X in two_runs.design_matrices_]
    found = voxloom.glm.compute_fixed_effects(effects, variances, MASK, dofs=dofs)
    for img, kind in zip(found, ("effect_size", "effect_variance", "stat", "z_score")):
        expected = values(two_runs.compute_contrast("face", output_type=kind))
        np.testing.assert_allclose(values(img), expected, rtol=1e-4, atol=1e-6)
    for weighted in (False, True):
        mine = voxloom.glm.compute_fixed_effects(effects, variances, MASK, weighted)
        other = nilearn.glm.compute_fixed_effects(effects, variances, MASK, weighted)
        for a, b in zip(mine, other):
            np.testing.assert_allclose(values(a), values(b), rtol=1e-4, atol=1e-5)


def test_a_run_that_lacks_a_condition_is_left_out_and_told():
    faces = events(1).assign(trial_type="face")
    model = FirstLevelModel(**OPTIONS).fit([image(0), image(1)], [events(0), faces])
    with pytest.warns(VoxloomWarning, match="run-2 is left out.*not found in design matrix: 'house'"):
        found = model.compute_contrast("face - house")
    expected = FirstLevelModel(**OPTIONS).fit(image(0), events(0)).compute_contrast("face - house")
    np.testing.assert_allclose(values(found), values(expected), rtol=1e-5)


def test_fitted_models_go_into_a_group_model():
    models = [FirstLevelModel(**OPTIONS, subject_label=f"0{i}").fit(image(i), events(i)) for i in range(4)]
    group = SecondLevelModel(mask_img=MASK).fit(models)
    found = group.compute_contrast("intercept", first_level_contrast="face - house", output_type="effect_size")
    effects = [values(model.compute_contrast("face - house", output_type="effect_size")) for model in models]
    np.testing.assert_allclose(values(found), np.mean(effects, axis=0), rtol=1e-4, atol=1e-5)


def test_a_cluster_gives_the_same_maps(tmp_path, fitted):
    nibabel.save(image(), tmp_path / "bold.nii.gz")
    with Client(processes=False, n_workers=1, dashboard_address=":0") as client:
        model = FirstLevelModel(**OPTIONS, client=client).fit(tmp_path / "bold.nii.gz", events())
        left = values(model.residuals[0])
    np.testing.assert_allclose(
        values(model.compute_contrast("face")), values(fitted.compute_contrast("face")), atol=1e-5
    )
    np.testing.assert_allclose(left, values(fitted.residuals[0]), atol=1e-4)


def test_f_over_runs_is_of_the_mean_effect(two_runs):
    found = values(two_runs.compute_contrast("face", stat_type="F", output_type="stat"))
    t = values(two_runs.compute_contrast("face", output_type="stat"))
    np.testing.assert_allclose(found, t**2, rtol=1e-4)


def test_residuals_and_predictions_are_in_units_of_the_signal():
    model = FirstLevelModel(**{**OPTIONS, "noise_model": "ar1"}, signal_scaling=False).fit(image(), events())
    total = values(model.residuals[0]) + values(model.predicted[0])
    np.testing.assert_allclose(total, values(image()), rtol=1e-6)
    left = values(model.residuals[0]).var(axis=-1) / values(image()).var(axis=-1)
    assert np.all(np.abs(1 - left - values(model.r_square[0])) < 0.01)
    back = model.masker_.inverse_transform(model.masker_.transform(image()))
    np.testing.assert_allclose(values(back), values(image()))


def test_a_glm_of_arrays_and_its_contrast_are_nilearns():
    Y = values(image()).reshape(-1, N).T
    X = theirs.make_first_level_design_matrix(voxloom.models.design.matrix.frame_times(N, T_R), events()).to_numpy()
    for noise_model in ("ols", "ar1"):
        labels, fit = ours.run_glm(Y, X, noise_model)
        their_labels, results = theirs.run_glm(Y, X, noise_model)
        weights = np.eye(X.shape[1])[0]
        mine = voxloom.glm.compute_contrast(labels, fit, weights)
        other = nilearn.glm.compute_contrast(their_labels, results, weights)
        for name in ("effect_size", "effect_variance", "stat", "z_score", "p_value"):
            np.testing.assert_allclose(getattr(mine, name)(), getattr(other, name)().ravel(), rtol=1e-8, err_msg=name)


def test_our_rules_are_those_of_fit_first_level():
    options = {**OPTIONS, "noise_model": "ar1"}
    model = FirstLevelModel(**options, rules="voxloom").fit(image(), events())
    fit = voxloom.fit_first_level(voxloom.from_nifti(image(), MASK), model.design_matrices_[0], signal_scaling=0)
    z = voxloom.contrast(fit, "face")["z_score"].to_numpy().reshape(SHAPE)
    np.testing.assert_allclose(values(model.compute_contrast("face")), z, rtol=1e-5)
    assert not np.allclose(z, values(FirstLevelModel(**options).fit(image(), events()).compute_contrast("face")))


def test_every_subject_of_a_dataset(voxloom_data):
    folder = voxloom_data / "data/haxby_pseudo6_bids"
    models, images, tables, confounds = ours.first_level_from_bids(
        folder,
        "objectviewing",
        sub_labels=["01", "02"],
        mask_img="derivatives",
        noise_model="ols",
        confounds_strategy=["motion"],
        confounds_motion="basic",
    )
    assert [model.subject_label for model in models] == ["01", "02"]
    assert [len(one) for one in images] == [2, 2]
    model = models[0].fit(images[0], tables[0], confounds[0])
    assert {"trans_x", "rot_z", "face"} <= set(model.design_matrices_[0])
    assert np.isfinite(values(model.compute_contrast("face - house"))).all()


# -- wrong use


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (
            lambda m: m.compute_contrast("fase - house"),
            ContrastError,
            r"Contrast not found in design matrix: 'fase'; columns are \['face', 'house'.* Did you mean 'face'",
        ),
        (lambda m: m.compute_contrast(np.ones(40)), ContrastError, "too long: 40 weights"),
        (lambda m: m.compute_contrast(["face", "house"]), InputError, "2 contrasts, but there are 1 runs"),
        (lambda m: m.compute_contrast([None]), InputError, "leaves out every run"),
        (lambda m: m.compute_contrast("face", output_type="zscore"), InputError, "Accepted: .*z_score"),
        (lambda m: m.compute_contrast("face", "G"), ContrastError, 'Give "t" or "F"'),
        (lambda m: m.compute_contrast(np.eye(2), "F", "effect_size"), InputError, "this is an F"),
    ],
)
def test_a_wrong_contrast_is_told(fitted, call, error, says):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(error, match=says):
            call(fitted)


def plain() -> nibabel.Nifti1Image:
    """An image whose header has no repetition time."""
    made = nibabel.Nifti1Image(values(image()), AFFINE)
    made.header["pixdim"][4] = 0
    return made


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda m: m.fit([], events()), InputError, "the list is empty"),
        (lambda m: m.fit(image(), [events(), events()]), InputError, "events: has 2 items, but there are 1 runs"),
        (lambda m: m.fit([image(), image()], events()), InputError, "events: has 1 items, but there are 2 runs"),
        (lambda m: m.fit(image(), events(), [None, None]), InputError, "confounds: has 2 items"),
        (lambda m: m.fit([image(), image(0, (5, 5, 3))], [events()] * 2), GridError, "run 2.*shape"),
        (lambda m: m.fit(image(0, (5, 5, 3)), events()), GridError, "mask_img.*shape"),
        (lambda m: m.fit(MASK, events()), InputError, "4-D series"),
        (lambda m: m.fit("nowhere.nii.gz", events()), InputError, "no such file"),
        (lambda m: m.fit(image()), DesignError, "events: are missing"),
        (lambda m: m.set_params(t_r=None).fit(plain(), events()), InputError, "t_r: is missing"),
        (lambda m: m.fit(image(), events().drop(columns="onset")), DesignError, "no column 'onset'"),
        (
            lambda m: m.fit(image(), events().rename(columns={"trial_type": "trialtype"})),
            DesignError,
            "no column 'trial_type', but 'trialtype'",
        ),
        (
            lambda m: m.fit(image(), events(), pd.DataFrame({"fd": np.where(np.arange(N) == 9, np.nan, 1.0)})),
            InputError,
            r"run 1: column 'fd' lacks a finite value in 1 of 60 rows, first row 9. Only leading n/a can be filled",
        ),
        (lambda m: m.fit(image(), events(), pd.DataFrame({"site": ["a"] * N})), InputError, "'site' holds text"),
        (lambda m: m.fit(image(), "events.tsv"), InputError, "events.tsv: no such file"),
        (lambda m: m.fit(image(), design_matrices="X.csv"), InputError, "X.csv: cannot be read"),
        (lambda m: m.fit(image(), design_matrices="X.tsv"), InputError, "X.tsv: no such file"),
        (lambda m: m.fit(image(), design_matrices=np.ones(N)), InputError, "1 dimensions"),
        (lambda m: m.fit(image(), events(), pd.DataFrame({"x": [1.0, 2]})), DesignError, "2 rows.*60 volumes"),
        (lambda m: m.fit(image(), design_matrices=pd.DataFrame({"x": [1.0, 2]})), DesignError, "60 volumes"),
        (lambda m: m.set_params(noise_model="arma").fit(image(), events()), InputError, "arma"),
        (lambda m: m.set_params(hrf_model="spn").fit(image(), events()), DesignError, "'spm'"),
        (lambda m: m.set_params(signal_scaling=2).fit(image(), events()), InputError, r"Accepted: 0, 1, \(0, 1\)"),
        (lambda m: m.compute_contrast("face"), InputError, "is not fitted"),
        (lambda m: m.residuals, InputError, "is not fitted"),
        (lambda m: FirstLevelModel(rules="spm"), InputError, "Accepted: .*nilearn"),
        (lambda m: FirstLevelModel(target_shape=(3, 3, 3)), InputError, "never does"),
        (
            lambda m: ours.first_level_from_bids(".", "x", confound_strategy="simple"),
            InputError,
            "no parameter 'confound_strategy'",
        ),
        (lambda m: ours.check_design_matrix(pd.DataFrame()), DesignError, "no columns"),
        (
            lambda m: voxloom.glm.compute_fixed_effects([MASK], [MASK, MASK]),
            InputError,
            "are 2, but there are 1 contrast_imgs",
        ),
        (
            lambda m: voxloom.glm.compute_contrast(np.zeros(3), m.fit(image(), events()).results_[0], "face"),
            InputError,
            "are of 3 voxels",
        ),
    ],
)
def test_wrong_use_is_told(call, error, says):
    with pytest.raises(error, match=says):
        call(FirstLevelModel(**OPTIONS))


def test_a_singular_design_is_told():
    twice = events().assign(trial_type=lambda e: e["trial_type"].replace("house", "face"))
    copy = pd.concat([twice, twice.assign(trial_type="copy")])
    with pytest.warns(VoxloomWarning, match=r"Design matrix is singular: .*\['face'\]"):
        model = FirstLevelModel(**OPTIONS).fit(image(), copy)
    with pytest.raises(ContrastError, match="not estimable"):
        model.compute_contrast("face - copy")
