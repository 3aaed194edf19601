"""The fork server must leave the children able to use an accelerator."""

import subprocess
import sys

import pytest

FORK = """
import os, pathlib, sys
exists = pathlib.Path.exists
pathlib.Path.exists = lambda path, **options: str(path) == "/dev/nvidia0" or exists(path, **options)
import lossbench.execution.preload, lossbench.execution.preloaded, torch
child = os.fork()
if child == 0:
    os._exit(int(torch.cuda._is_in_bad_fork()))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks for Linux device files")
def test_the_driver_of_a_gpu_is_not_started_before_the_fork() -> None:
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
