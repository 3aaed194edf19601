"""claim.py: one holder of a cell across machines, however many want it and whatever their clocks say."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lossbench.errors import SetupError
from lossbench.execution import claim as claims
from lossbench.execution.claim import Busy, Claim, holder
from lossbench.processes import Process, this_process

A, B = Process("a", "boot of a", 7, "1"), Process("b", "boot of b", 7, "1")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def age(folder: Path, seconds: float) -> None:
    """As if the holder had given no sign of life for so long."""
    for path in folder.glob("claim.*"):
        then = path.stat().st_mtime - seconds
        os.utime(path, (then, then))


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def test_one_holder_and_numbers_that_only_grow(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "cell"
    assert holder(folder) is None
    for number in (1, 2, 3):
        with Claim(folder):
            assert holder(folder) == this_process()
            with pytest.raises(Busy) as caught, Claim(folder):
                pass
            assert caught.value.holder == this_process()
            assert names(folder) == [f"claim.{number}"]
        assert holder(folder) is None


def test_another_machine_holds_as_long_as_it_gives_signs_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Claim(tmp_path, A) as first:
        age(tmp_path, claims.STALE_S - 5)
        with pytest.raises(Busy, match="on a"), Claim(tmp_path, B):
            pass
        age(tmp_path, 10)
        assert holder(tmp_path) is None
        monkeypatch.setattr(claims, "BEAT_S", 0.02)
        with Claim(tmp_path, B) as second:
            assert holder(tmp_path) == B
            assert names(tmp_path) == ["claim.2"]
            age(tmp_path, 30)
            with pytest.raises(Busy), Claim(tmp_path, A):
                pass
            assert not second.lost
        assert not first.lost, "its next look is in ten seconds"
    assert holder(tmp_path) is None


def test_signs_of_life_are_given_and_a_lost_claim_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "BEAT_S", 0.02)
    with Claim(tmp_path, A) as first:
        age(tmp_path, 1000)
        wait_for(lambda: holder(tmp_path) == A)
        (tmp_path / "claim.2").write_text("{}")
        wait_for(lambda: first.lost)
    assert holder(tmp_path) == claims._UNKNOWN, "who lost its claim does not let go of another's"


def test_an_outage_of_the_server_is_outlived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "BEAT_S", 0.02)
    real, failed = os.utime, threading.Event()

    def away(path: Path, *times: object) -> None:
        failed.set()
        raise OSError(errno.EIO, "Input/output error")

    with Claim(tmp_path, A) as held:
        monkeypatch.setattr(os, "utime", away)
        assert failed.wait(20)
        monkeypatch.setattr(os, "utime", real)
        age(tmp_path, 1000)
        wait_for(lambda: holder(tmp_path) == A)
        assert not held.lost


def test_a_process_of_this_machine_holds_until_it_is_gone(tmp_path: Path) -> None:
    me = this_process()
    assert me.started
    with Claim(tmp_path):
        age(tmp_path, 1e6)  # it was stopped for days; it still has the memory of all it did
        with pytest.raises(Busy), Claim(tmp_path):
            pass
    gone = subprocess.Popen(["true"])
    gone.wait()
    for dead in (replace(me, pid=gone.pid), replace(me, started="1")):  # ended; its number is another's now
        with Claim(tmp_path, dead):
            assert holder(tmp_path) is None
            with Claim(tmp_path):
                assert holder(tmp_path) == me


def test_a_zombie_is_gone(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "100"]) as process:
        started = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19]
        alive = replace(this_process(), pid=process.pid, started=started)
        assert alive.lives()
        process.kill()
        wait_for(lambda: alive.lives() is False)  # though nobody has waited for it yet


def test_a_container_of_this_machine_counts_its_own_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process namespace under one kernel: the number of a process says nothing."""
    elsewhere = replace(this_process(), boot=this_process().boot.replace("pid:[", "pid:[9"), pid=2**22 + 1)
    assert elsewhere.lives() is None


def test_two_machines_called_alike_are_two(monkeypatch: pytest.MonkeyPatch) -> None:
    here = this_process()
    monkeypatch.setenv("LOSSBENCH_HOST", "cluster")
    assert this_process().host == "cluster"
    assert this_process().lives()
    assert here.lives() is None
    assert replace(this_process(), boot="another boot cluster").lives() is None


def test_only_the_servers_clock_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is 2001 on the server, and each machine's own clock jumps about."""
    server = [1e9]
    real = os.utime
    monkeypatch.setattr(claims.os, "utime", lambda path, times=None: real(path, times or (server[0], server[0])))
    monkeypatch.setattr(time, "time", lambda: random.uniform(0, 4e9))
    with Claim(tmp_path, A):
        server[0] += claims.STALE_S - 1
        with pytest.raises(Busy), Claim(tmp_path, B):
            pass
        server[0] += 2
        with Claim(tmp_path, B):
            with pytest.raises(Busy), Claim(tmp_path, A):
                pass
            server[0] -= 1e6  # what lies in the future is not stale
            with pytest.raises(Busy), Claim(tmp_path, A):
                pass


def test_of_many_takers_of_a_stale_claim_one_gets_it(tmp_path: Path) -> None:
    """Claims are let go, die and are taken over at random: never are two inside."""
    inside: list[int] = []
    wrong: list[list[int]] = []
    taken = [0]
    start = threading.Barrier(8)
    guard = threading.Lock()

    def work(number: int) -> None:
        rng = random.Random(number)
        me = Process(f"host {number}", f"boot {number}", number, "1")
        start.wait()
        for _ in range(120):
            claim = Claim(tmp_path, me)
            try:
                claim.__enter__()
            except Busy:
                continue
            with guard:
                inside.append(number)
                if len(inside) > 1:
                    wrong.append(list(inside))
                taken[0] += 1
            time.sleep(rng.uniform(0, 0.002))
            with guard:
                inside.remove(number)
            if rng.random() < 0.5:
                claim.__exit__(None, None, None)
            else:  # its machine loses power
                claim._released.set()
                then = time.time() - claims.STALE_S - 1
                os.utime(claim._path, (then, then))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert taken[0] > 5  # of 8 at work for a while: how many depends on the machine
    assert len(names(tmp_path)) <= 8, "no more than claims that came too late"


def test_who_comes_late_with_a_low_number_holds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It looked before others took over, and let go, and swept."""
    for _ in range(5):
        with Claim(tmp_path, A):
            pass
    with Claim(tmp_path, A) as held:
        monkeypatch.setattr(claims, "_highest", lambda folder: claims._Claim(3, B, 0.0))
        with pytest.raises(Busy), Claim(tmp_path, B):
            pass
        monkeypatch.undo()
        assert holder(tmp_path) == A
        assert not held.lost
    with Claim(tmp_path, A):
        assert names(tmp_path) == ["claim.7"]


def test_processes_of_one_machine(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from lossbench.execution.claim import Busy, Claim\n"
        "sys.stdin.readline()\n"
        "try:\n"
        "    with Claim(Path(sys.argv[1])): print('held', flush=True); sys.stdin.readline()\n"
        "except Busy: print('busy', flush=True)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    both = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) for _ in range(2)
    ]
    for process in both:
        assert process.stdin is not None
        process.stdin.write("go\n")
    said = sorted(process.stdout.readline() for process in both if process.stdout)
    for process in both:
        process.communicate("\n")
    assert said == ["busy\n", "held\n"]


def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*names: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    with Claim(tmp_path, A):
        assert holder(tmp_path) == A
        with pytest.raises(Busy), Claim(tmp_path, B):
            pass
    with Claim(tmp_path, B):
        assert names(tmp_path) == ["claim.2"]


def test_an_answer_of_the_server_that_got_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS asks again and then finds what it made itself."""
    real = os.link

    def link(source: Path, target: Path) -> None:
        real(source, target)
        raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr(os, "link", link)
    with Claim(tmp_path, A):
        assert holder(tmp_path) == A


@pytest.mark.parametrize("text", ["", "{", "[]", '{"host": 1}', "\0" * 9000])
def test_a_claim_that_says_nothing_is_judged_by_its_age(tmp_path: Path, text: str) -> None:
    (tmp_path / "claim.3").write_text(text)
    assert holder(tmp_path) is not None
    with pytest.raises(Busy), Claim(tmp_path, A):
        pass
    age(tmp_path, 100)
    with Claim(tmp_path, A):
        assert names(tmp_path) == ["claim.4"]


def test_who_only_looks_need_not_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "_offsets", {})
    with Claim(tmp_path, A):
        monkeypatch.setattr(claims, "_own_file", _refused)
        assert holder(tmp_path) == A


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "_own_file", _refused)
    with pytest.raises(SetupError, match="No space left"), Claim(tmp_path):
        pass


def _refused(*arguments: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_folder_that_cannot_be_looked_into_is_not_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user's run folder, or a server that is away for a moment."""

    def refused(folder: object) -> list[str]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", refused)
    found = holder(tmp_path)
    assert found is not None
    assert found.lives() is None
