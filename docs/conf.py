"""The site: `make docs` builds it, and every warning is an error."""

import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]

import clipin_jax  # noqa: E402  (from this checkout)

project = "clipin_jax"
author = "The clipin_jax authors"
version = release = clipin_jax.__version__

extensions = [
    "myst_nb",  # pages in Markdown, notebooks with the outputs that they hold
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "extensions.docstrings",
    "extensions.formulas",
    "extensions.notebooks",
    "extensions.reference",
    "extensions.search_terms",
]
exclude_patterns = ["_build", "extensions"]

myst_enable_extensions = ["attrs_inline", "colon_fence", "dollarmath"]
myst_heading_anchors = 4  # `page.md#title`, as on GitHub
nb_execution_mode = "off"
nb_ipywidgets_js = {}  # they would come from the network

default_role = "code"  # docstrings mark code as Markdown does
autoclass_content = "both"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 80
napoleon_custom_sections = [("Scalars", "params_style")]
napoleon_use_ivar = True
napoleon_use_rtype = False
viewcode_line_numbers = True
# Names of other packages have no page here.
nitpick_ignore_regex = [(r"py:.*", r"(?!clipin_jax\.).*")]
nitpick_ignore = [  # parts of the house that users do not call
    ("py:class", "clipin_jax.core.compute_copies.ComputeCopies"),
    ("py:class", "clipin_jax.core.parameter_groups.Group"),
    ("py:class", "clipin_jax.datatools.record_scan.ScanResult"),
    ("py:class", "clipin_jax.inference.encode_fns.EncodeFns"),
    ("py:class", "clipin_jax.models.two_towers.TwoTowers"),
    ("py:class", "clipin_jax.report.markup.Markup"),
    ("py:class", "clipin_jax.report.run_history.RunHistory"),
    ("py:class", "clipin_jax.runs.run_copy.RunCopy"),
    ("py:class", "clipin_jax.study.results.StudyResults"),
    ("py:class", "clipin_jax.sweep.definition.Sweep"),
    ("py:class", "clipin_jax.sweep.outcomes.Point"),
]
suppress_warnings = [
    "misc.highlighting_failure",  # IPython's lexer lacks `!commands` of several lines
    "myst.header",  # a saved study begins with a title of level 2
]

smartquotes = False  # they would change code in docstrings

html_theme = "furo"
html_title = "clipin_jax"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
html_show_sourcelink = False
html_math_renderer = "mathml"
copybutton_exclude = ".linenos, .gp, .go"
