"""Archives fetched from the web, checked, and unpacked file by file."""

from __future__ import annotations

import http.client
import shutil
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from snndeploy.errors import ConfigError, FileFormatError
from snndeploy.ir.files import replacing


def fetch(url: str, path: Path, md5: str) -> None:
    """Downloads a file unless it is there and whole.

    Args:
        url: Where it is.
        path: Where it is to be; folders are made.
        md5: Its checksum, in hexadecimal: against damage, and against files from elsewhere.

    Raises:
        ConfigError: It cannot be had, or is not the file expected.
    """
    from torchvision.datasets.utils import download_url  # noqa: PLC0415  (slow to import)

    try:
        download_url(url, path.parent, path.name, md5)
    except (OSError, RuntimeError, ValueError, http.client.HTTPException) as error:
        raise ConfigError(
            "data.download",
            f"{url} cannot be downloaded whole to {path}",
            got=error,
            remedy=f"get it by other means, put it at {path} and run again; or name another address by data.url",
        ) from error


def unpack(archive: Path, files: Mapping[str, Path]) -> None:
    """Copies single files out of a tar archive, each whole or not at all.

    Args:
        archive: A tar file, compressed or not.
        files: Where to put each, by its name in the archive; nothing else is unpacked.

    Raises:
        FileFormatError: The archive is damaged or lacks a file, or a target cannot be written.
    """
    try:
        with tarfile.open(archive) as tar:
            for name, target in files.items():
                try:
                    member = tar.extractfile(name)
                except KeyError:
                    member = None
                if member is None:
                    raise FileFormatError(str(archive), f"has no file {name}")
                target.parent.mkdir(parents=True, exist_ok=True)
                with member, replacing(target) as temporary, temporary.open("wb") as copy:
                    shutil.copyfileobj(member, copy)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise FileFormatError(
            str(archive), "cannot be unpacked", got=error, remedy="delete it and download it again"
        ) from error
