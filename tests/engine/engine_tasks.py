"""Tasks and a store for the engine's tests: importable by workers, and small enough to see through."""

from __future__ import annotations

import errno
import os
import signal
import time
import warnings
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from voxloom.engine.task import Output, Task
from voxloom.engine.worker import check_cancelled
from voxloom.errors import CorruptionError, VoxloomWarning


@dataclass(frozen=True)
class Folder:
    """Objects in a folder: the least that the engine asks of a store."""

    root: str

    @property
    def url(self) -> str:
        return self.root

    def get(self, key: str) -> bytes | None:
        try:
            return (Path(self.root) / key).read_bytes()
        except FileNotFoundError:
            return None

    def put(self, key: str, value: bytes) -> None:
        part = self._part(key, value)
        os.replace(part, Path(self.root) / key)

    def put_new(self, key: str, value: bytes) -> bool:
        part = self._part(key, value)
        try:
            os.link(part, Path(self.root) / key)
        except FileExistsError:
            return False
        finally:
            part.unlink()
        return True

    def delete(self, key: str) -> None:
        (Path(self.root) / key).unlink(missing_ok=True)

    def list(self, prefix: str) -> list[str]:
        root = Path(self.root)
        found = (path.relative_to(root).as_posix() for path in root.rglob("*.json"))
        return sorted(key for key in found if key.startswith(prefix))

    def _part(self, key: str, value: bytes) -> Path:
        path = Path(self.root) / key
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}.{time.monotonic_ns()}.part")
        part.write_bytes(value)
        return part


class ReadOnly(Folder):
    """A folder that may be read only."""

    def put(self, key: str, value: bytes) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", key)


def make_tasks(function: Any, n: int, folder: Path, stage: str = "stage", **kwargs: Any) -> list[Task]:
    return [
        Task(
            stage=stage,
            key=f"task/{i:04d}",
            function=function,
            kwargs={"folder": str(folder), "i": i, **kwargs},
            inputs="v1",
        )
        for i in range(n)
    ]


def tick(folder: str, name: str) -> int:
    """Count calls by name, across processes; return how many there are now."""
    counter = Path(folder) / f"count-{name}"
    with counter.open("ab") as file:
        file.write(b"x")
    return counter.stat().st_size


def ticks(folder: Path) -> dict[str, int]:
    return {path.name.removeprefix("count-"): path.stat().st_size for path in folder.glob("count-*")}


def nothing(*, folder: str, i: int) -> Output:
    return Output(digest=str(i))


def square(*, folder: str, i: int, seconds: float = 0.0) -> Output:
    """Write i squared; count the call when it has ended."""
    time.sleep(seconds)
    text = str(i * i)
    (Path(folder) / f"out-{i:04d}").write_text(text)
    tick(folder, f"{i:04d}")
    return Output(digest=sha256(text.encode()).hexdigest(), bytes_read=8, bytes_written=len(text), details={"i": i})


def follow(*, folder: str, i: int) -> Output:
    """Fails unless the task two places before has been cleared away."""
    if i > 1 and not (Path(folder) / f"cleared-{i - 2:04d}").exists():
        raise ValueError(f"{i} began too early")
    return square(folder=folder, i=i, seconds=0.01)


def killing(*, folder: str, i: int) -> Output:
    """The third task ends its worker at its first attempt, as the out-of-memory killer does."""
    if i == 3 and tick(folder, "deaths") == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return square(folder=folder, i=i)


def deadly(*, folder: str, i: int) -> Output:
    """The third task ends its worker always."""
    if i == 3:
        tick(folder, "deaths")
        os.kill(os.getpid(), signal.SIGKILL)
    return square(folder=folder, i=i, seconds=0.05)


def mixed(*, folder: str, i: int) -> Output:
    """One of each way a task can end."""
    if i == 1:
        raise CorruptionError("run-1.nii.gz", "ends early.", "Copy it again.")
    if i == 2:
        raise ZeroDivisionError("division by zero")
    if i == 3 and tick(folder, "flaky") < 3:
        raise OSError(errno.EIO, "the disk stutters")
    if i == 4:
        raise FileNotFoundError(errno.ENOENT, "No such file", "gone.nii")
    if i == 5:
        raise OSError(errno.EIO, "the disk is dead")
    if i == 6:
        warnings.warn("onset after the end", VoxloomWarning, stacklevel=1)
    return Output(digest=f"d{i}")


def filling(*, folder: str, i: int) -> Output:
    """The third task finds the disk full, behind another library's error."""
    if i == 3:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise RuntimeError("could not write chunk") from error
    return square(folder=folder, i=i)


def patient(*, folder: str, i: int) -> Output:
    """Work for long, looking now and then whether to stop."""
    tick(folder, "started")
    for _ in range(600):
        time.sleep(0.05)
        check_cancelled()
    return Output(digest="never")


def breathing(*, folder: str, i: int) -> Output:
    """Touch a file at the start, remove it at the end."""
    flag = Path(folder) / f"running-{i}"
    flag.touch()
    time.sleep(0.02)
    flag.unlink()
    return Output(digest=str(i))


def threads(*, folder: str, i: int) -> Output:
    import numpy as np  # loads BLAS
    from threadpoolctl import threadpool_info

    assert np.linalg is not None
    return Output(digest="", details={"blas": [lib["num_threads"] for lib in threadpool_info()]})


def lazy_sum(*, folder: str, i: int) -> Output:
    import dask

    return Output(digest=str(dask.delayed(sum)([i, 1]).compute()))
