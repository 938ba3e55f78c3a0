"""The official BIDS validator, which lies whole in its package and needs no network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def errors(folder: Path) -> list[tuple[str, str]]:
    """Code and place of everything in a data set that breaks a rule; what is only recommended is left out."""
    command = Path(sys.executable).with_name("bids-validator-deno")
    made = subprocess.run([command, folder, "--json"], capture_output=True, check=False, timeout=60)
    issues = json.loads(made.stdout)["issues"]["issues"]
    return [(one["code"], one.get("location", "")) for one in issues if one["severity"] == "error"]
