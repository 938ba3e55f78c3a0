"""Errors: one base, a few leaves. Every message says where, what, what was wanted and how to mend it."""

from __future__ import annotations


class VoxloomError(Exception):
    """Base of every error voxloom raises on purpose."""


class InputError(VoxloomError, ValueError):
    """A file or an argument is wrong; the user can mend it.

    Parameters
    ----------
    where : str
        File, key or argument the problem is in.
    what : str
        What was found there.
    remedy : str
        What was wanted and how to mend it.
    """

    def __init__(self, where: str, what: str, remedy: str = "") -> None:
        self.where, self.what, self.remedy = where, what, remedy
        super().__init__(where, what, remedy)

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" + (f" {self.remedy}" if self.remedy else "")


class DesignError(InputError):
    """A design matrix cannot be built or cannot be fitted to these data."""


class ContrastError(InputError):
    """A contrast names unknown columns or is not estimable."""


class GridError(InputError):
    """Images that must share one grid (shape and affine) do not."""


class CorruptionError(InputError):
    """A file ends early or a checksum does not match."""


class StoreError(InputError):
    """A store is missing, of another version, of another study, or held by another process."""


class StoreAccessError(VoxloomError, PermissionError):
    """A store cannot be used as things are (no such bucket, wrong credentials); another attempt would fail too."""


class StoreAwayError(VoxloomError, ConnectionError):
    """A store does not answer; another attempt may succeed."""


class MemoryBudgetError(InputError, MemoryError):
    """A task needs more memory than the budget allows."""


class StageError(VoxloomError, RuntimeError):
    """A stage ended with failed or quarantined tasks; everything else of it is done and kept."""


class Cancelled(VoxloomError):
    """The run was asked to stop."""


class VoxloomWarning(UserWarning):
    """Something was assumed, filled or dropped; the result stands."""
