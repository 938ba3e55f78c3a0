"""What a run was made from: the attributes it is kept with, and the digest of all that results depend on."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voxloom._version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from voxloom.io.nifti.volumes import VolumeReader
    from voxloom.io.study.extras import Extras
    from voxloom.io.study.open import Study
    from voxloom.io.study.run_values import RunValues
    from voxloom.io.study.selection import Selection

#: Attributes that results depend on. The path and time of a file, versions and chunks are not among them.
DIGESTED = ("n_volumes", "t_r", "dtype", "slope", "inter", "smoothing_fwhm", "entities", "events", "confounds")


def attributes(
    reader: VolumeReader, study: Study, selection: Selection, values: RunValues, extras: Extras, n_nonfinite: int
) -> dict[str, Any]:
    """Attributes of a run whose file has been read to its end; its digest comes on top."""
    return {
        "n_volumes": reader.info.n_volumes,
        "n_voxels": int(study.voxel.size),
        "n_in_mask": int(np.count_nonzero(selection.in_mask)),
        "n_outside": selection.n_outside,
        "n_nonfinite": n_nonfinite,
        "t_r": extras.t_r,
        "dtype": values.dtype.str,
        "slope": values.slope,
        "inter": values.inter,
        "smoothing_fwhm": values.fwhm or None,
        "max_error_sd": values.max_error_sd or None,
        "entities": extras.entities,
        "events": extras.events,
        "confounds": extras.names,
        "components": extras.components,
        "source": source_of(reader),
        "versions": {"voxloom": __version__, "numpy": np.__version__},
    }


def source_of(reader: VolumeReader) -> dict[str, Any]:
    """The file: where it lies, its bytes, its header."""
    info, stat = reader.info, Path(reader.path).stat()
    return {
        "path": str(Path(reader.path).absolute()),
        "size": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "sha256": reader.sha256,
        "dtype": info.dtype.str,
        "shape": list(info.shape),
        "header": base64.b64encode(info.header_bytes).decode(),
        "pair_offset": info.pair_offset,
    }


def run_digest(checksum: int, study: Study, selection: Selection, extras: Extras, attrs: Mapping[str, Any]) -> str:
    """Digest of all that results depend on, and of nothing else.

    The file's sha256 stands for its values, which are not hashed a second time (a tenth of the ingest); the
    crc32c of the stored ones stands for what was made of them.
    """
    content = [attrs["source"]["sha256"], checksum]
    if attrs["max_error_sd"]:  # the checksum is of the values before they are rounded
        content.append(attrs["max_error_sd"])
    text = json.dumps([content, study.digest, {name: attrs[name] for name in DIGESTED}], sort_keys=True)
    digest = hashlib.sha256(text.encode())
    if extras.components is not None:
        digest.update(json.dumps(extras.components, sort_keys=True).encode())
    digest.update(np.packbits(selection.in_mask).tobytes())
    digest.update(np.packbits(extras.sample_mask).tobytes())
    if extras.confounds is not None:
        digest.update(np.ascontiguousarray(extras.confounds.to_numpy(dtype="<f8")).tobytes())
    return digest.hexdigest()[:16]
