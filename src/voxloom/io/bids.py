"""The run table: which images an analysis means, with the mask, events, confounds and TR of each."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from voxloom.errors import InputError
from voxloom.io.bids_tree import BIDSFile, BIDSTree, natural_key
from voxloom.io.images_of import choose_images, find_images
from voxloom.io.tables import read_tsv

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Sidecar and header may differ by this many s: headers keep float32 and are often rounded to ms.
T_R_TOLERANCE = 1e-3
MAX_T_R = 100.0
