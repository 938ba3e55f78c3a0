"""The entry to the reports of an analysis: every subject and group model with its numbers, and what has no page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from voxloom.report.blocks import Page, Section, Table, Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from voxloom.engine.ledger import Record
    from voxloom.report.blocks import Block
    from voxloom.spec import Analysis

#: Headings of the numbers that pages tell of themselves, in their order; records are read back in one of their own.
HEADINGS = {
    "runs": "runs",
    "volumes": "volumes",
    "kept": "volumes kept",
    "tSNR": "median tSNR",
    "FD": "mean FD, mm",
    "subjects": "subjects",
    "maps": "maps",
}


def index_page(analysis: Analysis, records: Iterable[Record]) -> Page:
    """The page that leads to the others.

    Parameters
    ----------
    analysis : Analysis
    records : iterable of Record
        Of the tasks that drew the pages.
    """
    every = list(records)
    done = [record for record in every if record.status == "done"]
    subjects = [record for record in done if "subject" in record.details]
    models = [record for record in done if "model" in record.details]
    failed = [record for record in every if record.status != "done"]
    sections = [
        Section(id="models", title="Group models", blocks=listing(models, "model")),
        Section(id="subjects", title="Subjects", blocks=listing(subjects, "subject")),
        Section(id="failed", title="Not drawn", blocks=[reasons(failed)] if failed else []),
    ]
    return Page(
        title=analysis.data.task or "Reports",
        subtitle=analysis.data.space or "",
        figures={"subjects": f"{len(subjects):,}", "group models": f"{len(models):,}"},
        sections=[section for section in sections if section.blocks],
    )


def listing(records: Sequence[Record], kind: str) -> list[Block]:
    """Table of pages with their numbers, each row led by the way there."""
    if not records:
        return []
    rows: list[dict[str, Any]] = [
        {kind: record.details[kind], **told_in_order(record.details["numbers"])} for record in records
    ]
    return [Table(frame=pd.DataFrame(rows), links=[record.details["page"] for record in records])]


def told_in_order(numbers: Mapping[str, float]) -> dict[str, float]:
    """Numbers of a page by their headings."""
    return {heading: numbers[key] for key, heading in HEADINGS.items() if key in numbers}


def reasons(failed: Sequence[Record]) -> Text:
    """Which pages could not be drawn, and why."""
    told = [f"{record.key.split('/')[1]}: {record.reason}" for record in failed]
    return Text(paragraphs=told, role="note")
