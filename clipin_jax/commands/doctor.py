"""`clipin doctor`: checks versions, devices and what they can do."""

import argparse

from clipin_jax.commands.parsing import Verbs, add_verb


def register(verbs: Verbs) -> None:
    """Adds the verb."""
    add_verb(verbs, "doctor", "check this machine: versions, devices, memory", call)


def call(args: argparse.Namespace) -> int:
    """Prints a line for each check."""
    from clipin_jax.commands.machine_checks import check_machine

    return check_machine()
