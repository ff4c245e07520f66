"""A real Slurm of two nodes on this machine, in a folder, as this user."""

import contextlib
import getpass
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
NODES = ("n0", "n1")
_CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
SlurmctldPort={port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
MpiDefault=none
ReturnToService=2
JobRequeue=1
SlurmdTimeout=10
KillWait=30
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
_NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2"


def missing_programs() -> list[str]:
    """Returns the programs of Slurm that this machine lacks."""
    places = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
    return [name for name in PROGRAMS if shutil.which(name, path=places) is None]


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def wait_until(holds: Callable[[], Any], seconds: float, what: str) -> Any:
    """Returns the first result that is true."""
    end = time.monotonic() + seconds
    while not (result := holds()):
        assert time.monotonic() < end, f"{what} not within {seconds} s"
        time.sleep(0.2)
    return result


class SlurmCluster:
    """Two nodes of two CPUs.

    Attributes:
      environment: for clients, and for `clipin launch`.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
        self.environment["PATH"] = f"{os.environ['PATH']}{os.pathsep}/usr/sbin"
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        (folder / "state").mkdir()
        host = socket.gethostname().partition(".")[0]
        text = _CONF.format(
            host=host, user=getpass.getuser(), folder=folder, port=free_port()
        )
        for name in NODES:
            (folder / f"spool-{name}").mkdir()
            text += _NODE.format(name=name, host=host, port=free_port()) + "\n"
        (folder / "slurm.conf").write_text(text)

    def start(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        self._start(
            "munged", "--foreground", "--force", f"--key-file={key}",
            *(f"--{name}={self.folder}/munge.{name.partition('-')[0]}"
              for name in ("socket", "pid-file", "log-file", "seed-file")),
        )  # fmt: skip
        socket_file = self.folder / "munge.socket"
        wait_until(socket_file.exists, 20, "munge")
        self._start("slurmctld", "-D", "-c")
        for name in NODES:
            self.start_node(name)
        wait_until(
            lambda: self.call("sinfo", "-h", "-N", "-o", "%T").split() == ["idle"] * 2,
            60,
            "two idle nodes",
        )

    def start_node(self, name: str) -> None:
        self._start("slurmd", "-D", "-N", name, key=name)

    def kill_node(self, name: str) -> None:
        """Kills the daemon of a node, and what it has started there."""
        self._daemons[name].kill()
        self._daemons.pop(name).wait()
        for process in self._processes_of(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, 9)

    def _processes_of(self, node: str) -> list[int]:
        """Returns the processes of jobs on a node, which Slurm marks with its name."""
        mark = f"SLURMD_NODENAME={node}".encode()
        conf = f"SLURM_CONF={self.environment['SLURM_CONF']}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if {mark, conf} <= set(path.read_bytes().split(b"\0")):
                    found.append(int(path.parent.name))
        return found

    def _start(self, program: str, *arguments: str, key: str = "") -> None:
        path = shutil.which(program, path=self.environment["PATH"])
        assert path is not None
        with (self.folder / f"{key or program}.out").open("ab") as log:
            self._daemons[key or program] = subprocess.Popen(
                [path, *arguments],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def call(self, *command: str) -> str:
        """Returns what a client prints, "" if it fails."""
        return subprocess.run(
            command,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        ).stdout

    def fact(self, job_id: str, name: str) -> str:
        """Returns a fact of a job, such as `JobState`; "" if it is not known."""
        words = self.call("scontrol", "show", "job", job_id).split()
        facts = dict(word.partition("=")[::2] for word in words if "=" in word)
        return facts.get(name, "")

    def wait_for(self, job_id: str, name: str, value: str, seconds: float) -> None:
        """Waits until a fact of a job has a value."""
        wait_until(
            lambda: self.fact(job_id, name) == value,
            seconds,
            f"{name}={value} of job {job_id}",
        )

    def stop(self) -> None:
        """Ends all jobs and daemons."""
        jobs = self.call("squeue", "-h", "-o", "%A").split()
        if jobs:
            self.call("scancel", "--full", "--signal=KILL", *jobs)
            self.call("scancel", *jobs)
        for name in NODES:
            for process in self._processes_of(name):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, 9)
        for process in reversed(self._daemons.values()):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def slurm_cluster(folder: Path) -> Iterator[SlurmCluster]:
    """Yields a cluster that runs."""
    cluster = SlurmCluster(folder)
    try:
        try:
            cluster.start()
        except AssertionError as error:
            logs = sorted(folder.glob("*.log")) + sorted(folder.glob("*.out"))
            texts = [f"{path.name}: {path.read_text()[-2000:]}" for path in logs]
            raise AssertionError("\n".join([str(error), *texts])) from error
        yield cluster
    finally:
        cluster.stop()
