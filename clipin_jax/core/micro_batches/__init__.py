"""Steps whose towers run on some rows of a device at a time.

`passes` has the passes over these pieces and the exact gradient of the batch,
`pair_objectives` what pieces run besides towers, `checks` which runs can be cut.
"""
