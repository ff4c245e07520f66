"""The embedded data set: what a scene holds, its pixels and its sentences.

Imports numpy and OpenCV, and nothing from `data.sources`.
"""
