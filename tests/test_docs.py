"""The documents agree with the code: keys of the analysis file and their defaults, YAML, links."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from voxloom.spec import Analysis, FirstLevel, GroupModel, parse_analysis

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel

ROOT = Path(__file__).resolve().parents[1]
ANALYSIS_FILE = (ROOT / "docs/reference/analysis-file.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def documented() -> dict[str, str]:
    """Defaults in the tables of the page, by key."""
    rows = re.findall(r"^\| `([\w.]+)` \| (.*?) \|", ANALYSIS_FILE, re.MULTILINE)
    return dict(rows)


def leaves(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Dotted keys of a section and their defaults."""
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and hasattr(inner, "model_fields"):
            yield from leaves(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field.get_default(call_default_factory=True)


def test_every_key_of_the_analysis_file_is_documented_with_its_default():
    keys = dict(leaves(Analysis)) | {f"group.{key}": value for key, value in leaves(GroupModel)}
    del keys["group"]
    for section in (
        "data.",
        "first_level.",
        "subject_level.",
        "group.",
    ):  # sections of the page have these in their titles
        keys = {key.removeprefix(section): value for key, value in keys.items()}
    table = documented()
    assert set(table) == set(keys)
    wrong = {}
    for key, value in keys.items():
        written = table[key]
        if written in ("required", "512MiB", "8GiB", "{mean: intercept}"):
            continue
        expected = [getattr(one, "name", one) for one in value] if isinstance(value, tuple) else value
        if yaml.safe_load(written) != expected:
            wrong[key] = (written, value)
    assert not wrong


def test_defaults_that_the_tables_write_in_words():
    analysis = parse_analysis(
        {"data": {"bids_dir": "bids"}, "first_level": {"contrasts": {"a": "a"}}, "group": {"m": {}}}
    )
    assert analysis.memory_budget == 512 * 2**20
    assert analysis.group["m"].model_dump()["contrasts"] == {"mean": "intercept"}


def test_group_contrasts_of_the_page_are_read():
    block = re.search(r"```yaml\n(group:.*?)```", ANALYSIS_FILE, re.DOTALL)
    model = GroupModel(**yaml.safe_load(block[1])["group"]["sites"])
    assert {name for name, contrast in model.contrasts.items() if contrast.stat_type == "F"} == {"groups", "the same"}
    assert model.contrasts["groups"] == model.contrasts["the same"]


def test_contrasts_of_the_page_are_read():
    block = re.search(r"```yaml\n(contrasts:.*?)```", ANALYSIS_FILE, re.DOTALL)
    contrasts = FirstLevel(**yaml.safe_load(block[1])).contrasts
    kinds = {name: contrast.stat_type for name, contrast in contrasts.items()}
    assert kinds == {
        "face - house": "t",
        "faces": "t",
        "any effect": "F",
        "one row F": "F",
        "by weights": "t",
        "by place": "t",
        "both": "conjunction",
    }


def test_the_map_of_the_pipeline_names_every_module_in_its_folder_and_no_other():
    page = (ROOT / "docs/design/003-pipeline.md").read_text().partition("## The map")[2].partition("\n## ")[0]
    named: dict[str, list[str]] = {}
    for folder, modules in re.findall(r"^\| (?:`(\w+)`)? ?\| [^|]+\| (.*) \|$", page, re.MULTILINE):
        named.setdefault(folder, []).extend(re.findall(r"`(\w+)`", modules))
    root = ROOT / "src/voxloom/pipeline"
    found = {"" if folder == root else folder.name: folder for folder in [root, *root.glob("[a-z]*/")]}
    assert {name: sorted(modules) for name, modules in named.items()} == {
        name: sorted(path.stem for path in folder.glob("[a-z]*.py")) for name, folder in found.items()
    }


def test_the_readme_shows_an_analysis_that_is_part_of_the_demo():
    block = re.search(r"```yaml\n(version:.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    demo = (ROOT / "src/voxloom/templates/demo.yaml").read_text()
    shown, run = (parse_analysis(yaml.safe_load(text)) for text in (block[1], demo))
    assert shown.fit_digest == run.fit_digest
    assert set(shown.first_level.contrasts.items()) <= set(run.first_level.contrasts.items())
    assert shown.group["mean"].inference == run.group["mean"].inference


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    missing = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert not missing
