"""One CPU thread per test process: pytest-xdist runs as many processes as there are cores, and two threads each would
wait for one another most of the time. Set before anything imports torch."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
