"""A real Slurm of one node, for the tests: munged, slurmctld and slurmd as root, with all they keep in one folder."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
CLIENTS = ("sbatch", "squeue", "scancel", "scontrol", "sinfo", "srun")
_SYSTEM = os.pathsep + os.pathsep.join(("/usr/sbin", "/usr/bin", "/sbin", "/bin"))

#: Four "GPUs" that are only counted: nothing on this machine need answer to them. Requeued jobs may start at once, not
#: after the two minutes that credentials of an earlier start would be good for.
_CONF = """\
ClusterName=lossbench
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge.socket,cred_expire=6
CredType=cred/munge
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=100000
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
SlurmdTimeout=60
SlurmctldTimeout=10
MessageTimeout=5
KillWait=5
MinJobAge=30
InactiveLimit=0
MpiDefault=none
PropagateResourceLimits=NONE
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=1000 Gres=gpu:4 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO PriorityTier=1
"""


def missing() -> str | None:
    """Why no cluster can be started here, or None."""
    lacking = [name for name in (*DAEMONS, *CLIENTS) if _which(name) is None]
    if lacking:
        return f"needs {', '.join(lacking)} (Debian: slurmctld slurmd slurm-client munge)"
    return None if os.geteuid() == 0 else "starting slurmd needs root"


class Cluster:
    """Started by `start`, ended by `stop`; its commands find it through `SLURM_CONF`.

    Args:
        root: folder for configuration, state and logs.
        cpus: what the node says it has.
    """

    def __init__(self, root: Path, *, cpus: int = 4) -> None:
        self.root = root
        self.environment = {"SLURM_CONF": str(root / "slurm.conf"), "PATH": os.environ["PATH"] + _SYSTEM}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        for name in ("state", "spool"):
            (root / name).mkdir(parents=True)
        controller, node = _free_ports(2)
        self.host = socket.gethostname().partition(".")[0]
        text = _CONF.format(root=root, host=self.host, controller=controller, node=node, cpus=cpus)
        (root / "slurm.conf").write_text(text)
        (root / "gres.conf").write_text(f"AutoDetect=off\nName=gpu File={root}/gpu[0-3]\n")
        for index in range(4):
            (root / f"gpu{index}").touch()
        (root / "cgroup.conf").write_text("CgroupAutomount=no\n")
        (root / "munge.key").write_bytes(os.urandom(128))
        (root / "munge.key").chmod(0o600)

    def start(self) -> None:
        """Start all daemons and wait until the node takes jobs."""
        munge = [f"--{name}={self.root}/munge.{name.removesuffix('-file')}" for name in ("pid-file", "log-file")]
        seed = f"--seed-file={self.root}/munge.seed"
        key, at = f"--key-file={self.root}/munge.key", f"--socket={self.root}/munge.socket"
        self._launch("munged", "--foreground", "--force", key, at, seed, *munge)
        _wait(lambda: (self.root / "munge.socket").exists(), 20, "munged does not answer")
        self.start_controller()
        self._launch("slurmd", "-D")
        _wait(lambda: self.run("sinfo", "-h", "-o", "%t").stdout.strip() == "idle", 60, "the node is not idle", self)

    def start_controller(self) -> None:
        self._launch("slurmctld", "-D")

    def stop_controller(self) -> None:
        self._end("slurmctld")

    def stop(self) -> None:
        """End all, jobs first."""
        self.run("scancel", "--user=root")
        deadline = time.monotonic() + 15
        while self.run("squeue", "-h").stdout.strip() and time.monotonic() < deadline:
            time.sleep(0.2)
        for name in reversed(list(self._processes)):
            self._end(name)

    def node(self, state: str) -> None:
        """Say that the node is down, or that it is back."""
        self.run("scontrol", "update", f"NodeName={self.host}", f"State={state}", "Reason=test")

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A Slurm command."""
        return subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=60, check=False
        )

    def logs(self) -> str:
        """The ends of the daemons' logs."""
        files = sorted(self.root.glob("*.log"))
        return "\n".join(f"--- {file.name}\n{file.read_text(errors='replace')[-2000:]}" for file in files)

    def _launch(self, name: str, *arguments: str) -> None:
        with (self.root / f"{name}.out.log").open("ab") as out:
            self._processes[name] = subprocess.Popen(
                [str(_which(name)), *arguments], env={**os.environ, **self.environment}, stdout=out, stderr=out
            )

    def _end(self, name: str) -> None:
        process = self._processes.pop(name, None)
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _which(name: str) -> str | None:
    return shutil.which(name, path=os.environ["PATH"] + _SYSTEM)


def _free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    for item in sockets:
        item.bind(("127.0.0.1", 0))
    ports = [item.getsockname()[1] for item in sockets]
    for item in sockets:
        item.close()
    return ports


def _wait(condition: Callable[[], bool], seconds: float, what: str, cluster: Cluster | None = None) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(what + (f"\n{cluster.logs()}" if cluster is not None else ""))
        time.sleep(0.1)
