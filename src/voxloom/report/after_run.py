"""Reports at the end of a run, and where they lie; nothing of them is imported before, and none of it ends a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from voxloom.errors import Cancelled

if TYPE_CHECKING:
    import distributed

    from voxloom.pipeline.workspace import Workspace

#: Folder of the pages below that of the results, and their entry.
FOLDER, INDEX = "reports", "index.html"


def index_of(output: str | Path) -> Path:
    """The entry to the reports in a folder of results."""
    return Path(output) / FOLDER / INDEX


def reports_after(ws: Workspace, client: distributed.Client | None) -> None:
    """Draw the reports of what has been done; turn whatever goes wrong into a line for the user."""
    try:
        from voxloom.report.stage import draw_reports

        draw_reports(ws, client)
    except Cancelled:
        raise
    except Exception as error:  # whatever it is, the maps are written
        ws.note(f"reports: could not be drawn: {error}")
