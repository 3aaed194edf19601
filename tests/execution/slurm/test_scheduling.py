"""The scheduler on a real Slurm of one node. Its cells only count: this is about what happens to them."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from lossbench.execution.detach import leave
from lossbench.execution.slurm import SlurmHandle
from lossbench.execution.spec import EXIT_DONE
from tests.execution.slurm.work import Work, wait_for

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


def test_an_array_for_each_request_packed_by_the_share_of_a_gpu(work: Work) -> None:
    shared = [work.job(seed=seed, gpus=0.5, memory_gb=0.1, slurm=(("partition", "main"),)) for seed in range(3)]
    whole = work.job("b", gpus=2, cpus=2, minutes=5)
    assert work.schedule(*shared, whole).statuses() == ["done"] * 4
    assert len(work.submissions()) == 2
    assert sorted(job.partition("_")[2] for job in work.jobs) == ["", "0", "1"]
    assert len(work.ends) == 4
    assert work.submitted() == []
    assert whole.spec.devices == ("auto", "auto")


def test_a_killed_worker_and_a_killed_task_are_tried_again_once(work: Work) -> None:
    shot, lost = work.job("a"), work.job("b", cpus=2)
    work.hold()
    running = work.schedule(shot, lost)
    wait_for(lambda: work.step(shot) > 3 and work.step(lost) > 3)
    os.kill(work.pid(shot), signal.SIGKILL)
    os.kill(_parent(work.pid(lost)), signal.SIGKILL)
    wait_for(lambda: len(work.begins(shot)) == len(work.begins(lost)) == 2)
    work.release()
    assert running.statuses() == ["done", "done"]
    said = " ".join(running.watch.messages)
    assert "SIGKILL; starting it again" in said
    assert "was lost (exit code 255); starting it again" in said
    assert sorted(work.ends) == sorted([shot.cell.id, lost.cell.id])
    assert work.begins(lost)[1] > 3, "its worker wrote a checkpoint when its task was gone"
    assert "is gone; the last of" in (lost.spec.run_dir / "log.txt").read_text()


def test_a_node_that_dies_gives_its_cell_back_to_the_queue(work: Work) -> None:
    job = work.job()
    work.hold()
    running = work.schedule(job)
    wait_for(lambda: work.step(job) > 3)
    name = work.slurm_job(job)
    worker = work.pid(job)
    for process in [*_daemons_of(name), _parent(worker), worker]:
        os.kill(process, signal.SIGKILL)
    work.cluster.node("down")
    work.cluster.node("resume")
    work.start_now(name)
    work.release()
    assert running.statuses() == ["done"]
    assert len(work.begins(job)) == 2
    assert len(work.ends) == len(work.submissions()) == 1


def _parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def _daemons_of(job: str) -> list[int]:
    """The processes by which Slurm watches a job on its node."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"slurmstepd: [{job}." in (folder / "cmdline").read_text():
                found.append(int(folder.name))
        except OSError:
            continue
    assert found
    return found


def test_pre_empted_cells_go_on_from_their_checkpoints_in_the_same_jobs(work: Work) -> None:
    asked, put_back = work.job("a"), work.job("b", cpus=2)
    work.hold()
    running = work.schedule(asked, put_back)
    wait_for(lambda: work.step(asked) > 3 and work.step(put_back) > 3)
    jobs = [work.slurm_job(asked), work.slurm_job(put_back)]
    work.cluster.run("scancel", "--signal=USR2", jobs[0])
    work.cluster.run("scontrol", "requeue", jobs[1])
    for job in jobs:
        work.start_now(job)
    work.release()
    assert running.statuses() == ["done", "done"]
    for job in (asked, put_back):
        begins = work.begins(job)
        assert len(begins) == 2
        assert begins[1] > 3
    assert len(work.ends) == len(work.submissions()) == 2


def test_a_restart_of_the_controller_loses_nothing(work: Work) -> None:
    first, second = work.job("a"), work.job("a", seed=1)
    work.hold()
    running = work.schedule(first, second, jobs=1)
    wait_for(lambda: work.step(first) > 3)
    work.cluster.stop_controller()
    work.release()
    wait_for(lambda: work.ends == [first.cell.id])
    wait_for(lambda: len(running.watch.finished_cells) == 1)
    work.cluster.start_controller()
    assert running.statuses() == ["done", "done"]
    assert running.watch.messages == []
    assert sorted(work.ends) == sorted([first.cell.id, second.cell.id])


def test_ctrl_c_empties_the_queue_and_keeps_checkpoints(work: Work) -> None:
    jobs = [work.job(seed=seed) for seed in range(3)]
    work.hold()
    running = work.schedule(*jobs, jobs=1)
    wait_for(lambda: work.step(jobs[0]) > 3)
    running.scheduler.interrupts = 1
    assert running.statuses() == ["interrupted"] * 3
    assert (jobs[0].spec.run_dir / "checkpoint.pt").exists()
    assert len(running.watch.started_cells) == 1
    wait_for(lambda: not set(work.jobs.values()) & {"PENDING", "RUNNING", "COMPLETING"}, 20)


def test_what_its_user_cancels_by_hand_stays_cancelled(work: Work) -> None:
    job = work.job()
    work.hold()
    running = work.schedule(job)
    wait_for(lambda: work.step(job) > 3)
    work.cluster.run("scancel", work.slurm_job(job))
    assert running.statuses() == ["interrupted"]
    assert list(work.jobs.values()) == ["CANCELLED"]
    assert (job.spec.run_dir / "checkpoint.pt").exists()
    assert len(work.submissions()) == 1


def test_one_cell_of_a_task_is_stopped_and_its_neighbour_is_not(work: Work) -> None:
    late, neighbour = (work.job(name, gpus=0.5) for name in "ab")
    work.hold()
    executor = work.executor()
    stopped, other = executor.submit([(job.spec.write(), job.request) for job in (late, neighbour)])
    assert isinstance(stopped, SlurmHandle)
    assert isinstance(other, SlurmHandle)
    wait_for(lambda: work.step(late) > 3 and work.step(neighbour) > 3)
    stopped.stop()
    executor.wait(0)
    wait_for(lambda: stopped.poll() is not None)
    assert (late.spec.run_dir / "checkpoint.pt").exists()
    assert other.poll() is None
    work.release()
    wait_for(lambda: other.poll() == EXIT_DONE)
    assert work.ends == [neighbour.cell.id]


def test_what_was_left_with_the_cluster_is_not_submitted_twice(work: Work) -> None:
    jobs = [work.job(seed=seed) for seed in range(2)]
    work.hold()
    left = leave(work.executor(), jobs)
    assert (left.submitted, left.before) == (2, 0)
    again = leave(work.executor(), jobs)
    assert (again.submitted, again.before) == (0, 2)
    running = work.schedule(*jobs)  # it follows them to their end
    wait_for(lambda: len(running.watch.started_cells) == 2)
    work.release()
    assert running.statuses() == ["done", "done"]
    assert len(work.submissions()) == 1
    assert len(work.ends) == 2


def test_a_refusal_of_slurm_is_told_in_its_words(work: Work) -> None:
    bad, good = work.job("a", slurm=(("partition", "nowhere"),)), work.job("b")
    running = work.schedule(bad, good)
    assert sorted(running.statuses()) == ["done", "failed"]
    error = next(outcome.error for outcome in running.outcomes if outcome.status == "failed")
    assert "invalid partition" in error["message"].lower()
