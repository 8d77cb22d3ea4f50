# SPDX-License-Identifier: Apache-2.0
"""The definition of the guest: the files in `images/guest/`, and the cache key made of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from testbed.common.files import sha256_file, sha256_json

GUEST = Path(__file__).parent / "guest"
SUITE = "bullseye"  # the newest Debian with a python2.7 that fits a TensorFlow 1.13.1 wheel
FORMAT = 2  # increment when build.py makes a different image from the same files


@dataclass(frozen=True)
class Definition:
    """The inputs of an image. `free_mib` is the free space in its file system."""

    suite: str
    packages: tuple[str, ...]
    excluded: tuple[str, ...]
    wheels: Path
    sdists: Path
    files: Path
    free_mib: int = 1024

    @property
    def wheels_key(self) -> str:
        """The cache key of the downloaded Python packages."""
        return sha256_json([sha256_file(self.wheels), sha256_file(self.sdists)])

    @property
    def key(self) -> str:
        """The image's cache key. It leaves out the versions of Debian's packages, which the manifest records:
        a point release does not invalidate a cached image.
        """
        contents = {
            p.relative_to(self.files).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in sorted(self.files.rglob("*"))
            if p.is_file()
        }
        return sha256_json({"format": FORMAT, "suite": self.suite, "free": self.free_mib, "files": contents})


def default() -> Definition:
    """Return the guest of all experiments."""
    return Definition(
        suite=SUITE,
        packages=_lines(GUEST / "packages.txt"),
        excluded=_lines(GUEST / "exclude.txt"),
        wheels=GUEST / "requirements-wheels.txt",
        sdists=GUEST / "requirements-sdists.txt",
        files=GUEST,
    )


def _lines(path: Path) -> tuple[str, ...]:
    return tuple(line for line in path.read_text().splitlines() if line and not line.startswith("#"))
