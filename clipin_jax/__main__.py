"""`python -m clipin_jax` is the command `clipin`."""

import sys

from clipin_jax.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
