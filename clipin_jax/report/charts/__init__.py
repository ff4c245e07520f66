"""Charts as inline SVG: lines, histograms, means with intervals, scores over costs.

Imports `report.markup` and `report.text_format`, besides numpy and scipy.
"""
