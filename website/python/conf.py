"""Sphinx: the Python reference, from the docstrings."""

from __future__ import annotations

import sys
from functools import reduce
from operator import or_
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from sphinxcontrib.pydantic._rendering import _summary

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

_shown = _summary.format_type_annotation


def _bare(kind: Any) -> Any:
    """Leave out what `Annotated` adds: constraints have a column of their own, validators none."""
    if get_origin(kind) is Annotated:
        return _bare(get_args(kind)[0])
    parts = tuple(_bare(part) for part in get_args(kind))
    if isinstance(kind, UnionType) or get_origin(kind) is Union:
        return reduce(or_, parts)
    return get_origin(kind)[parts] if parts and get_origin(kind) in {list, dict, tuple} else kind


_summary.format_type_annotation = lambda kind, **options: _shown(_bare(kind), **options)

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
