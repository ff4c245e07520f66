"""The CPUs of this process."""

import os


def available_cpus() -> list[int]:
    """Returns the CPUs that this process may use, by number."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
