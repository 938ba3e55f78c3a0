"""Where compiled kernels are kept: a folder for this process alone.

numba numbers the compiled forms of a function by an index that processes read and write without a lock. Two that
compile one function for different types at once can leave an index that names the code of one for the types of the
other; the next process then runs it on the wrong bytes. So each process claims a folder, by a lock that ends with it,
and finds there what processes before it have compiled.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

VARIABLE = "NUMBA_CACHE_DIR"
#: Tells a process that its parent has claimed the folder it inherits.
CLAIMED = "VOXLOOM_NUMBA_CACHE"
#: Processes of one machine that can have a folder; any more share numba's own.
MOST = 4096
_held: list[object] = []


def claim_folder(*bases: Path) -> Path | None:
    """Claim the first folder that no other process has, and tell numba of it.

    Parameters
    ----------
    *bases : Path
        Where the folders of a machine are, the first that can be written to: by default beside the source, as numba's
        own, else in the user's cache folder.

    Returns
    -------
    Path or None
        None where the user has named a folder, numba is there already, or no folder can be locked: then numba does what
        it does alone.
    """
    named = os.environ.get(VARIABLE)
    if (named is not None and named != os.environ.get(CLAIMED)) or "numba" in sys.modules:
        return None
    for base in bases or _bases():
        folder = _first_free(base / socket.gethostname())
        if folder is not None:
            os.environ[VARIABLE] = os.environ[CLAIMED] = str(folder)
            return folder
    os.environ.pop(VARIABLE, None)
    return None


def _bases() -> tuple[Path, Path]:
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(__file__).parent / "__pycache__" / "numba", Path(cache) / "voxloom" / "numba"


def _first_free(base: Path) -> Path | None:
    """The first folder below `base` that can be locked; None where there can be none."""
    try:
        import fcntl
    except ImportError:
        return None
    for number in range(MOST):
        folder = base / f"{number:04d}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = (folder / "lock").open("w")
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        except OSError:
            return None
        _held.append(lock)
        return folder
    return None
