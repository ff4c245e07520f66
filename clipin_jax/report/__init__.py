"""Pages and images about runs: the parts that all pages share, and the run report.

Imports `errors`, `data`, `runs` and `inference`, besides numpy, scipy and Pillow.
"""

from clipin_jax.report.run_report.page import write_report

__all__ = ["write_report"]
