# SPDX-License-Identifier: Apache-2.0
"""What the guest is made of: the files in `images/guest/`, as data, and the key they add up to."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from testbed.common import files

GUEST = Path(__file__).parent / "guest"
SUITE = "bullseye"  # the newest Debian whose python2.7 a TensorFlow 1.13.1 wheel exists for
FORMAT = 2  # raise it when build.py makes a different image from the same files


@dataclass(frozen=True)
class Definition:
    """The inputs of an image. `free_mib` is the room left in its file system."""

    suite: str
    packages: tuple[str, ...]
    excluded: tuple[str, ...]
    wheels: Path
    sdists: Path
    guest: Path
    free_mib: int = 1024

    @property
    def wheels_key(self) -> str:
        """Key of the downloaded Python packages."""
        return files.sha256_json([files.sha256_file(self.wheels), files.sha256_file(self.sdists)])

    @property
    def key(self) -> str:
        """Key of the finished image. Debian's own package versions are recorded in the manifest, not here:
        a point release does not make a cached image wrong.
        """
        contents = {
            p.relative_to(self.guest).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in sorted(self.guest.rglob("*"))
            if p.is_file()
        }
        return files.sha256_json(
            {"format": FORMAT, "suite": self.suite, "free": self.free_mib, "files": contents}
        )


def default() -> Definition:
    """The guest every experiment uses."""
    return Definition(
        suite=SUITE,
        packages=_lines(GUEST / "packages.txt"),
        excluded=_lines(GUEST / "exclude.txt"),
        wheels=GUEST / "requirements-wheels.txt",
        sdists=GUEST / "requirements-sdists.txt",
        guest=GUEST,
    )


def _lines(path: Path) -> tuple[str, ...]:
    return tuple(line for line in path.read_text().splitlines() if line and not line.startswith("#"))
