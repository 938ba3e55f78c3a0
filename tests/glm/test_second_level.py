"""Group models by nilearn's names against nilearn on real maps."""

from __future__ import annotations

import nibabel
import numpy as np
import pandas as pd
import pytest
from nilearn.glm.second_level import SecondLevelModel as NilearnModel
from nilearn.glm.second_level import make_second_level_design_matrix as nilearn_design

from voxloom.errors import ContrastError, DesignError, GridError, InputError, VoxloomWarning
from voxloom.glm.first_level import FirstLevelModel
from voxloom.glm.second_level import SecondLevelModel, make_second_level_design_matrix, non_parametric_inference

RNG = np.random.default_rng(0)


def images(n: int, shape=(6, 7, 5), seed: int = 0) -> list:
    rng = np.random.default_rng(seed)
    return [
        nibabel.Nifti1Image(rng.standard_normal(shape).astype(np.float32) + 0.5, np.diag([3, 3, 3, 1]))
        for _ in range(n)
    ]


@pytest.fixture
def mask():
    inside = np.zeros((6, 7, 5), np.uint8)
    inside[1:-1, 1:-1, 1:-1] = 1
    return nibabel.Nifti1Image(inside, np.diag([3, 3, 3, 1]))


def same(ours, theirs, mask, rtol=1e-4):
    """Images are float32."""
    inside = mask.get_fdata() > 0
    np.testing.assert_allclose(ours.get_fdata()[inside], theirs.get_fdata()[inside], rtol=rtol, atol=1e-5)


DESIGNS = {
    "intercept": (pd.DataFrame({"intercept": np.ones(14)}), "intercept"),
    "two groups": (pd.DataFrame({"a": np.repeat([1.0, 0], 7), "b": np.repeat([0, 1.0], 7)}), "a - b"),
    "covariates": (
        pd.DataFrame({"age": RNG.standard_normal(14), "group": np.repeat([1.0, -1], 7), "intercept": 1.0}),
        "age",
    ),
    "paired": (
        pd.DataFrame(np.kron(np.eye(7), np.ones((2, 1))), columns=[f"s{i}" for i in range(7)]).assign(
            condition=np.tile([1.0, -1.0], 7)
        ),
        "condition",
    ),
    "F": (pd.DataFrame({"a": RNG.standard_normal(14), "b": RNG.standard_normal(14), "intercept": 1.0}), np.eye(3)[:2]),
}


@pytest.mark.parametrize("name", DESIGNS)
def test_maps_are_nilearns(name, mask):
    design, chosen = DESIGNS[name]
    maps = images(14)
    ours = SecondLevelModel(mask_img=mask).fit(maps, design_matrix=design)
    theirs = NilearnModel(mask_img=mask).fit(maps, design_matrix=design)
    kind = "F" if name == "F" else None
    for output in ("z_score", "stat", "p_value"):
        args = {"second_level_stat_type": kind, "output_type": output}
        same(ours.compute_contrast(chosen, **args), theirs.compute_contrast(chosen, **args), mask)
    if name != "F":
        found = ours.compute_contrast(chosen, output_type="all")
        expected = theirs.compute_contrast(chosen, output_type="all")
        assert set(found) == set(expected)
        for output, img in found.items():
            same(img, expected[output], mask)


def test_a_pair_of_maps_by_differences_is_the_paired_design(mask):
    """Before and after of 7 people: the t of their differences, by either way."""
    maps = images(14)
    design, chosen = DESIGNS["paired"]
    paired = (
        SecondLevelModel(mask_img=mask).fit(maps, design_matrix=design).compute_contrast(chosen, output_type="stat")
    )
    differences = [nibabel.Nifti1Image(a.get_fdata() - b.get_fdata(), a.affine) for a, b in zip(maps[::2], maps[1::2])]
    same(SecondLevelModel(mask_img=mask).fit(differences).compute_contrast(output_type="stat"), paired, mask)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_residuals_predictions_and_shares_are_nilearns(mask):
    maps, (design, chosen) = images(14), DESIGNS["covariates"]
    ours = SecondLevelModel(mask_img=mask).fit(maps, design_matrix=design)
    theirs = NilearnModel(mask_img=mask, minimize_memory=False).fit(maps, design_matrix=design)
    theirs.compute_contrast(chosen)
    for name in ("residuals", "predicted", "r_square"):
        found = getattr(ours, name).get_fdata()
        np.testing.assert_allclose(found, getattr(theirs, f"{name}_").get_fdata().reshape(found.shape), atol=1e-6)


def test_short_weights_are_filled_up_and_a_needless_choice_is_told(mask):
    design = DESIGNS["covariates"][0]
    model = SecondLevelModel(mask_img=mask).fit(images(14), design_matrix=design)
    with pytest.warns(VoxloomWarning, match="1 weights for 3 columns"):
        found = model.compute_contrast([1])
    same(found, model.compute_contrast("age"), mask)
    with pytest.warns(VoxloomWarning, match="first_level_contrast is not used"):
        model.compute_contrast("age", first_level_contrast="face")


def test_designs_may_be_files_and_arrays(tmp_path, mask):
    design, chosen = DESIGNS["two groups"]
    expected = SecondLevelModel(mask_img=mask).fit(images(14), design_matrix=design).compute_contrast(chosen)
    design.to_csv(tmp_path / "X.tsv", sep="\t", index=False)
    design.to_csv(tmp_path / "X.csv", index=False)
    for given in (tmp_path / "X.tsv", str(tmp_path / "X.csv"), design.to_numpy()):
        found = SecondLevelModel(mask_img=mask).fit(images(14), design_matrix=given).compute_contrast([1, -1])
        same(found, expected, mask)


def test_smoothing_is_nilearns(mask):
    maps = images(8)
    design = pd.DataFrame({"intercept": np.ones(8)})
    args = {"smoothing_fwhm": 6, "mask_img": mask}
    ours = SecondLevelModel(**args).fit(maps, design_matrix=design).compute_contrast()
    same(ours, NilearnModel(**args).fit(maps, design_matrix=design).compute_contrast(), mask, rtol=1e-3)


def test_paths_a_table_and_one_4d_image_are_the_same_maps(tmp_path, mask):
    maps = images(6)
    paths = [tmp_path / f"{i}.nii.gz" for i in range(6)]
    for img, path in zip(maps, paths):
        nibabel.save(img, path)
    table = pd.DataFrame(
        {"subject_label": list("abcdef"), "map_name": "effect", "effects_map_path": list(map(str, paths))}
    )
    stack = nibabel.Nifti1Image(np.stack([m.get_fdata() for m in maps], axis=-1).astype(np.float32), maps[0].affine)
    expected = SecondLevelModel(mask_img=mask).fit(maps).compute_contrast()
    for given in (paths, list(map(str, paths)), stack, table, pd.Series(paths)):
        found = SecondLevelModel(mask_img=mask).fit(given).compute_contrast("intercept")
        same(found, expected, mask)


def test_a_missing_value_leaves_the_other_maps_of_its_voxel(mask):
    """nilearn makes 0 of it."""
    maps = images(8)
    data = maps[0].get_fdata().copy()
    data[3, 3, 2] = np.nan
    holey = [nibabel.Nifti1Image(data.astype(np.float32), maps[0].affine), *maps[1:]]
    found = SecondLevelModel(mask_img=mask).fit(holey).compute_contrast(output_type="stat").get_fdata()
    y = np.array([m.get_fdata()[3, 3, 2] for m in maps[1:]])
    assert found[3, 3, 2] == pytest.approx(y.mean() / (y.std(ddof=1) / np.sqrt(7)), rel=1e-5)


def test_design_of_subjects_is_nilearns():
    table = pd.DataFrame({"subject_label": ["b", "a", "c"], "age": [3.0, 1.0, 2.0]})
    found = make_second_level_design_matrix(["a", "b", "c"], table)
    expected = nilearn_design(["a", "b", "c"], table)
    assert list(found.columns) == list(expected.columns)
    np.testing.assert_array_equal(found.to_numpy(), expected.to_numpy())


def test_images_of_permutation_inference(mask):
    maps = images(10)
    alone = non_parametric_inference(maps, mask=mask, n_perm=99, second_level_contrast="intercept", random_state=1)
    several = non_parametric_inference(maps, mask=mask, n_perm=99, threshold=0.01, tfce=True, random_state=1)
    assert set(several) == {
        *("t", "size", "mass", "tfce"),
        *("logp_max_t", "logp_max_size", "logp_max_mass", "logp_max_tfce"),
    }
    np.testing.assert_array_equal(alone.get_fdata(), several["logp_max_t"].get_fdata())
    assert alone.get_fdata().max() <= 2 + 1e-6


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda m: m.fit([]), InputError, "the list is empty"),
        (
            lambda m: m.fit(images(5), design_matrix=pd.DataFrame({"i": np.ones(4)})),
            DesignError,
            "4 rows, but there are 5",
        ),
        (
            lambda m: m.fit(images(3), confounds=pd.DataFrame({"age": [1.0, 2, 3]})),
            DesignError,
            "no column 'subject_label'",
        ),
        (lambda m: m.fit(images(3), design_matrix="X.csv"), InputError, "X.csv: cannot be read"),
        (
            lambda m: m.fit(images(14), design_matrix=DESIGNS["covariates"][0]).compute_contrast([1, 0, 0, 0]),
            ContrastError,
            "too long: 4 weights for 3",
        ),
        (
            lambda m: m.fit([FirstLevelModel(), images(1)[0]]).compute_contrast(first_level_contrast="face"),
            InputError,
            "models and a Nifti1Image",
        ),
        (
            lambda m: m.fit([FirstLevelModel(), FirstLevelModel()]).compute_contrast("intercept"),
            InputError,
            "first_level_contrast: is missing",
        ),
        (lambda m: m.set_params(smoothing_fwhm=-3).fit(images(3)), InputError, "One width in mm"),
        (lambda m: m.residuals, InputError, "is not fitted"),
        (lambda m: m.fit([*images(3), *images(1, (5, 5, 5))]), GridError, "shape"),
        (lambda m: m.compute_contrast(), InputError, "is not fitted"),
        (
            lambda m: m.fit(images(14), design_matrix=DESIGNS["covariates"][0]).compute_contrast("agee"),
            ContrastError,
            "age",
        ),
        (
            lambda m: m.fit(images(14), design_matrix=DESIGNS["covariates"][0]).compute_contrast(),
            ContrastError,
            "several columns",
        ),
        (lambda m: m.fit(images(4)).compute_contrast(output_type="zscore"), InputError, "Accepted: .*z_score"),
        (lambda m: m.fit(pd.DataFrame({"subject_label": ["a"]})), InputError, "map_name"),
        (lambda m: m.set_params(masks=1), InputError, "no parameter 'masks'"),
    ],
)
def test_wrong_use_is_told(call, error, says):
    with pytest.raises(error, match=says):
        call(SecondLevelModel())
    with pytest.raises(InputError, match="never does"):
        SecondLevelModel(target_affine=np.eye(3))
