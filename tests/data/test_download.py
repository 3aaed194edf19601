from __future__ import annotations

import io
import os
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from lossbench.data.download import obtain
from lossbench.errors import ConfigError, SetupError
from tests.data.archives import Served, serving, tar_of, zip_of


@pytest.fixture
def content(tmp_path: Path) -> Path:
    (tmp_path / "content" / "kit" / "sub").mkdir(parents=True)
    (tmp_path / "content" / "kit" / "sub" / "a.bin").write_bytes(os.urandom(50_000))
    return tmp_path / "content"


@pytest.fixture
def served(content: Path) -> Iterator[Served]:
    with serving(tar_of(content)) as found:
        yield found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def get(served: Served, root: Path, **changes: str) -> None:
    obtain(changes.get("url", served.url), changes.get("md5", served.md5), root / "a.tar.part", root / "data")


def left(root: Path) -> list[str]:
    return sorted(os.listdir(root))


def test_fetched_checked_unpacked_and_nothing_left_over(served: Served, root: Path, content: Path) -> None:
    told: list[tuple[int, int | None]] = []
    obtain(served.url, served.md5, root / "a.tar.part", root / "data", on_bytes=lambda *now: told.append(now))
    assert (root / "data/kit/sub/a.bin").read_bytes() == (content / "kit/sub/a.bin").read_bytes()
    assert left(root) == ["data"]
    assert told[-1] == (len(served.data), len(served.data))
    assert os.stat(root / "data").st_mode & 0o055 == 0o055, "others may read it"


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_connection_is_gone_on_from(served: Served, root: Path, ranges: bool) -> None:
    served.stop_after, served.ranges = 20_000, ranges
    with pytest.raises(SetupError, match=r"the connection ended after 0\.0 MB of 0\.1 MB") as caught:
        get(served, root)
    assert "goes on where it stopped" in (caught.value.hint or "")
    assert (root / "a.tar.part").stat().st_size == 20_000
    assert left(root) == ["a.tar.part"]
    served.stop_after = None
    get(served, root)
    assert served.asked == [None, "bytes=20000-"]
    assert left(root) == ["data"]


def test_a_whole_part_is_not_fetched_again(served: Served, root: Path) -> None:
    (root / "a.tar.part").write_bytes(served.data)
    get(served, root)
    assert served.asked == []
    assert left(root) == ["data"]


def test_another_checksum_is_refused_and_removed(served: Served, root: Path) -> None:
    with pytest.raises(SetupError, match=f"MD5 is {served.md5}, expected 0123") as caught:
        get(served, root, md5="0123")
    assert "--url" in (caught.value.hint or "")
    assert left(root) == []
    (root / "a.tar.part").write_bytes(served.data + b"more than there is")
    with pytest.raises(SetupError, match="MD5 is"):
        get(served, root)
    assert left(root) == []
    get(served, root)


def test_no_room_is_said_before_anything_is_fetched(
    served: Served, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(root)
    free = 2 * len(served.data) - 1
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=free))
    with pytest.raises(SetupError, match=r"archive and images need 0\.1 MB"):
        get(served, root)
    assert left(root) == []
    free += 1
    get(served, root)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://127.0.0.1:1/a.tar", r"cannot reach 127\.0\.0\.1:1 \("),
        ("http://no-such-host.invalid/a.tar", r"cannot reach no-such-host\.invalid \("),
        ("http://a..b/a.tar", r"cannot reach a\.\.b \("),
        ("{url}x", "the server says 404"),
    ],
)
def test_no_network(served: Served, root: Path, url: str, message: str) -> None:
    with pytest.raises(SetupError, match=message):
        get(served, root, url=url.format(url=served.url))
    assert left(root) == []


def test_only_http(served: Served, root: Path) -> None:
    with pytest.raises(ConfigError, match="no http or https address"):
        get(served, root, url="file:///etc/passwd")


def test_a_member_that_would_land_elsewhere_is_refused(root: Path) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("../evil"), io.BytesIO())
    with serving(data.getvalue()) as served, pytest.raises(SetupError, match="cannot be unpacked"):
        get(served, root)
    assert left(root) == ["a.tar.part"]
    assert not (root.parent / "evil").exists()


def test_no_archive(root: Path) -> None:
    with serving(b"<html>moved</html>" * 100) as served, pytest.raises(SetupError, match="cannot be unpacked"):
        get(served, root)
    assert left(root) == ["a.tar.part"]


def test_what_is_there_is_not_replaced(served: Served, root: Path) -> None:
    (root / "data" / "kit").mkdir(parents=True)
    (root / "data" / "kit" / "mine").write_text("")
    with pytest.raises(SetupError, match="kit is there already"):
        get(served, root)
    assert os.listdir(root / "data" / "kit") == ["mine"]
    assert left(root) == ["a.tar.part", "data"], "what was fetched is kept"
    (root / "data" / "kit").rename(root / "data" / "other")
    get(served, root)
    assert left(root / "data") == ["kit", "other"]


def test_two_at_a_time_do_not_mix(served: Served, root: Path) -> None:
    with FileLock(root / ".a.tar.part.lock"), pytest.raises(SetupError, match="another process is fetching"):
        get(served, root)


@pytest.mark.parametrize("mac", [False, True])
def test_a_zip_is_unpacked_without_what_macos_adds(content: Path, root: Path, mac: bool) -> None:
    with serving(zip_of(content, mac)) as served:
        get(served, root)
        assert (root / "data/kit/sub/a.bin").read_bytes() == (content / "kit/sub/a.bin").read_bytes()
        assert left(root / "data") == ["kit"]
        assert left(root) == ["data"]
        (root / "data/kit").rename(root / "data/other")
        get(served, root)  # a second archive into the same folder
    assert left(root / "data") == ["kit", "other"]


@pytest.mark.parametrize("name", ["../evil", "/evil", "kit/../../evil", "..\\evil", "C:\\evil", "C:evil"])
def test_a_zip_s_member_that_would_land_elsewhere_is_refused(root: Path, name: str) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(name, b"")
    with (
        serving(data.getvalue()) as served,
        pytest.raises(SetupError, match=r"cannot be unpacked .*would land elsewhere"),
    ):
        get(served, root)
    assert left(root) == ["a.tar.part"]


def test_a_damaged_or_encrypted_zip(content: Path, root: Path) -> None:
    data = zip_of(content)
    middle = len(data) // 2
    damaged = data[:middle] + bytes(byte ^ 255 for byte in data[middle : middle + 50]) + data[middle + 50 :]
    flag = bytearray(data)
    flag[data.index(b"PK\1\2") + 8] |= 1
    for broken, why in ((damaged, ""), (bytes(flag), "is encrypted")):
        with serving(broken) as served, pytest.raises(SetupError, match=rf"cannot be unpacked \(.*{why}"):
            get(served, root)
        assert left(root) == ["a.tar.part"]
        (root / "a.tar.part").unlink()


def test_a_zip_of_a_compression_that_python_does_not_know(content: Path, root: Path) -> None:
    data = bytearray(zip_of(content))
    for signature, offset in ((b"PK\3\4", 8), (b"PK\1\2", 10)):
        start = -1
        while (start := data.find(signature, start + 1)) >= 0:
            data[start + offset : start + offset + 2] = (97).to_bytes(2, "little")
    with (
        serving(bytes(data)) as served,
        pytest.raises(SetupError, match=r"cannot be unpacked \(.*compression") as caught,
    ):
        get(served, root)
    assert "another program" in (caught.value.hint or "")
    assert left(root) == ["a.tar.part"], "it is sound: kept, to be unpacked by hand"
