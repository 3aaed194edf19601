"""untar.py: alike with Python's own filter and without."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from lossbench.untar import extract


def packed(*members: tuple[str, bytes, bytes]) -> tarfile.TarFile:
    """Of (name, type, content or target of a link)."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, kind, content in members:
            member = tarfile.TarInfo(name)
            member.type = kind
            if kind == tarfile.REGTYPE:
                member.size = len(content)
            else:
                member.linkname = content.decode()
            archive.addfile(member, io.BytesIO(content))
    data.seek(0)
    return tarfile.open(fileobj=data)


@pytest.fixture(params=["filter", "no filter"])
def _python(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "no filter":
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    elif not hasattr(tarfile, "data_filter"):
        pytest.skip("before Python 3.11.4")


@pytest.mark.usefixtures("_python")
def test_files_and_folders(tmp_path: Path) -> None:
    files = ("a/b.txt", tarfile.REGTYPE, b"one"), ("c", tarfile.REGTYPE, b"")
    with packed(("a", tarfile.DIRTYPE, b""), *files) as made:
        extract(made, tmp_path)
    assert (tmp_path / "a" / "b.txt").read_bytes() == b"one"
    assert (tmp_path / "c").read_bytes() == b""


@pytest.mark.usefixtures("_python")
@pytest.mark.parametrize(
    "member",
    [
        ("../out", tarfile.REGTYPE, b"x"),
        ("a/../../out", tarfile.REGTYPE, b"x"),
        ("link", tarfile.SYMTYPE, b"../out"),
        ("device", tarfile.CHRTYPE, b""),
    ],
    ids=lambda member: member[0],
)
def test_what_would_land_elsewhere_or_is_no_file_is_refused(tmp_path: Path, member: tuple[str, bytes, bytes]) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    with packed(member) as made, pytest.raises(tarfile.TarError):
        extract(made, inside)
    assert not (tmp_path / "out").exists()
    assert not list(inside.iterdir())
