import time

import torch

from lossbench.training.timing import PHASES, StepTimer


def run_steps(timer: StepTimer, steps: int, slow_phase: str) -> None:
    for _ in range(steps):
        timer.start()
        for phase in PHASES:
            if phase == slow_phase:
                time.sleep(0.01)
            timer.mark(phase)
        timer.stop()


def test_time_goes_to_the_phase_that_took_it() -> None:
    timer = StepTimer(torch.device("cpu"))
    run_steps(timer, 5, "backward")
    summary = timer.summary()
    assert summary["backward"] >= 10
    assert all(summary[phase] < summary["backward"] for phase in PHASES if phase != "backward")


def test_waiting_for_data_is_shown_but_not_part_of_a_step() -> None:
    timer = StepTimer(torch.device("cpu"))
    for phase in ("data", "log"):
        run_steps(timer, 5, phase)
    assert timer.summary()["data"] + timer.summary()["log"] >= 10 > timer.summary()["total"]


def test_a_phase_may_recur_within_a_step() -> None:
    timer = StepTimer(torch.device("cpu"))
    timer.start()
    for _ in range(2):
        time.sleep(0.005)
        timer.mark("forward")
    timer.stop()
    assert timer.summary()["forward"] >= 10


def test_state_round_trip_and_no_steps() -> None:
    timer, other = StepTimer(torch.device("cpu")), StepTimer(torch.device("cpu"))
    assert timer.summary() == {}
    run_steps(timer, 3, "loss")
    other.load(timer.state())
    assert other.summary() == timer.summary()
