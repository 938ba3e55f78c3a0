"""Tables joined with maps: by file, by BIDS entity, in order; what does not match is named on both sides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from voxloom.errors import InputError
from voxloom.io.maps.files import MapFiles, list_maps
from voxloom.io.maps.phenotypes import entities_of, join, known_of, read_phenotypes
from voxloom.schema import Grid

if TYPE_CHECKING:
    import pandas as pd

GRID = Grid.of((2, 2, 2), np.eye(4))


def maps_of(*names: str, folder: Path = Path("/maps")) -> MapFiles:
    labels = [name.removesuffix(".nii.gz") for name in names]
    return MapFiles(files=tuple(folder / name for name in names), labels=tuple(labels), grid=GRID, stamps=tuple(labels))


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.replace(" ", "\t"))
    return path


def joined(maps: MapFiles, path: Path, **kwargs: str) -> pd.DataFrame:
    return join(known_of(maps), maps, path, **kwargs).rows


def test_entities_come_from_the_name_and_the_folders_above() -> None:
    path = Path("/data/sub-07/ses-2/func/task-x_run-01_stat-effect_statmap.nii.gz")
    assert entities_of(path) == {"participant_id": "sub-07", "session_id": "ses-2", "task": "x", "run": "1"}


def test_rows_join_by_person_and_session_however_they_are_ordered_and_prefixed(tmp_path: Path) -> None:
    maps = maps_of("sub-02_ses-a_con.nii.gz", "sub-01_ses-b_con.nii.gz", "sub-01_ses-a_con.nii.gz")
    table = write(tmp_path / "t.tsv", "participant_id session_id score\n01 a 1\nsub-01 ses-b 2\n02 a 3\n")
    assert joined(maps, table)["score"].tolist() == [3, 2, 1]


def test_an_entity_beyond_joins_where_rows_of_a_person_differ_by_it_alone(tmp_path: Path) -> None:
    maps = maps_of("sub-01_task-b_con.nii.gz", "sub-01_task-a_con.nii.gz")
    table = write(tmp_path / "t.tsv", "participant_id task rt\nsub-01 a 1\nsub-01 b 2\n")
    assert joined(maps, table)["rt"].tolist() == [2, 1]


def test_a_bids_dataset_gives_people_and_their_sessions(tmp_path: Path) -> None:
    write(tmp_path / "participants.tsv", "participant_id sex age\nsub-01 f 30\nsub-02 m 40\n")
    write(tmp_path / "sub-01/sub-01_sessions.tsv", "session_id age\nses-1 30.5\nses-2 31.5\n")
    write(tmp_path / "sub-02/sub-02_sessions.tsv", "session_id age\nses-1 40.5\n")
    maps = maps_of("sub-02_ses-1_x.nii.gz", "sub-01_ses-2_x.nii.gz", "sub-01_ses-1_x.nii.gz")
    rows = joined(maps, tmp_path)
    assert rows[["sex", "age"]].to_numpy().tolist() == [["m", 40.5], ["f", 31.5], ["f", 30.5]]
    write(tmp_path / "sub-02/sub-02_sessions.tsv", "session age\nses-1 40.5\n")
    with pytest.raises(InputError, match=r"sub-02_sessions.tsv: has no column session_id"):
        read_phenotypes(tmp_path)


def test_commas_are_read_as_tabs_are(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('participant_id,"age, years"\nsub-02,4\nsub-01,3.5\n')
    assert joined(maps_of("sub-01_a.nii.gz", "sub-02_a.nii.gz"), tmp_path / "t.csv")["age, years"].tolist() == [3.5, 4]


def test_a_file_is_found_by_its_path_where_names_are_equal(tmp_path: Path) -> None:
    write(tmp_path / "t.tsv", "path age\nb/cope1.nii.gz 2\na/cope1.nii.gz 1\n")
    maps = maps_of("a/cope1.nii.gz", "b/cope1.nii.gz", folder=tmp_path)
    assert joined(maps, tmp_path / "t.tsv")["age"].tolist() == [1, 2]


def test_what_does_not_match_is_named_on_both_sides(tmp_path: Path) -> None:
    table = write(tmp_path / "t.tsv", "participant_id age\nsub-1 30\nsub-02 40\nsub-9 50\n")
    maps = maps_of("sub-01_a.nii.gz", "sub-02_a.nii.gz")
    with pytest.raises(InputError, match=r"no row names the map sub-01_a in .*; its rows sub-1, sub-9 have no map"):
        joined(maps, table)
    found = join(known_of(maps), maps, table, "drop")
    assert found.rows.index.tolist() == ["sub-02_a"]
    assert found.left == ("sub-1", "sub-9")


def test_a_doubled_person_is_named(tmp_path: Path) -> None:
    table = write(tmp_path / "t.tsv", "participant_id age\nsub-01 30\nsub-01 31\nsub-02 40\n")
    for missing in ("raise", "drop"):
        with pytest.raises(InputError, match="2 rows name the map sub-01_a in the column participant_id"):
            joined(maps_of("sub-01_a.nii.gz", "sub-02_a.nii.gz"), table, missing=missing)


def test_patterns_and_tables_list_maps_and_their_variances(tmp_path: Path) -> None:
    for i in (10, 2, 1):
        for kind in ("cope", "varcope"):
            (tmp_path / f"sub-{i}_{kind}.nii.gz").write_bytes(b"")
    found = list_maps([tmp_path / "sub-*_cope.nii.gz"])
    assert [path.name for path in found.effects] == [f"sub-{i}_cope.nii.gz" for i in (1, 2, 10)]
    write(tmp_path / "maps.tsv", "path variance\nsub-2_cope.nii.gz sub-2_varcope.nii.gz\n")
    assert list_maps([tmp_path / "maps.tsv"]).variances == (tmp_path / "sub-2_varcope.nii.gz",)
    with pytest.raises(InputError, match="2 were given, but 1 variances"):
        list_maps([tmp_path / "maps.tsv", tmp_path / "sub-1_cope.nii.gz"])
    write(tmp_path / "maps.tsv", "path variance\nsub-2_cope.nii.gz n/a\n")
    with pytest.raises(InputError, match="row 1 names no file in the column variance"):
        list_maps([tmp_path / "maps.tsv"])
    with pytest.raises(InputError, match="fits no file"):
        list_maps([tmp_path / "ses-*.nii.gz"])
