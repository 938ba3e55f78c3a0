"""Formulas as MathML, which browsers draw themselves: pages need neither scripts nor the network for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docutils.nodes import SkipNode
from latex2mathml.converter import convert

if TYPE_CHECKING:
    from docutils.nodes import Element
    from sphinx.application import Sphinx
    from sphinx.writers.html5 import HTML5Translator


def inline(writer: HTML5Translator, node: Element) -> None:
    """Write a formula of a line."""
    writer.body.append(convert(node.astext()))
    raise SkipNode


def block(writer: HTML5Translator, node: Element) -> None:
    """Write a formula that stands alone."""
    writer.body.append(f'<div class="math">{convert(node.astext(), display="block")}</div>\n')
    raise SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
