"""Joins the other processes of a run, and leaves them.

A program that has called `jax.distributed.initialize` itself has joined already; then
nothing is started a second time.
"""

import atexit
import contextlib
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from clipin_jax.errors import DONE, REQUEUE, ClipinError, shorten
from clipin_jax.processes.aborts import explain_abort
from clipin_jax.processes.endings import Ending, Endings
from clipin_jax.processes.group import Group
from clipin_jax.processes.meeting import meet
from clipin_jax.processes.place import Place, find_place
from clipin_jax.processes.stopping import CommonStop
from clipin_jax.processes.store import CoordinatorStore
from clipin_jax.processes.watch import SILENT_SECONDS, Watch

START_SECONDS = 300.0  # for all processes to come
# After which jax ends a process with pages of C++; `Watch` has ended it before.
_JAX_SECONDS = int(SILENT_SECONDS + 60)
_CAUSE_SECONDS = 15.0  # for `Watch` to tell why a collective failed


class _Joined(NamedTuple):
    """What this process has of its run."""

    group: Group
    endings: Endings
    watch: Watch


_joined: list[_Joined] = []  # this process's, once it has joined
_started: list[Place] = []  # by `join`, not by the program that calls us


def join(flags: Mapping[str, Any]) -> None:
    """Joins the other processes of the run, if there are any; before jax starts.

    Args:
      flags: by the names of `place.VARIABLES`; None or "" where not given.

    Raises:
      ClipinError: flags, variables or the cluster are wrong; another process did not
        come; or jax has already started alone.
    """
    import jax
    from jax._src import xla_bridge

    if jax.distributed.is_initialized():
        this_group()
        return
    if (place := find_place(flags)) is None:
        return
    if xla_bridge.backends_are_initialized():
        raise ClipinError(
            f"this is process {place.index} of {place.count}, but jax has already "
            "started alone: join before anything else uses jax"
        )
    meet(place, start_seconds())
    _start_jax(place)
    _started.append(place)
    group = this_group()
    if group is not None and group.index:
        explain_abort(
            f"jax ended this process with the report above, most likely as "
            f"{group.name(0)} has gone: look at its output"
        )


def start_seconds() -> float:
    """Returns how long processes wait for each other at the start."""
    text = os.environ.get("CLIPIN_START_SECONDS", "")
    try:
        return float(text) if text else START_SECONDS
    except ValueError:
        raise ClipinError(
            f"CLIPIN_START_SECONDS is {shorten(repr(text))}: give seconds, as 300"
        ) from None


def _start_jax(place: Place) -> None:
    import jax

    if place.index:  # what they warn of is the same in process 0
        logging.getLogger().setLevel(logging.ERROR)
    host = place.address[0]
    for name in ("no_proxy", "NO_PROXY"):  # gRPC would call the coordinator by a proxy
        hosts = os.environ.get(name, "")
        os.environ[name] = f"{hosts},{host}".strip(",")
    jax.config.update("jax_check_proxy_envs", False)
    # It would catch SIGTERM in C++: `CommonStop` is told by Python's handler.
    jax.config.update("jax_enable_preemption_service", False)
    jax.distributed.initialize(
        place.coordinator,
        place.count,
        place.index,
        place.devices,
        cluster_detection_method="deactivate",
        initialization_timeout=int(_JAX_SECONDS),
        heartbeat_timeout_seconds=_JAX_SECONDS,
    )


def this_group() -> Group | None:
    """Returns the group of this process; None if it is alone."""
    if not _joined and (state := _jax_state()).client is not None:
        if state.num_processes == 1:
            return None
        group = Group(
            state.process_id, state.num_processes, CoordinatorStore(state.client)
        )
        endings = Endings(group)
        joined = _Joined(group, endings, Watch(group, endings))
        _joined.append(joined)
        joined.watch.start()
        atexit.register(joined.watch.close)
        group.meet()
    return _joined[0].group if _joined else None


def _jax_state() -> Any:
    from jax._src import distributed

    return distributed.global_state


@contextlib.contextmanager
def common_stop(wants_stop: Callable[[], bool]) -> Iterator[Callable[[int], bool]]:
    """Yields `step -> whether to stop`, which all processes answer alike.

    Every process asks before each step, and at the same points between steps.

    Args:
      wants_stop: whether this process is asked to stop.
    """
    if (group := this_group()) is None:
        yield lambda step: wants_stop()
        return
    watch, stop = _joined[0].watch, CommonStop(group, wants_stop)

    def reached(step: int) -> bool:
        watch.step = step
        return stop.reached()

    watch.add(stop.beat)
    try:
        yield reached
    finally:
        watch.remove(stop.beat)


def of_first(topic: str, value: Any) -> Any:
    """Returns the value that process 0 gives, which JSON can write."""
    group = this_group()
    return value if group is None else group.of_first(topic, value)


def leave(code: int, message: str = "") -> int:
    """Ends this process with the others; returns at once where it is alone.

    After a failure it does not return. Otherwise it waits for the others, which come
    here too, and returns the exit code of all.

    Args:
      code: exit code of the command.
      message: of its failure, which process 0 prints once for all.
    """
    if not _joined:
        return code
    group, endings, watch = _joined[0]
    if code in (DONE, REQUEUE):
        if _started:
            code = max(group.gather("done", code, "end"))
            watch.close()
        return code
    error = sys.exception()
    if _is_symptom(error):
        watch.in_doubt = True
        time.sleep(_CAUSE_SECONDS)  # `Watch` may end this process meanwhile
        if late := watch.late():
            endings.end(Ending(code, late, is_own=False))
    if error is not None and not isinstance(error, (ClipinError, KeyboardInterrupt)):
        traceback.print_exception(error)
    endings.end(Ending(code, message))


def _is_symptom(error: BaseException | None) -> bool:
    """Whether devices failed, as they do in all processes when one of them dies."""
    import jax

    while error is not None:
        if isinstance(error, jax.errors.JaxRuntimeError):
            return True
        error = error.__cause__ or error.__context__
    return False
