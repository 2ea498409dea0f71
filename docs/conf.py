"""How Sphinx builds the documentation; ``make docs`` calls it."""

from importlib.metadata import version as installed_version

project = "fedcircuit"
author = "the fedcircuit authors"
project_copyright = author
version = release = installed_version("fedcircuit")

extensions = [
    "myst_nb",  # and with it myst_parser
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}
default_role = "code"  # single backticks in docstrings

nb_execution_mode = "force"  # outputs are not committed
nb_execution_raise_on_error = True
nb_execution_timeout = 120  # seconds, of one cell
nb_execution_in_temp = True
nb_merge_streams = True

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
napoleon_google_docstring = False
napoleon_use_rtype = False


def keep_colons(app, what, name, obj, options, lines):
    """Start a property's docstring with an empty comment: napoleon takes "x: y" for a type."""
    if what == "property":
        lines[:0] = ["..", ""]


def setup(app):
    """Called by Sphinx; the handler goes before napoleon's."""
    app.connect("autodoc-process-docstring", keep_colons, priority=1)


html_theme = "furo"
html_title = f"fedcircuit {version}"
html_show_copyright = False
html_show_sourcelink = False
