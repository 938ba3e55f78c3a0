"""The overview: the same head drawn from any voxel order is the same picture, and outlines tell the truth."""

from __future__ import annotations

import sys
from dataclasses import replace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from voxloom.errors import InputError, VoxloomError
from voxloom.report.overview import GroupPicture, overview
from voxloom.simulate import effect_maps, head

image = pytest.importorskip("matplotlib.image")


def picture(**parts):
    phantom = head((13, 15, 12))
    face, house = effect_maps(phantom)
    rng = np.random.default_rng(0)
    z = np.where(phantom.brain, 6 * (face - house) + rng.standard_normal(phantom.mean.shape), np.nan)
    return GroupPicture(
        title="face - house",
        affine=phantom.affine,
        background=phantom.mean,
        z=z,
        p_fwe=np.where(np.abs(z) > 4, 0.01, 1.0),
        **parts,
    )


def pixels(drawn, path):
    return image.imread(overview(drawn, path))


@pytest.mark.parametrize("codes", ["LAS", "PIR", "SRA"])
def test_any_voxel_order_gives_the_same_picture(codes, tmp_path):
    straight = picture(active=picture().p_fwe < 0.05)
    turn = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(codes))

    def turned(array):
        return nib.orientations.apply_orientation(array, turn)

    maps = {name: turned(getattr(straight, name)) for name in ("background", "z", "p_fwe", "active")}
    affine = straight.affine @ nib.orientations.inv_ornt_aff(turn, straight.z.shape)
    other = replace(straight, affine=affine, **maps)
    np.testing.assert_array_equal(pixels(straight, tmp_path / "a.png"), pixels(other, tmp_path / "b.png"))


def test_outlines_appear_where_something_is_found_only(tmp_path):
    found = picture()
    nothing = replace(found, p_fwe=np.ones_like(found.p_fwe))
    differs = (pixels(found, tmp_path / "a.png") != pixels(nothing, tmp_path / "b.png")).any(axis=-1)
    assert differs.any()
    # black on grey: every pixel that differs is darker with the outline
    assert (pixels(found, tmp_path / "a.png")[differs] <= pixels(nothing, tmp_path / "b.png")[differs]).all()


def test_parts_that_are_given_are_drawn(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    titles = []
    keep = Figure.savefig

    def spy(figure, *args, **kwargs):
        axes = [axis for part in figure.subfigs for axis in part.axes]
        titles.append({axis.get_title() for axis in axes})
        return keep(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", spy)
    null = np.append(5.0, np.linspace(2, 4, 999))
    bare = picture()
    overview(bare, tmp_path / "bare.png")
    overview(
        replace(bare, null=null, effect=bare.z, truth=bare.z, design=pd.DataFrame(np.eye(4))),
        tmp_path / "new" / "full.png",
    )
    assert titles[1] - titles[0] == {
        "Null of the maximum, 1,000 permutations",
        "Estimate and truth",
        "Design of one run, columns scaled",
    }


def test_maps_of_another_grid_are_refused():
    with pytest.raises(InputError, match=r"truth: shape \(2, 2, 2\)"):
        picture(effect=np.zeros((13, 15, 12)), truth=np.zeros((2, 2, 2)))


def test_an_empty_map_is_refused(tmp_path):
    empty = picture()
    with pytest.raises(InputError, match="no finite voxel"):
        overview(replace(empty, z=np.full_like(empty.z, np.nan)), tmp_path / "a.png")


def test_without_matplotlib_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(VoxloomError, match=r"voxloom\[plot\]"):
        overview(picture(), tmp_path / "a.png")
