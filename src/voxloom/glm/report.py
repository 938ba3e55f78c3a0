"""`generate_report` by nilearn's names, over `voxloom.report.in_memory`."""

from __future__ import annotations

import html
import tempfile
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voxloom.errors import ContrastError
from voxloom.glm.answers import answers, designs_of, named_contrasts, settings_of, shared_contrasts
from voxloom.glm.cluster_tables import Clusters
from voxloom.glm.images import Masked
from voxloom.glm.thresholding import CONNECTIVITY
from voxloom.report.in_memory import model_report
from voxloom.report.methods import software

if TYPE_CHECKING:
    from os import PathLike

    import xarray as xr

#: nilearn's background where none is asked for; here the mean of the first run, or plain grey.
TEMPLATE = "MNI152TEMPLATE"
WIDTH, HEIGHT = 1600, 800


@dataclass(frozen=True)
class Report:
    """A page of HTML that needs no other file, with what nilearn's reports are asked for."""

    html: str
    width: int = WIDTH
    height: int = HEIGHT

    def save_as_html(self, file_name: str | PathLike[str]) -> None:
        """Write the page to a file."""
        Path(file_name).write_text(self.html, encoding="utf-8")

    def get_standalone(self) -> str:
        """The page."""
        return self.html

    def get_iframe(self, width: int | None = None, height: int | None = None) -> str:
        """The page as a frame within another."""
        size = f'width="{width or self.width}" height="{height or self.height}"'
        return f'<iframe srcdoc="{html.escape(self.html)}" {size} style="border:0"></iframe>'

    def open_in_browser(self, file_name: str | PathLike[str] | None = None) -> None:
        """Write the page to a file, a temporary one when not given, and open it."""
        path = Path(file_name or Path(tempfile.mkdtemp(prefix="voxloom-")) / "report.html")
        self.save_as_html(path)
        webbrowser.open(path.absolute().as_uri())

    def _repr_html_(self) -> str:
        return self.get_iframe("100%")  # type: ignore[arg-type]

    def __str__(self) -> str:
        return self.html


class Reported(Masked):
    """A fitted model of which there is a page."""

    def generate_report(
        self,
        contrasts: Any = None,
        first_level_contrast: Any = None,
        title: str | None = None,
        bg_img: Any = TEMPLATE,
        threshold: float | None = None,
        alpha: float = 0.001,
        cluster_threshold: int = 0,
        height_control: str | None = "fpr",
        two_sided: bool = False,
        min_distance: float = 8.0,
        plot_type: str = "slice",
        cut_coords: Any = None,
        display_mode: Any = None,
        report_dims: tuple[int, int] = (WIDTH, HEIGHT),
    ) -> Report:
        """Make a page: maps at a threshold that is moved on it, clusters, designs, parameters.

        Parameters
        ----------
        contrasts : str, array_like, list of them, or mapping of str to one of them
            Names are made of expressions or weights, or given as keys.
        first_level_contrast : str or array_like, optional
            For group models of fitted models or of a table.
        title : str, optional
        bg_img : path or image, optional
            On the grid of the maps. By default the mean of the first run; of group models plain grey.
        threshold, alpha, cluster_threshold, height_control, two_sided, min_distance
            Where sliders begin and clusters are formed; as in `threshold_stats_img`, and mm between peaks.
        plot_type, cut_coords, display_mode
            As in nilearn; without effect here, for the page shows slices, volume and clusters alike.
        report_dims : (int, int)
            Pixels of the page in a notebook.

        Returns
        -------
        Report
            With ``save_as_html``, ``open_in_browser``, ``get_iframe``; notebooks show it.

        Raises
        ------
        InputError
            The model is not fitted, or a parameter is unknown.
        ContrastError
            There is no contrast; and as `compute_contrast`.
        """
        if contrasts is None:
            raise ContrastError("contrasts", "are missing.", "Name one at least: maps are of contrasts.")
        wanted = Clusters(threshold, alpha, cluster_threshold, height_control, two_sided, min_distance)
        named = named_contrasts(contrasts)
        found = answers(self, named, first_level_contrast)
        designs = designs_of(self)
        maps = {name: one["z_score"].assign_coords(self.masker_.coords) for name, one in found.items()}
        page = model_report(
            maps,
            designs,
            shared_contrasts(named, designs.values()),
            title=title or f"{type(self).__name__}: {', '.join(named)}",
            background=self._background(bg_img),
            threshold={name: wanted.height(z) for name, z in maps.items()},
            two_sided=two_sided,
            rows="maps" if hasattr(self, "design_matrix_") else "volumes",
            methods=[software()],
            facts=settings_of(self),
            connectivity=CONNECTIVITY,
            min_size=wanted.min_size,
            min_distance=min_distance,
        )
        return Report(page, *report_dims)

    def _background(self, bg_img: Any) -> xr.DataArray | None:
        if bg_img is not None and not (isinstance(bg_img, str) and bg_img == TEMPLATE):
            return self.masker_.one(bg_img)
        runs = getattr(self, "series_", None)
        return None if runs is None else runs[0].mean("time", dtype=np.float64).compute()
