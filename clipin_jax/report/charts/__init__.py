"""Charts as inline SVG: lines, histograms, means with intervals.

Imports `report.markup` and `report.text_format`, besides numpy and scipy.
"""
