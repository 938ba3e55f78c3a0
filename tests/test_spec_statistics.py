"""Statistics of permutation tests as data: spellings, names of their results, and what is refused."""

from __future__ import annotations

import pickle

import pytest
from pydantic import ValidationError
from scipy import stats

from voxloom.errors import InputError
from voxloom.spec import TFCE, ClusterMass, ClusterSize, MaxStat, Statistics, as_statistics, by_result_name
from voxloom.spec.section import Section


class Holder(Section):
    statistics: Statistics = (MaxStat(),)


SPELLINGS = {
    "name": ("tfce", TFCE()),
    "name and parameters": ({"cluster_size": {"threshold": 0.01}}, ClusterSize(threshold=0.01)),
    "name and nothing": ({"cluster_mass": None}, ClusterMass()),
    "object": (TFCE(steps=100), TFCE(steps=100)),
}


@pytest.mark.parametrize(("given", "meant"), SPELLINGS.values(), ids=SPELLINGS)
def test_every_spelling_means_one_object(given, meant):
    assert as_statistics([given]) == Holder(statistics=[given]).statistics == Holder(statistics=given).statistics
    assert as_statistics([given]) == (meant,)


def test_a_set_of_statistics_has_one_form():
    names = ["tfce", "max_stat", {"cluster_size": {"threshold": 0.01}}, "tfce"]
    assert as_statistics(names) == as_statistics(names[::-1])
    assert len(as_statistics(names)) == 3


def test_json_and_pickle_give_equal_objects():
    holder = Holder(statistics=[MaxStat(), ClusterSize(threshold=0.01, on="stat"), ClusterMass(), TFCE(E=1, steps=7)])
    assert Holder.model_validate_json(holder.model_dump_json()) == holder
    assert Holder.model_validate(holder.model_dump(mode="json")) == holder
    assert ClusterSize.model_validate(ClusterSize(threshold=0.01).model_dump()) == ClusterSize(threshold=0.01)
    assert pickle.loads(pickle.dumps(holder)) == holder


def test_results_of_several_of_a_kind_are_named_by_what_tells_them_apart():
    two = [ClusterSize(), ClusterSize(threshold=0.01), MaxStat(), ClusterMass(threshold=0.01)]
    assert list(by_result_name(two)) == ["cluster_size_0.001", "cluster_size_0.01", "max_stat", "cluster_mass"]
    assert list(by_result_name([TFCE(), TFCE(steps=100)])) == ["tfce_exact", "tfce_100"]


def test_a_threshold_given_as_z_is_told_its_p():
    with pytest.raises(
        InputError, match=r"cluster_size.threshold: is 3.1, no p in \(0, 1\).*z = 3.1 is p = (\S+)\."
    ) as e:
        ClusterSize(threshold=3.1)
    assert f"{stats.norm.sf(3.1):.3g}" in str(e.value)


REFUSED = {
    "p of 0": (lambda: ClusterMass(threshold=0), "cluster_mass.threshold: is 0. It should be greater than 0"),
    "not finite": (lambda: ClusterMass(threshold=float("nan")), "cluster_mass.threshold: is nan"),
    "misspelled key": (lambda: ClusterSize(thresold=0.1), "cluster_size.thresold.*Did you mean `threshold`"),
    "misspelled name": (lambda: as_statistics("tcfe"), "statistics: 'tcfe' is no statistic. Did you mean `tfce`"),
    "connectivity": (lambda: TFCE(connectivity=8), "tfce.connectivity: is 8. It should be 6, 18 or 26"),
    "negative E": (lambda: as_statistics([{"tfce": {"E": -1}}]), "tfce.E: is -1"),
    "no steps": (lambda: TFCE(steps=0), "tfce.steps: is 0"),
    "no name": (lambda: as_statistics([3]), r"statistics: is 3. A name \(max_stat,"),
    "parameters of no name": (lambda: as_statistics([{"tfce": 100}]), "tfce: is 100. Its parameters by name"),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_statistic_is_refused_in_words(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_a_section_refuses_what_the_objects_refuse():
    with pytest.raises(ValidationError, match=r"cluster_size.threshold: is 3, no p"):
        Holder(statistics=[{"cluster_size": {"threshold": 3}}])


def test_the_schema_knows_names_and_parameters():
    schema = Holder.model_json_schema()
    assert schema["$defs"]["ClusterSize"]["properties"]["threshold"]["exclusiveMaximum"] == 1
    assert "'enum': ['max_stat', 'cluster_size', 'cluster_mass', 'tfce']" in str(schema)
