"""Unpacking a tar archive that somebody else made."""

from __future__ import annotations

import tarfile
from pathlib import Path, PurePosixPath


def extract(archive: tarfile.TarFile, folder: Path) -> None:
    """Unpack all members into `folder`. Raises TarError for one that would land elsewhere or is no plain file."""
    if hasattr(tarfile, "data_filter"):
        archive.extractall(folder, filter="data")
        return
    for member in archive:  # Python 3.11.0 to 3.11.3, which Debian 12 has, know no filter
        name = PurePosixPath(member.name)
        if name.is_absolute() or ".." in name.parts:
            raise tarfile.TarError(f"{member.name} would land elsewhere")
        if not (member.isreg() or member.isdir()):
            raise tarfile.TarError(f"{member.name} is neither a file nor a folder")
        archive.extract(member, folder, set_attrs=False)
