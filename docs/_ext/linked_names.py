"""`voxloom.fdr` or `fdr(map)` in running text leads to the page of that name."""

from __future__ import annotations

import importlib
import re
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.transforms import SphinxTransform

if TYPE_CHECKING:
    from sphinx.application import Sphinx

#: Where public names live, the first that has a name wins.
MODULES = ("voxloom", "voxloom.glm", "voxloom.glm.first_level", "voxloom.glm.second_level", "voxloom.simulate")
#: A dotted name, a call, or both; a bare word may be a column, a dim or a key of a file.
SPELLED = re.compile(r"(?P<name>[A-Za-z_][\w.]*)(?P<call>\(.*\))?", re.DOTALL)


def public_names() -> dict[str, str]:
    """Full name by every way in which text may spell a public function or class."""
    names: dict[str, str] = {}
    for module in MODULES:
        found = importlib.import_module(module)
        for name in filter(lambda name: callable(getattr(found, name)), found.__all__):
            names[f"{module}.{name}"] = f"{module}.{name}"
            names.setdefault(name, f"{module}.{name}")
    return names


class LinkNames(SphinxTransform):
    """Wrap literals that spell a public name into a reference to it."""

    default_priority = 500

    def apply(self) -> None:
        """Look at every literal of the page that is not part of a link or a title."""
        names = public_names()
        for literal in list(self.document.findall(nodes.literal)):
            spelled = SPELLED.fullmatch(literal.astext())
            if spelled is None or not (spelled["call"] or spelled["name"].startswith("voxloom.")):
                continue
            if spelled["name"] in names and not isinstance(
                literal.parent, nodes.reference | pending_xref | nodes.title
            ):
                self.link(literal, names[spelled["name"]])

    def link(self, literal: nodes.literal, target: str) -> None:
        """Replace a literal by a reference that shows it."""
        reference = pending_xref(
            "",
            refdomain="py",
            reftype="obj",
            reftarget=target,
            refexplicit=True,
            refwarn=False,
            refdoc=self.env.docname,
        )
        literal.replace_self(reference)
        reference += literal


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the transform."""
    app.add_transform(LinkNames)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
