from pathlib import Path

import pytest

from lossbench.errors import ConfigError
from lossbench.paths import expand


def test_home_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand("~/a") == tmp_path / "a"
    assert expand(Path("a/~")) == Path("a/~")
    assert expand("") == Path()
    with pytest.raises(ConfigError, match="~no-such-user/a: no home folder for ~no-such-user") as caught:
        expand(Path("~no-such-user/a"))
    assert caught.value.hint == "write ./~... for a folder of that name"
