"""The analysis file: what is refused and how, and digests that follow meaning rather than spelling."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from voxloom.errors import ContrastError, InputError
from voxloom.spec import (
    Analysis,
    bids_label,
    digest,
    load_analysis,
    parse_analysis,
    parse_bytes,
    require_distinct_labels,
    schema_text,
)
from voxloom.spec.confounds import PARAMETERS, PRESETS
from voxloom.spec.digests import GENERATIONS

if TYPE_CHECKING:
    from pathlib import Path

MINIMAL = "data: {bids_dir: bids}\n"


def load(tmp_path: Path, text: str, name: str = "analysis.yaml") -> Analysis:
    path = tmp_path / name
    path.write_text(text)
    return load_analysis(path)


# each: text after MINIMAL's data section, where the message points, what it must contain
REFUSED = {
    "unknown key": (
        "first_level:\n  hrf_modle: spm\n",
        ":3: first_level.hrf_modle",
        "Did you mean `hrf_model`?",
    ),
    "unknown section": ("frist_level: {}\n", ":2: frist_level", "Did you mean `first_level`?"),
    "unknown value": ("first_level: {noise_model: ar9}\n", ":2: first_level.noise_model", "'ols'"),
    "not positive": ("first_level: {high_pass: 0}\n", ":2: first_level.high_pass", "greater than 0"),
    "period for frequency": ("first_level: {high_pass: 128}\n", "first_level.high_pass", "1/128 Hz"),
    "not finite": ("first_level: {high_pass: .nan}\n", "first_level.high_pass", "number"),
    "duplicate key": ("seed: 1\nseed: 2\n", ":3: seed", "first in line 2"),
    "duplicate contrast": (
        "first_level:\n  contrasts:\n    a: face\n    a: house\n",
        ":5: first_level.contrasts.a",
        "twice",
    ),
    "same file name": (
        "first_level:\n  contrasts: {a - b: a, aMinusB: a}\n",
        "first_level.contrasts",
        "aMinusB",
    ),
    "no file name": ("first_level:\n  contrasts: {'?': a}\n", "first_level.contrasts.?", "Rename"),
    "contrast of nothing": (
        "first_level:\n  contrasts: {a: []}\n",
        "first_level.contrasts.a",
        "several, or rows of numbers",
    ),
    "contrast as a number": ("first_level:\n  contrasts: {a: 3}\n", "first_level.contrasts.a", "expression"),
    "t of several rows": (
        "first_level:\n  contrasts: {a: {expression: [a, b], stat_type: t}}\n",
        "first_level.contrasts.a.stat_type",
        "F test",
    ),
    "two drifts": ("first_level: {confounds: ['cos*']}\n", "first_level.confounds", "drift_model: null"),
    "two drifts by a preset": ("first_level: {confounds: simple}\n", "first_level.confounds", "high_pass"),
    "unknown component": (
        "first_level:\n  drift_model:\n  confounds:\n    strategy: [moton]\n",
        ":5: first_level.confounds.strategy.0",
        "'motion'",
    ),
    "unknown preset": ("first_level: {confounds: {strategy: simpel}}\n", "first_level.confounds.strategy", "scrubbing"),
    "component as a preset": ("first_level: {confounds: {strategy: motion}}\n", "confounds.strategy", "[motion]"),
    "unknown expansion": (
        "first_level: {confounds: {strategy: [motion], motion: ful}}\n",
        "first_level.confounds.motion",
        "'basic', 'power2', 'derivatives' or 'full'",
    ),
    "parameter without its component": (
        "first_level: {confounds: {strategy: [motion], fd_threshold: 1}}\n",
        "first_level.confounds.fd_threshold",
        "`scrub`",
    ),
    "parameter without a strategy": ("first_level: {confounds: {demean: false}}\n", "confounds.demean", "no strategy"),
    "misspelled parameter": (
        "first_level: {confounds: {strategy: [motion], motoin: full}}\n",
        "confounds.motoin",
        "Did you mean `motion`?",
    ),
    "compcor without high_pass": (
        "first_level: {confounds: {strategy: [compcor]}}\n",
        "confounds.strategy",
        "high_pass",
    ),
    "tedana": ("first_level: {confounds: {strategy: [tedana]}}\n", "confounds.strategy", "files of its own"),
    "n_compcor": (
        "first_level: {drift_model: , confounds: {strategy: [compcor, high_pass], n_compcor: 0}}\n",
        "confounds.n_compcor",
        "greater than or equal to 1",
    ),
    "no contrast for the group": ("group: {all: }\n", "group.all.first_level_contrasts", "no t contrast"),
    "unknown contrast": (
        "first_level: {contrasts: {face: a}}\ngroup:\n  all:\n    first_level_contrasts: [fase]\n",
        ":5: group.all.first_level_contrasts",
        "Did you mean `face`?",
    ),
    "F contrast for the group": (
        "first_level: {contrasts: {face: [a, b], x: a}}\ngroup: {all: {first_level_contrasts: [face]}}\n",
        "group.all.first_level_contrasts",
        "t contrasts",
    ),
    "conjunction for the group": (
        "first_level: {contrasts: {both: {conjunction: [a, b]}, x: a}}\n"
        "group: {all: {first_level_contrasts: [both]}}\n",
        "group.all.first_level_contrasts",
        "t contrasts",
    ),
    "conjunction of one": (
        "first_level:\n  contrasts: {a: {conjunction: [face]}}\n",
        "first_level.contrasts.a.conjunction",
        "Two expressions",
    ),
    "weights that are no numbers": (
        "first_level:\n  contrasts: {a: {weights: [1, true]}}\n",
        "first_level.contrasts.a.weights",
        "{name: weight}",
    ),
    "a list of this and that": (
        "first_level:\n  contrasts:\n    a: [1, house]\n",
        ":4: first_level.contrasts.a",
        "rows of numbers",
    ),
    "a row that weighs nothing": (
        "first_level:\n  contrasts: {a: [[1], [0, 0]]}\n",
        "first_level.contrasts.a",
        "weighs no column",
    ),
    "a contrast that breaks off": (
        "first_level:\n  contrasts:\n    a: face -\n",
        ":4: first_level.contrasts.a",
        "contrast 'face -': the end is unexpected",
    ),
    "one of several that breaks off": (
        "first_level:\n  contrasts:\n    a: {conjunction: [face, (face - house]}\n",
        ":4: first_level.contrasts.a",
        "contrast '(face - house': `)` is missing before the end",
    ),
    "a weight that is no number": (
        "first_level:\n  contrasts: {a: {weights: {face: big}}}\n",
        "first_level.contrasts.a.weights.face",
        "finite number",
    ),
    "weights of nothing": (
        "first_level:\n  contrasts: {a: {weights: {face: 0}}}\n",
        "first_level.contrasts.a.weights",
        "weighs no column",
    ),
    "two spellings of one contrast": (
        "first_level:\n  contrasts: {a: {expression: b, weights: {face: 1}}}\n",
        "first_level.contrasts.a.weights",
        "beside `expression`",
    ),
    "misspelled spelling": (
        "first_level:\n  contrasts: {a: {weigths: {face: 1}}}\n",
        "first_level.contrasts.a.weigths",
        "Did you mean `weights`?",
    ),
    "formula without contrasts": (
        "first_level: {contrasts: {x: a}}\ngroup: {all: {formula: age}}\n",
        "group.all.contrasts",
        "formula",
    ),
    "alpha": (
        "first_level: {contrasts: {x: a}}\ngroup: {all: {inference: {alpha: 1}}}\n",
        "group.all.inference.alpha",
        "less than 1",
    ),
    "n_perm": (
        "first_level: {contrasts: {x: a}}\ngroup: {all: {inference: {n_perm: 0}}}\n",
        "group.all.inference.n_perm",
        "greater than or equal to 1",
    ),
    "too little memory": ("memory_budget: 32MiB\n", ":2: memory_budget", "64MiB"),
    "no memory size": ("memory_budget: lots\n", ":2: memory_budget", "512MiB"),
    "cluster": ("cluster: lcoal\n", ":2: cluster", "tcp://"),
    "newer version": ("version: 2\n", ":2: version", "should be 1"),
    "all at once": ("seed: -1\nworkers: 0\n", "", "Also wrong"),
}


@pytest.mark.parametrize(("text", "where", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_refusals_name_line_key_and_remedy(tmp_path, text, where, words):
    with pytest.raises(InputError) as caught:
        load(tmp_path, MINIMAL + text)
    assert caught.value.where.startswith("analysis.yaml")
    assert caught.value.where.endswith(where)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.yaml", "", "a.yaml: is empty"),
        ("a.yaml", "[1]", "a.yaml: holds a list"),
        ("a.yaml", "data:\n  bids_dir: x\n y: [", "a.yaml:3: is not valid YAML"),
        ("a.yaml", "seed: 1\n", "a.yaml: data: is missing"),
        ("a.yaml", "data: {filters: {run: 1}}", "a.yaml:1: data.bids_dir: is missing"),
        ("a.yaml", "data: {bids_dir: x, filters: {sujbect: 1}}", "Did you mean `subject`"),
        ("a.yaml", "data: {bids_dir: x, sites: {a: {bids_dir: y}}}", "data.bids_dir: is given beside `sites`"),
        ("a.yaml", "data: {derivatives: x, sites: {a: {bids_dir: y}}}", "data.derivatives: is given beside `sites`"),
        ("a.yaml", "data: {sites: {a: {derivatives: y}}}", "data.sites.a.bids_dir: is missing"),
        ("a.yaml", "data: {sites: {a: {bids_dri: y}}}", "Did you mean `bids_dir`"),
        ("a.yaml", "data: {sites: {New-York: {bids_dir: y}}}", "data.sites.New-York: cannot name a site"),
        ("a.yaml", "data: {sites: {group: {bids_dir: y}}}", "data.sites.group: cannot name a site"),
        ("a.yaml", "data: {sites: {Oslo: {bids_dir: x}, oslo: {bids_dir: y}}}", "'Oslo' and 'oslo'"),
        (
            "a.yaml",
            "data: {bids_dir: x}\nfirst_level: {contrasts: {a: a}}\ngroup: {m: {}, n: {inference: {n_perm: 5}}}",
            "a.yaml:3: group.n: is the model `m` again",
        ),
        ("a.yaml", "data: {bids_dir: x, filters: {task: a}}", "Write `data.task:` instead"),
        ("a.yaml", "data: {bids_dir: x, filters: {sub: 1, subject: 2}}", "twice"),
        ("a.json", '{"data": {"bids_dir": "x"},\n}', "a.json:2: is not valid JSON"),
        ("a.json", '{"seed": 1, "seed": 2}', "a.json: seed: is given twice"),
        (
            "a.json",
            '{"data": {"bids_dir": "x"}, "sed": 2}',
            "a.json: sed: is not a known key. Did you mean `seed`?",
        ),
    ],
)
def test_unreadable_files(tmp_path, name, text, message):
    with pytest.raises(InputError) as caught:
        load(tmp_path, text, name)
    assert message in str(caught.value)


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(InputError, match="voxloom init"):
        load_analysis(tmp_path / "absent.yaml")
    (tmp_path / "image.yaml").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(InputError, match="UTF-8"):
        load_analysis(tmp_path / "image.yaml")


def test_paths_start_at_the_file_and_names_come_from_it(tmp_path):
    text = "data: {bids_dir: bids, derivatives: ../prep, mask: m.nii.gz}\n"
    (tmp_path / "in").mkdir()
    analysis = load(tmp_path, text, "in/pain.yaml")
    assert analysis.data.bids_dir == tmp_path / "in/bids"
    assert analysis.data.derivatives == (tmp_path / "prep",)
    assert analysis.data.mask == str(tmp_path / "in/m.nii.gz")
    assert analysis.store.path == str(tmp_path / "in/pain.zarr")
    assert analysis.output.dir == tmp_path / "in/pain-results"
    assert load(tmp_path, MINIMAL + "store: {path: 's3://b/x.zarr'}").store.path == "s3://b/x.zarr"


def test_numbers_are_read_as_in_yaml_1_2(tmp_path):
    text = (
        "data: {bids_dir: b, filters: {subject: [01, no], run: 010}}\n"
        "first_level: {high_pass: 1e-2, contrasts: {yes: on}}"
    )
    analysis = load(tmp_path, text)
    assert analysis.data.filters == {"sub": ("01", "no"), "run": ("010",)}
    assert analysis.first_level.high_pass == 0.01
    assert analysis.first_level.contrasts["yes"].expression == "on"


def test_contrast_spellings():
    contrasts = {
        "a": "face  -  house",
        "b": ["face"],
        "c": ["face", "house"],
        "d": {"expression": "face", "stat_type": "F"},
        "e": {"expression": ["face"], "stat_type": "t"},
        "f": {"weights": {"face": 1, "house": -1.0, "cat": 0}},
        "g": {"weights": [{"face": 0.1, "a b": -2}, {"target*modulation": 1e-7}]},
        "h": {"weights": {"face": 1}, "stat_type": "F"},
        "i": {"conjunction": ["face", "cat  - house"]},
        "j": [1, -1],
        "k": [[1, 0, -1], [0, 1]],
        "l": {"weights": [1, -0.5]},
        "m": {"weights": [[1], [0, 1]]},
        "n": {"expression": [[1, 0], [0, 1]], "stat_type": "conjunction"},
        "o": {"weights": [[1, -1]], "stat_type": "F"},
    }
    made = parse_analysis({"data": {"bids_dir": "b"}, "first_level": {"contrasts": contrasts}}).first_level.contrasts
    assert {name: (c.expression, c.stat_type) for name, c in made.items()} == {
        "a": ("face - house", "t"),
        "b": ("face", "F"),
        "c": (("face", "house"), "F"),
        "d": ("face", "F"),
        "e": ("face", "t"),
        "f": ("face - house", "t"),
        "g": (("0.1 * face - 2 * `a b`", "1e-07 * `target*modulation`"), "F"),
        "h": ("face", "F"),
        "i": (("face", "cat - house"), "conjunction"),
        "j": (((1.0, -1.0),), "t"),
        "k": (((1.0, 0.0, -1.0), (0.0, 1.0)), "F"),
        "l": (((1.0, -0.5),), "t"),
        "m": (((1.0,), (0.0, 1.0)), "F"),
        "n": (((1.0, 0.0), (0.0, 1.0)), "conjunction"),
        "o": (((1.0, -1.0),), "F"),
    }


def test_weights_by_name_are_the_contrast_of_the_expression_to_the_digest():
    def digest_of(contrast: object) -> str:
        return parse_analysis(
            {"data": {"bids_dir": "b"}, "first_level": {"contrasts": {"a": contrast}}}
        ).contrast_digest

    assert digest_of({"weights": {"face": 1, "house": -0.5}}) == digest_of("face - 0.5 * house")
    assert digest_of({"conjunction": ["face", "house"]}) != digest_of(["face", "house"])


def test_weights_by_place_have_one_for_every_column_of_a_design():
    wanted = parse_analysis(changed("first_level.contrasts.any", [[1, -0.5], [0, 0, 2]])).first_level.contrasts["any"]
    assert wanted.over(["a", "b c", "d", "e"]) == ((1.0, -0.5, 0.0, 0.0), (0.0, 0.0, 2.0, 0.0))
    assert wanted.named(["a", "b c", "d", "e"]) == ["a - 0.5 * `b c`", "2 * d"]
    assert wanted.said == ["1 -0.5", "0 0 2"]
    with pytest.raises(ContrastError, match=r"3 weights for 2 columns. They are \['a', 'b'\]"):
        wanted.over(["a", "b"])


def test_what_digests_see_of_contrasts_by_name_is_what_it_was_before_there_were_weights_by_place():
    assert parse_analysis(FULL).first_level.model_dump(include={"contrasts"}) == {
        "contrasts": {
            "any": {"expression": ("face", "house"), "stat_type": "F"},
            "diff": {"expression": "face - house", "stat_type": "t"},
            "face": {"expression": "face", "stat_type": "t"},
        }
    }


def test_analysis_is_frozen_and_survives_json():
    analysis = parse_analysis(FULL)
    with pytest.raises(ValueError, match="frozen"):
        analysis.seed = 3
    again = parse_analysis(json.loads(json.dumps(analysis.to_dict())))
    assert again == analysis
    assert again.digest() == analysis.digest()


FULL = {
    "data": {"bids_dir": "/d/bids", "task": "faces", "filters": {"run": [1, 2]}, "t_r": 2},
    "first_level": {
        "high_pass": 0.01,
        "smoothing_fwhm": 6,
        "confounds": ["trans_?", "rot_?"],
        "contrasts": {"face": "face", "diff": "face - house", "any": ["face", "house"]},
    },
    "group": {"mean": {}, "age": {"covariates": ["age"], "contrasts": {"age": "age"}}},
    "seed": 3,
}
NO_DIFFERENCE = {
    "cluster": "tcp://host:8786",
    "workers": 4,
    "memory_budget": "2GiB",
    "store": {"path": "elsewhere.zarr"},
    "output": {"dir": "elsewhere"},
}
STAGES = ("ingest", "fit", "contrast", "combine", "group", "infer", "all")


def stage_digests(raw: object) -> dict[str, str]:
    a = parse_analysis(raw)
    return dict(
        zip(
            STAGES,
            (
                a.ingest_digest,
                a.fit_digest,
                a.contrast_digest,
                a.combine_digest,
                a.group_digest("mean"),
                a.infer_digest("mean"),
                a.digest(),
            ),
        )
    )


def changed(path: str, value: object) -> dict[str, object]:
    raw = json.loads(json.dumps(FULL))
    *keys, last = path.split(".")
    inner = raw
    for key in keys:
        inner = inner.setdefault(key, {})
    inner[last] = value
    return raw


@pytest.mark.parametrize(
    ("path", "value", "first"),
    [
        ("first_level.smoothing_fwhm", 5, "ingest"),
        ("data.space", "T1w", "ingest"),
        ("data.t_r", 2.5, "ingest"),
        ("data.derivatives", [], "ingest"),
        ("first_level.hrf_model", "glover", "fit"),
        ("first_level.confounds", [], "fit"),
        ("first_level.noise_model", "ols", "fit"),
        ("first_level.noise_smoothing_fwhm", 5, "fit"),
        ("first_level.contrasts.diff", "house - face", "contrast"),
        ("first_level.contrasts.more", "house", "contrast"),
        ("data.filters.subject", "01", "combine"),
        ("data.exclude", "sub-01_task-faces_run-1", "combine"),
        ("subject_level.fixed_effects.precision_weighted", True, "combine"),
        ("group.mean.contrasts", {"mean": "-intercept"}, "group"),
        ("group.mean.inference.n_perm", 500, "infer"),
        ("seed", 4, "infer"),
        ("group.age.formula", None, None),
        ("group.age.covariates", ["age", "sex"], "all"),
    ],
)
def test_a_change_alters_its_stage_and_those_after_it(path, value, first):
    before, after = stage_digests(FULL), stage_digests(changed(path, value))
    altered = [stage for stage in STAGES if before[stage] != after[stage]]
    assert altered == ([] if first is None else list(STAGES[STAGES.index(first) :]))


def with_confounds(spelling: object):
    level = FULL["first_level"] | {"drift_model": None, "confounds": spelling}
    return parse_analysis(FULL | {"first_level": level})


def confounds_of(spelling: object):
    return with_confounds(spelling).first_level.confounds


@pytest.mark.parametrize(
    "spelling",
    [
        *PRESETS,
        {"strategy": "compcor", "n_compcor": 5, "columns": "csf"},
        {"strategy": ["scrub", "motion"], "scrub": 0, "motion": "basic", "demean": False},
    ],
)
def test_confounds_survive_json_and_say_what_takes_part(spelling):
    analysis = with_confounds(spelling)
    again = parse_analysis(json.loads(json.dumps(analysis.to_dict())))
    assert (again, again.digest()) == (analysis, analysis.digest())
    written = analysis.to_dict()["first_level"]["confounds"]
    unused = {key for name, keys in PARAMETERS.items() if name not in written["strategy"] for key in keys}
    assert not unused & set(written)


def test_equal_strategies_have_one_digest():
    spellings = (
        "simple",
        {"strategy": "simple"},
        {"strategy": "simple", "motion": "full", "columns": None},
        {"strategy": ["motion", "wm_csf", "high_pass"]},
        {"strategy": ["wm_csf", "high_pass", "non_steady_state", "motion", "motion"], "demean": True},
    )
    assert len({with_confounds(spelling).fit_digest for spelling in spellings}) == 1


def test_columns_alone_are_written_as_a_list_as_before_there_were_strategies():
    assert confounds_of({"columns": ["csf"]}) == confounds_of(["csf"]) == confounds_of("csf")
    assert parse_analysis(FULL).to_dict()["first_level"]["confounds"] == ["trans_?", "rot_?"]
    assert parse_analysis(FULL).fit_digest == "fd7b87312cc3"


def test_a_preset_takes_in_the_global_signal_when_its_parameter_is_given():
    assert "global_signal" in confounds_of({"strategy": "simple", "global_signal": "basic"}).strategy
    assert "global_signal" not in confounds_of("simple").strategy


def test_names_of_an_analysis_of_one_dataset_do_not_change_between_versions():
    """A store that an earlier version wrote is gone on with: these were taken before there were sites."""
    assert parse_analysis(FULL).ingest_digest == "abd8e2a08bad"
    assert parse_analysis(FULL).data.chosen == {"task": "faces", "filters": {"run": ("1", "2")}}


@pytest.mark.parametrize("stage", sorted(GENERATIONS))
def test_results_of_other_numbers_have_other_names_and_what_is_before_them_keeps_its_own(stage, monkeypatch):
    """A store that was fitted before the numbers changed keeps them beside the new ones."""
    before = stage_digests(FULL)
    monkeypatch.setitem(GENERATIONS, stage, GENERATIONS[stage] + 1)
    after = stage_digests(FULL)
    altered = [name for name in STAGES if before[name] != after[name]]
    assert altered == list(STAGES[STAGES.index(stage) :])


@pytest.mark.parametrize("noise_model", ["ar1", "ar2", "arma11"])
def test_fits_of_a_noise_model_whose_numbers_have_changed_have_other_names(noise_model, monkeypatch):
    raw = changed("first_level.noise_model", noise_model)
    monkeypatch.setattr("voxloom.spec.analysis.NOISE_GENERATIONS", {})
    before = stage_digests(raw)
    monkeypatch.setattr("voxloom.spec.analysis.NOISE_GENERATIONS", {"ar2": 2})
    altered = [name for name in STAGES if before[name] != stage_digests(raw)[name]]
    assert altered == (list(STAGES[1:]) if noise_model == "ar2" else [])


def test_a_site_more_renames_no_fit_and_a_choice_within_one_renames_subjects():
    def of_sites(**sites: object) -> dict[str, str]:
        return stage_digests(FULL | {"data": FULL["data"] | {"bids_dir": None, "sites": sites}})

    one, two = of_sites(a={"bids_dir": "a"}), of_sites(b={"bids_dir": "b"}, a={"bids_dir": "a"})
    assert two == of_sites(a={"bids_dir": "elsewhere"}, b={"bids_dir": "b", "derivatives": []})
    chosen = of_sites(a={"bids_dir": "a"}, b={"bids_dir": "b", "filters": {"run": 1}})
    for other in (one, chosen):
        assert [stage for stage in STAGES if two[stage] != other[stage]] == list(STAGES[3:])


def test_a_site_says_what_it_says_and_takes_the_rest_from_data():
    raw = {"filters": {"run": 1, "acq": "a"}, "t_r": 2, "sites": {"a": {"bids_dir": "/a"}}}
    raw["sites"]["b"] = {"bids_dir": "/b", "filters": {"run": 2}, "t_r": 3}
    for data in (parse_analysis({"data": raw}).data, parse_analysis(parse_analysis({"data": raw}).to_dict()).data):
        a, b = data.datasets.values()
        assert (a.filters, a.t_r) == ({"acq": ("a",), "run": ("1",)}, 2)
        assert (b.filters, b.t_r) == ({"acq": ("a",), "run": ("2",)}, 3)


def test_order_of_contrasts_is_the_same_where_digests_are():
    """Rows of stored results are found by place, so equal digests must mean equal order."""
    raw = json.loads(json.dumps(FULL))
    raw["first_level"]["contrasts"] = dict(reversed(raw["first_level"]["contrasts"].items()))
    raw["group"] = dict(reversed(raw["group"].items()))
    one, other = parse_analysis(FULL), parse_analysis(raw)
    assert one.digest() == other.digest()
    assert list(one.first_level.contrasts) == list(other.first_level.contrasts)
    assert list(one.group) == list(other.group)


@st.composite
def respelled(draw, value=FULL):
    """The same analysis with keys in another order and numbers spelled differently."""
    if isinstance(value, dict):
        items = draw(st.permutations(sorted(value.items())))
        return {key: draw(respelled(inner)) for key, inner in items}
    if isinstance(value, list):
        return [draw(respelled(inner)) for inner in value]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return draw(st.sampled_from([value, float(value)]))
    return value


def defaults(raw: dict) -> dict:
    """The analysis with every default written out; paths apart, as those depend on where it lies."""
    full = parse_analysis(raw).to_dict()
    return full | {"data": full["data"] | {"bids_dir": "/elsewhere/bids"}}


@settings(max_examples=60, deadline=None)
@given(
    raw=respelled(),
    as_json=st.booleans(),
    written_out=st.booleans(),
    extra=st.sampled_from([{}, NO_DIFFERENCE]),
)
def test_spelling_does_not_matter(tmp_path_factory, raw, as_json, written_out, extra):
    raw["data"]["filters"] = {"run": ["1", 2]}
    raw = (defaults(raw) if written_out else raw) | extra
    path = tmp_path_factory.mktemp("spec") / ("a.json" if as_json else "a.yaml")
    path.write_text(json.dumps(raw) if as_json else yaml.safe_dump(raw, sort_keys=False))
    assert load_analysis(path).digest() == parse_analysis(FULL).digest()


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda v: st.lists(v) | st.dictionaries(st.text(), v),
    )
)
def test_digest_does_not_see_key_order_or_tuples(value):
    def turned(v):
        if isinstance(v, dict):
            return {key: turned(v[key]) for key in reversed(v)}
        return tuple(map(turned, v)) if isinstance(v, list) else v

    assert digest(turned(value)) == digest(value)
    assert digest([value]) != digest([value, value])


SCALARS = st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.text(max_size=4) | st.just("spm")
KEYS = st.sampled_from(["bids_dir", "filters", "sub", "contrasts", "expression", "stat_type", "mean", "inference"])
VALUES = st.recursive(SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(KEYS, v, max_size=3))
SECTIONS = st.dictionaries(st.sampled_from(sorted(Analysis.model_fields)), VALUES)


@settings(max_examples=300, deadline=None)
@given(SECTIONS, st.sampled_from(["data", "first_level", "group"]), KEYS, VALUES)
def test_any_mapping_is_an_analysis_or_an_input_error(raw, section, key, value):
    raw = {"data": {"bids_dir": "b"}, "first_level": {"contrasts": {"a": "a"}}} | raw
    if isinstance(raw.get(section, {}), dict):
        raw[section] = raw.get(section, {}) | {key: value}
    try:
        analysis = parse_analysis(raw)
    except InputError:
        return
    assert parse_analysis(json.loads(json.dumps(analysis.to_dict()))) == analysis


@pytest.mark.parametrize("spelling", ["128", "128.0", "1.28e2", "1.28E+2", "+128"])
def test_number_spellings(tmp_path, spelling):
    analysis = load(tmp_path, f"data: {{bids_dir: b}}\nfirst_level: {{smoothing_fwhm: {spelling}}}\n")
    assert analysis.first_level.smoothing_fwhm == 128
    expected = parse_analysis({"data": {"bids_dir": "b"}, "first_level": {"smoothing_fwhm": 128}})
    assert analysis.fit_digest == expected.fit_digest


def test_published_schema_is_up_to_date():
    published = files("voxloom").joinpath("analysis.schema.json").read_text(encoding="utf-8")
    assert published == schema_text(), "run: voxloom schema > src/voxloom/analysis.schema.json"


def test_schema_knows_every_key_and_no_other():
    schema = json.loads(schema_text())
    sections = [schema, *schema["$defs"].values()]
    assert all(section["additionalProperties"] is False for section in sections)
    assert schema["required"] == ["data"]
    assert set(schema["properties"]) == set(Analysis.model_fields)
    assert all("description" in p for p in schema["$defs"]["FirstLevel"]["properties"].values())


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("face - house", "faceMinusHouse"),
        ("face-house", "faceMinusHouse"),
        ("RT effect", "RTEffect"),
        ("2*a + b/3", "2TimesAPlusBOver3"),
        ("0.5 * a", "0p5TimesA"),
        ("loss>gain", "lossGtGain"),
        ("façade_é", "facadeE"),
        ("target*modulation", "targetTimesModulation"),
        ("run_01", "run01"),
    ],
)
def test_labels(name, label):
    assert bids_label(name) == label


@given(st.text(max_size=30))
def test_labels_are_letters_and_digits_or_refused(name):
    try:
        label = bids_label(name)
    except InputError:
        return
    assert label.isascii()
    assert label.isalnum()
    assert bids_label(label) == label


def test_labels_that_differ_in_case_alone_are_refused():
    assert require_distinct_labels(["a", "b c"], "x") == {"a": "a", "b c": "bC"}
    with pytest.raises(InputError, match="Rename"):
        require_distinct_labels(["Face", "face"], "x")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512MiB", 2**29),
        ("1.5 GB", 1_500_000_000),
        ("2 gib", 2**31),
        (1048576, 2**20),
        ("3e9", None),
        ("5 XB", None),
    ],
)
def test_memory_sizes(text, size):
    if size is None:
        with pytest.raises(InputError):
            parse_bytes(text)
    else:
        assert parse_bytes(text) == size


def test_smoothing_of_noise_names_the_fit_and_not_the_noise_that_is_smoothed():
    none, some, more = (parse_analysis(changed("first_level.noise_smoothing_fwhm", mm)) for mm in (0, 5, 6))
    assert none == parse_analysis(FULL)
    assert len({found.fit_digest for found in (none, some, more)}) == 3
    assert {found.noise_digest for found in (none, some, more)} == {none.fit_digest}


def test_independent_scans_have_no_noise_to_smooth():
    raw = changed("first_level.noise_smoothing_fwhm", 5)
    raw["first_level"]["noise_model"] = "ols"
    with pytest.raises(InputError, match=r"noise_smoothing_fwhm.*`ols` has no parameters"):
        parse_analysis(raw)


def test_noise_models_of_the_file_are_those_of_the_kernels():
    from typing import get_args

    from voxloom.kernels.first_level.noise_models import NOISE_MODELS
    from voxloom.spec.first_level import NoiseModel

    assert set(get_args(NoiseModel)) == set(NOISE_MODELS)


def test_spellings_of_group_contrasts():
    contrasts = {
        "a": " x -  y",
        "b": ["x"],
        "c": ["x", "y"],
        "d": {"weights": [{"x": 1}, {"y": 2}]},
        "e": [0, 1],
        "f": {"weights": [[0, 1], [1, 0]]},
        "g": {"contrasts": ["a", "c"]},
        "h": {"expression": [1, 2], "stat_type": "F"},
        "i": {"weights": {"x": 1, "y": -1}},
    }
    raw = {"data": {"bids_dir": "b"}, "first_level": {"contrasts": {"f": "on"}}}
    made = parse_analysis(raw | {"group": {"m": {"formula": "1 + x", "contrasts": contrasts}}}).group["m"]
    assert {name: (one.expression, one.stat_type) for name, one in made.contrasts.items()} == {
        "a": ("x - y", None),
        "b": ("x", "F"),
        "c": (("x", "y"), "F"),
        "d": (("x", "2 * y"), "F"),
        "e": (((0.0, 1.0),), "t"),
        "f": (((0.0, 1.0), (1.0, 0.0)), "F"),
        "g": (("x - y", "x", "y"), "F"),
        "h": (((1.0, 2.0),), "F"),
        "i": ("x - y", None),
    }
    # what digests and files see: an expression alone stays as it was before there were others
    assert made.settings["contrasts"]["a"] == "x - y"
    assert parse_analysis(raw | {"group": {"m": made.model_dump(mode="json")}}).group["m"] == made


@pytest.mark.parametrize(
    ("contrast", "message"),
    [
        ([], r"contrasts.a: is \[\]"),
        ([1, "x"], "rows of numbers are wanted"),
        ({"contrasts": ["b"]}, "'b' is no contrast. Did you mean `bb`?"),
        ({"expression": ["x", "y"], "stat_type": "t"}, "is t for several rows"),
        ({"expression": "x", "weights": {"x": 1}}, "is given beside `expression`"),
        ({"expresion": "x"}, "Did you mean `expression`?"),
    ],
)
def test_wrong_group_contrasts_are_named_with_a_remedy(contrast, message):
    group = {"m": {"formula": "1 + x", "contrasts": {"a": contrast, "bb": "x"}}}
    raw = {"data": {"bids_dir": "b"}, "first_level": {"contrasts": {"f": "on"}}, "group": group}
    with pytest.raises(InputError, match=message):
        parse_analysis(raw)
