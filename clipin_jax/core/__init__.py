"""Pure functions of training: learner, step, state, optimizers, sharding, augmentation.

Imports jax, flax, optax, `models` and `objectives`; reads no files and prints nothing.
"""
