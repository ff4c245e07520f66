"""Hands trained models on: what a folder for another library has in it.

Each format is a function from a trained model to the contents of a folder. It raises
what the format cannot say; only then are the files written.
"""
