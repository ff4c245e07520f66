"""`clipin doctor`: checks versions, devices and what they can do."""

import argparse

from clipin_jax.commands.parsing import Verbs, add_processes, add_verb, join_processes


def register(verbs: Verbs) -> None:
    """Adds the verb."""
    purpose = "check this machine: versions, devices, memory"
    add_processes(add_verb(verbs, "doctor", purpose, call))


def call(args: argparse.Namespace) -> int:
    """Prints a line for each check."""
    from clipin_jax.commands.machine_checks import check_machine

    join_processes(args)
    return check_machine()
