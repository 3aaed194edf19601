from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossbench.execution.guard import BoundedLog

LIMIT = 400


def written(path: Path, chunks: list[bytes], before: bytes = b"") -> bytes:
    path.unlink(missing_ok=True)
    if before:
        path.write_bytes(before)
    log = BoundedLog(path, LIMIT)
    for chunk in chunks:
        log.write(chunk)
        assert path.stat().st_size <= len(before) + LIMIT
    log.close()
    return path.read_bytes()


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(1, 300), min_size=1, max_size=20), before=st.integers(0, LIMIT - 1))
def test_head_and_tail_stay_in_order(tmp_path_factory: pytest.TempPathFactory, sizes: list[int], before: int) -> None:
    everything = bytes(index % 251 for index in range(sum(sizes)))
    chunks, rest = [], everything
    for size in sizes:
        chunks.append(rest[:size])
        rest = rest[size:]
    earlier = b"e" * before
    path = tmp_path_factory.getbasetemp() / "log.txt"
    kept = written(path, chunks, earlier)
    assert kept.startswith(earlier)
    kept = kept[before:]
    if len(everything) <= LIMIT:
        assert kept == everything
        return
    assert len(kept) == LIMIT
    assert kept[: LIMIT // 2] == everything[: LIMIT // 2]
    line = re.search(rb"\n\[lossbench: (\d+) bytes left out here\]\n", kept)
    assert line is not None
    assert int(line[1]) == len(everything) - LIMIT
    assert kept[line.end() :] == everything[-(LIMIT - line.end()) :]


def test_a_full_log_is_set_aside(tmp_path: Path) -> None:
    assert written(tmp_path / "log.txt", [b"new\n"], b"o" * LIMIT) == b"new\n"
    assert (tmp_path / "log.old.txt").read_bytes() == b"o" * LIMIT


def test_a_folder_that_is_gone_is_no_error(tmp_path: Path) -> None:
    log = BoundedLog(tmp_path / "gone" / "log.txt")
    log.write(b"a line\n")
    log.close()


def test_the_output_of_a_process_and_its_children_is_in_the_log_when_it_ends(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom lossbench.execution.guard import Guard\n"
        f"with Guard(Path({str(tmp_path / 'log.txt')!r})) as guard:\n"
        "    with guard.capture():\n        print('python')\n        os.system('echo shell')\n"
        "    print('terminal')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "terminal\n"
    assert sorted((tmp_path / "log.txt").read_text().split()) == ["python", "shell"]
