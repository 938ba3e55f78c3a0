"""Whether a store is what was written, and making it so again.

`damage` checks every object against its checksums and the ledger, `against_source` decodes the images again to compare
a run with them or to mend it, `axis` makes the voxel axis anew, and `mending` all else; `api` has what a user calls.
"""

from __future__ import annotations

from voxloom.pipeline.verification.api import repair, verify, verify_sources

__all__ = ["repair", "verify", "verify_sources"]
