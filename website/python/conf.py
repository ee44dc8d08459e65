"""Sphinx: the Python reference, from the docstrings."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from sungrow_lib import __version__

project = "sungrow_lib"
author = "the sungrow_lib contributors"
copyright = author  # noqa: A001 - Sphinx's name for it
version = release = __version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinxcontrib.pydantic"]
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_typehints_format = "short"
napoleon_google_docstring = True
napoleon_use_ivar = True
python_use_unqualified_type_names = True
add_module_names = False
maximum_signature_line_length = 80

html_theme = "furo"
html_title = "sungrow_lib: Python API"
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_favicon = "../static/img/icon.svg"
html_logo = "../static/img/icon.svg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b6b73", "color-brand-content": "#0b6b73"},
    "dark_css_variables": {"color-brand-primary": "#5cc8cf", "color-brand-content": "#5cc8cf"},
    "announcement": '<a href="../docs/introduction/">Guides, reference and HTTP API of sungrow_lib</a>',
}
