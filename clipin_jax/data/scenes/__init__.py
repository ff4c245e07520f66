"""The embedded data set: content of a scene, its pixels and its sentences.

Imports numpy and OpenCV, and nothing from `data.sources`.
"""
