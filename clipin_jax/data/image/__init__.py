"""Images: decoding of any file to RGB pixels, and random views of them.

Imports numpy, OpenCV and Pillow; never jax.
"""
