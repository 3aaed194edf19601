"""The command line as a user meets it, in processes of its own: suites run, die, stop and go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lossbench.records import Record

SUITE = """
datasets: [{name: streets, height: 48, width: 64, train_images: 12, val_images: 6}]
backbones: [{name: fcn_timm, weights: none}]
losses: LOSSES
seeds: SEEDS
protocol: {iterations: STEPS, batch_size: 4, crop: [32, 48], optimizer: adamw, lr: 0.002, min_lr: 0.0}
plugins: PLUGINS
"""

Lossbench = Callable[..., "subprocess.CompletedProcess[str]"]


def write_suite(
    folder: Path, losses: str, *, steps: int = 6, seeds: int = 1, plugins: str = "[]", extra: str = ""
) -> Path:
    text = SUITE.replace("LOSSES", losses).replace("STEPS", str(steps)).replace("SEEDS", str(seeds))
    path = folder / "suite.yaml"
    path.write_text(text.replace("PLUGINS", plugins) + extra)
    return path


def write_plugin(folder: Path, name: str, body: str) -> None:
    (folder / f"{name}.py").write_text(
        "import torch\nfrom lossbench.registry import register_loss\n\n"
        f"@register_loss('{name}')\nclass Loss(torch.nn.Module):\n    '''A loss.'''\n"
        "    def __init__(self, *, ignore_index: int = 255):\n        super().__init__()\n        self.calls = 0\n"
        "    def forward(self, logits, target):\n        self.calls += 1\n"
        f"        ce = torch.nn.functional.cross_entropy(logits.float(), target, ignore_index=255)\n        {body}\n"
    )


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("e2e")
    return {**os.environ, "LOSSBENCH_CACHE": str(root / "cache"), "LOSSBENCH_DATA": str(root), "COLUMNS": "120"}


def start(environment: dict[str, str], cwd: Path, *arguments: str) -> subprocess.Popen[str]:
    if arguments[0] == "run" and "--executor" not in arguments:
        # Tests run side by side, and threads that wait for one another while sharing a core are slow.
        arguments = (*arguments, "--threads", "1")
    repository = str(Path(__file__).parents[2])
    path = os.pathsep.join([repository, environment.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-m", "lossbench", *arguments],
        cwd=cwd,
        env={**environment, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str], seconds: float = 180) -> subprocess.CompletedProcess[str]:
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert "Traceback" not in err, err
    assert "leaked" not in err, err  # what an extension module says when a fork server is torn down
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.fixture
def lossbench(environment: dict[str, str], tmp_path: Path) -> Lossbench:
    return lambda *arguments: finish(start(environment, tmp_path, *arguments))


def records(folder: Path) -> dict[str, Record]:
    found = [Record.from_json(path.read_bytes()) for path in (folder / "results" / "records").rglob("*.json")]
    return {f"{record.labels['loss']}/{record.seed}": record for record in found}


def starts(folder: Path) -> dict[str, int]:
    """How often a worker began work on each cell, from the logs."""
    return {
        log.parent.name: sum(line.startswith("--- ") for line in log.read_text(errors="replace").splitlines())
        for log in (folder / "results" / "runs").glob("*/log.txt")
    }


def wait_for(condition: Callable[[], Any], seconds: float = 90) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


def events(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in (folder / "results" / "runs").glob("*/events.jsonl"):
        for line in path.read_text().splitlines():
            yield path.parent.name, json.loads(line)


@pytest.mark.slow
def test_a_suite_runs_prints_its_leaderboard_and_is_done(lossbench: Lossbench, tmp_path: Path) -> None:
    suite = write_suite(tmp_path, "[ce, {name: cdfl, omega: [0.0, 0.1]}]", seeds=2)
    first = lossbench("run", str(suite))
    assert first.returncode == 0, first.stderr
    assert len(records(tmp_path)) == 6
    assert "cdfl(omega=0.1)" in first.stdout
    assert "mIoU" in first.stdout
    assert "\x1b[" not in first.stdout + first.stderr
    assert first.stderr.count("done") >= 6
    found = records(tmp_path)
    for seed in (0, 1):
        hashes = [found[f"{loss}/{seed}"].provenance["weights_sha256"] for loss in ("ce", "cdfl(omega=0)")]
        assert hashes[0] == hashes[1]
    again = lossbench("run", str(suite))
    assert again.returncode == 0
    assert set(starts(tmp_path).values()) == {1}
    assert again.stdout.splitlines()[2:] == first.stdout.splitlines()[2:]
    board = lossbench("leaderboard", "--dataset", "streets", "--json")
    assert board.returncode == 0
    json.loads(board.stdout)
    for verb in (["plan", str(suite)], ["status", str(suite)], ["run", str(suite), "--dry-run"]):
        assert "6" in lossbench(*verb).stdout


@pytest.mark.slow
def test_one_bad_cell_of_every_kind_and_the_rest_goes_on(lossbench: Lossbench, tmp_path: Path) -> None:
    bodies = {
        "raises": "raise ValueError('my own bug')",
        "vector": "return logits.mean(dim=(1, 2, 3))",
        "nan": "return ce * float('nan')",
        "segfault": "import ctypes; ctypes.string_at(0)",
        "memory": "raise MemoryError('cannot allocate 9 PB')",
        "shot": "import os; os.kill(os.getpid(), 9)",
    }
    for name, body in bodies.items():
        write_plugin(tmp_path, name, body)
    plugins = json.dumps([f"./{name}.py" for name in bodies])
    suite = write_suite(tmp_path, f"[{', '.join(bodies)}, ce]", plugins=plugins)
    done = lossbench("run", str(suite))
    assert done.returncode == 1
    assert list(records(tmp_path)) == ["ce/0"]
    for said in (
        "my own bug (raises.py:",
        "loss 'vector' returned a tensor of shape (4,)",
        "loss 'nan' returned nan at step 0",
        "SIGSEGV",
        "out of memory",
        "SIGKILL",
    ):
        assert said in done.stderr, said
    status = lossbench("status", str(suite))
    assert "failed" in status.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("body", "code"), [("return logits.mean(dim=1)", 2), ("return ce * float('inf')", 2)])
def test_a_broken_loss_alone_is_the_users_mistake(lossbench: Lossbench, tmp_path: Path, body: str, code: int) -> None:
    write_plugin(tmp_path, "mine", body)
    done = lossbench("run", str(write_suite(tmp_path, "[mine]", plugins="[./mine.py]")))
    assert done.returncode == code
    assert "loss 'mine' returned" in done.stderr


@pytest.mark.slow
def test_kill_9_of_a_worker_ctrl_c_and_a_rerun_end_in_the_uninterrupted_weights(
    environment: dict[str, str], lossbench: Lossbench, tmp_path: Path
) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    steps = 60
    # One thread in all runs: how many there are changes the order of sums, and so the last bit.
    finish(start(environment, whole, "run", str(write_suite(whole, "[ce, cdfl]", steps=steps)), "--threads", "1"))

    suite = write_suite(tmp_path, "[ce, cdfl]", steps=steps)
    process = start(environment, tmp_path, "run", str(suite), "--checkpoint-every", "0", "-j", "1", "--threads", "1")
    cell = wait_for(lambda: [c for c, e in events(tmp_path) if e["event"] == "checkpoint" and e["step"] >= 5])[0]
    log = (tmp_path / "results" / "runs" / cell / "log.txt").read_text()
    os.kill(int(log.rsplit("pid ", 1)[1].split()[0]), signal.SIGKILL)
    wait_for(lambda: starts(tmp_path).get(cell) == 2)
    wait_for(lambda: [e for c, e in events(tmp_path) if c == cell and e["event"] == "start" and e["step"] > 0])
    os.kill(process.pid, signal.SIGINT)
    stopped = finish(process)
    assert stopped.returncode == 130
    assert "starting it again" in stopped.stderr
    assert len(records(tmp_path)) < 2

    again = lossbench("run", str(suite), "--threads", "1")
    assert again.returncode == 0, again.stderr
    expected, found = records(whole), records(tmp_path)
    assert found.keys() == expected.keys()
    for key, record in found.items():
        assert record.provenance["weights_sha256"] == expected[key].provenance["weights_sha256"]
        assert (record.confusion == expected[key].confusion).all()


@pytest.mark.slow
@pytest.mark.parametrize("hosts", [("here", "here"), ("one", "other")])
def test_two_runs_at_once_share_the_work(environment: dict[str, str], tmp_path: Path, hosts: tuple[str, str]) -> None:
    """On one machine, and on two with a shared folder."""
    suite = write_suite(tmp_path, "[ce, focal, balanced_ce]", steps=20, seeds=2)
    both = [start({**environment, "LOSSBENCH_HOST": host}, tmp_path, "run", str(suite), "-j", "1") for host in hosts]
    ended = [finish(process) for process in both]
    assert [process.returncode for process in ended] == [0, 0]
    assert len(records(tmp_path)) == 6
    assert sum(starts(tmp_path).values()) == 6


@pytest.mark.slow
def test_a_killed_scheduler_leaves_no_worker_and_a_rerun_finishes(
    environment: dict[str, str], lossbench: Lossbench, tmp_path: Path
) -> None:
    suite = write_suite(tmp_path, "[ce]", steps=500)
    process = start(environment, tmp_path, "run", str(suite))
    cell = wait_for(lambda: [c for c, e in events(tmp_path) if e["event"] == "step"])[0]
    log = (tmp_path / "results" / "runs" / cell / "log.txt").read_text()
    worker = int(log.rsplit("pid ", 1)[1].split()[0])
    process.kill()
    process.communicate()
    wait_for(lambda: not _alive(worker), 30)
    done = lossbench("run", str(suite))
    assert done.returncode == 0
    assert records(tmp_path)["ce/0"].notes[0].startswith("resumed")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
def test_time_limit_fails_the_cell_and_keeps_its_checkpoint(lossbench: Lossbench, tmp_path: Path) -> None:
    suite = write_suite(tmp_path, "[ce]", steps=100_000, extra="resources: {minutes: 0.05}\n")
    done = lossbench("run", str(suite))
    assert done.returncode == 1
    assert "limit of 0.05 minutes" in done.stderr
    assert list((tmp_path / "results" / "runs").glob("*/checkpoint.pt"))


def test_results_that_cannot_be_written_fail_first(lossbench: Lossbench, tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file where a folder should be")
    done = lossbench("run", str(write_suite(tmp_path, "[ce]")))
    assert done.returncode == 3
    assert done.stderr.startswith("error: ")


def test_missing_data_is_told_before_anything_trains(lossbench: Lossbench, tmp_path: Path) -> None:
    path = write_suite(tmp_path, "[ce]")
    path.write_text(path.read_text().replace(path.read_text().split("\n")[1], "datasets: [camvid]"))
    done = lossbench("run", str(path))
    assert done.returncode == 3
    assert "camvid: no folder" in done.stderr
    assert "failed" in lossbench("status", str(path)).stdout
