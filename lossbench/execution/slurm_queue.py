"""Slurm's own commands: what it says of jobs, and what it is told. Few calls, each for many jobs; needs no submitit."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Mapping

from lossbench.execution.submission import Ask, Submission

#: States after which nothing happens any more. All others are those of a job that waits, runs or is cleaned up.
ENDED = frozenset(
    {
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "REVOKED",
        "TIMEOUT",
    }
)
#: Those of a job that has a node.
RUNNING = frozenset({"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT"})
#: What squeue says of a job that it has forgotten, or that never was.
GONE = "GONE"
_TIMEOUT_S = 60.0


def states(jobs: Iterable[str]) -> dict[str, str] | None:
    """The state of each job in Slurm's words, GONE when Slurm does not know it; None when Slurm cannot be asked."""
    asked = set(jobs)
    if not asked:
        return {}
    if shutil.which("squeue") is None:
        return None
    arrays = sorted({job.partition("_")[0] for job in asked}, key=int)
    answer = _run("squeue", "--noheader", "--array", "--states=all", "--format=%i|%T", f"--jobs={','.join(arrays)}")
    # Without accounting Slurm forgets jobs minutes after their end; when it knows none of them, it calls that an error.
    if answer is None or (answer.returncode != 0 and "Invalid job id" not in answer.stderr):
        return None
    told = dict(line.split("|", 1) for line in answer.stdout.split() if "|" in line)
    return {job: told.get(job, GONE) for job in asked}


def alive(state: str) -> bool:
    """Whether a job in this state may still do something."""
    return state not in ENDED and state != GONE


def pass_on(asked: Iterable[Submission], known: Mapping[str, str], unwritten: Mapping[str, Ask] | None = None) -> None:
    """Tell Slurm of tasks all of whose cells were asked to leave (or to be killed). One of which only some were asked
    looks for itself, for Slurm's signals reach all processes of a task.

    Args:
        known: states by job. What waits is taken out of the queue.
        unwritten: what cells were asked that could not be noted in their submission's folder.
    """
    cancel, signal = list[str](), list[str]()
    for submission in asked:
        what = submission.all_asked(unwritten)
        if what is not None:
            waits = known.get(submission.job, "PENDING") not in RUNNING
            (cancel if what == "kill" or waits else signal).append(submission.job)
    if cancel:
        _run("scancel", "--quiet", *cancel)
    if signal:
        _run("scancel", "--quiet", "--signal=USR2", *signal)


def requeue(job: str) -> bool:
    """Put a running job back into the queue. Also true when it is not for us to say: it was cancelled, or Slurm
    itself is putting it back."""
    known = states([job])
    if known is not None and known[job] != "RUNNING":
        return True
    answer = _run("scontrol", "requeue", job)
    return answer is not None and answer.returncode == 0


def _run(*command: str) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
