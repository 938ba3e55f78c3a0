"""The documentation site: `make docs` builds it into build/docs, with warnings as errors and no network."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from voxloom import __version__

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "_ext"))
# Kernels of notebooks: one thread for BLAS, and no look at a terminal that is not there.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TQDM_DISABLE": "1"}

project, author, copyright = "voxloom", "the voxloom developers", "the voxloom developers, BSD 3-Clause"
version = release = __version__

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_copybutton",
    "sphinx_design",
    # of this folder's _ext
    "linked_names",
    "mathml",
    "reference_pages",
]
suppress_warnings = ["mystnb.unknown_mime_type"]
exclude_patterns = ["_ext", "_templates", "**.ipynb_checkpoints"]
templates_path = ["_templates"]
nitpicky = True
# Types of other packages, and words of numpydoc such as "array of shape (V,)": nothing to lead to without the network.
nitpick_ignore_regex = [(r"py:(class|obj|func|meth|mod|data|attr|exc)", r"(?!voxloom\.).*")]

# Markdown
source_suffix = {".rst": "restructuredtext", ".md": "myst-nb", ".ipynb": "myst-nb"}
myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
myst_links_external_new_tab = True

# Notebooks run when they have changed
nb_execution_mode = "cache"
nb_execution_cache_path = str(HERE.parent / "build" / "notebooks")
nb_execution_raise_on_error = True
nb_execution_timeout = 180
nb_merge_streams = True

# Reference
default_role = "code"
autosummary_imported_members = True
autosummary_ignore_module_all = False
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
add_module_names = False
python_use_unqualified_type_names = True

# Looks
html_theme = "pydata_sphinx_theme"
html_title = "voxloom"
html_logo, html_favicon = "_static/logo.svg", "_static/favicon.svg"
html_static_path = ["_static"]
html_css_files = ["voxloom.css"]
html_show_sourcelink = False
html_copy_source = False
html_sidebars = {"index": [], "changelog": []}
html_theme_options = {
    "logo": {"text": "voxloom"},
    "header_links_before_dropdown": 6,
    "navigation_with_keys": False,
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "navbar_persistent": ["search-button"],
    "navbar_end": ["theme-switcher"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_version_warning_banner": False,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
copybutton_prompt_text = r"\$ |>>> "
copybutton_prompt_is_regexp = True
