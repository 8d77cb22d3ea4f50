# SPDX-License-Identifier: Apache-2.0
"""Kernel sources: their location, version and digest.

`locate` finds a source without downloading; `obtain` downloads it if necessary. Digests and versions that are
slow to compute are kept in the cache's scratch folder `kernel-memo`.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import tarfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from kernel import download, versions
from kernel.tree_digest import TreeDigest, read_tree
from kernel.versions import Version
from testbed.common import files, run, schema, settings
from testbed.common.cache import Cache
from testbed.common.errors import InfrastructureError, UsageError
from testbed.common.progress import step

CATALOGUE = Path(__file__).parent / "sources.yaml"
AUTO = "auto"


class Tarball(schema.Strict):
    """A pinned tarball on the network."""

    url: str
    sha256: str
    version: versions.Text


class Package(schema.Strict):
    """A Debian package that contains a tarball."""

    name: str
    file: Path


class Spec(schema.Strict):
    """An entry of sources.yaml."""

    tarball: Tarball | None = None
    package: Package | None = None
    commit: str = "HEAD"
    cflags: tuple[str, ...] = ()
    modules: bool = True
    objects: int


class Catalogue(schema.Strict):
    """The content of sources.yaml."""

    auto: tuple[str, ...]
    sources: dict[str, Spec]


@dataclass(frozen=True)
class Source:
    """A located source. `path` is None until it has been downloaded."""

    name: str
    kind: Literal["tarball", "tree", "git"]
    version: Version
    digest: str
    origin: str
    path: Path | None
    files: TreeDigest | None = field(default=None, repr=False, compare=False)

    @property
    def spec(self) -> Spec:
        return catalogue().sources[self.name]


@functools.cache
def catalogue() -> Catalogue:
    """Load sources.yaml."""
    return schema.load(CATALOGUE, Catalogue)


def names() -> tuple[str, ...]:
    """Return the source names that a user may give."""
    return (AUTO, *catalogue().sources)


def candidates(name: str) -> tuple[str, ...]:
    """Return the sources to try for `name`, the preferred one first."""
    if name == AUTO:
        return catalogue().auto
    if name not in catalogue().sources:
        raise UsageError(f"unknown kernel source {name!r}", hint=f"one of: {', '.join(names())}")
    return (name,)


def locate(name: str, *, location: str | None, cache: Cache) -> Source:
    """Find the source `name`, at `location` (a tree, a tarball, or REPOSITORY@COMMIT) or its default place.

    Downloads nothing. With a location, `auto` accepts any known series. Raises UsageError for a wrong
    location, InfrastructureError if the default source is not available.
    """
    origin = "--source-location"
    if location is None and name != AUTO:
        setting = _setting(name)
        location, origin = setting.get() or None, setting.env
    if location is not None:
        return _located(name, location, origin, cache)
    spec = catalogue().sources[name]
    if spec.tarball:
        entry = cache.get("source", spec.tarball.sha256)
        return Source(
            name=name,
            kind="tarball",
            version=versions.parse(spec.tarball.version),
            digest=f"sha256:{spec.tarball.sha256}",
            origin=spec.tarball.url,
            path=entry.path / _basename(spec.tarball.url) if entry else None,
        )
    if spec.package:
        if not spec.package.file.exists():
            raise InfrastructureError(
                f"the package {spec.package.name} is not installed",
                hint=f"apt-get install {spec.package.name}, or {_setting(name).env}=/a/tree",
            )
        return _of_expected_series(name, _tarball(name, spec.package.file, cache), spec.package.name)
    raise UsageError(f"Linux {name} has no default source", hint=f"{_setting(name).env}=/a/tree")


def obtain(source: Source, *, cache: Cache) -> Source:
    """Return the source with its `path`, and download it into the cache if necessary.

    Raises InfrastructureError on network errors, and if the download does not match the pinned hash.
    """
    if source.path is not None:
        return source
    tarball = source.spec.tarball
    assert tarball is not None  # noqa: S101 -- only a pinned tarball is located without a path

    def make(folder: Path) -> dict[str, Any]:
        target = folder / _basename(tarball.url)
        download.fetch(tarball.url, target, sha256=tarball.sha256, hint=_hint(source.name))
        return {"url": tarball.url, "sha256": tarball.sha256}

    entry = cache.build("source", tarball.sha256, make)
    return replace(source, path=entry.path / _basename(tarball.url))


def check_reachable(source: Source) -> None:
    """Raise the InfrastructureError of `obtain` if the source's server is not reachable."""
    if source.path is None and source.spec.tarball is not None:
        download.check_reachable(source.spec.tarball.url, hint=_hint(source.name))


def _hint(name: str) -> str:
    return f"use a local tree or tarball: {_setting(name).env}=/a/tree"


def _setting(name: str) -> settings.Setting:
    env = "SENTINEL_LINUX_" + name.replace(".", "_")
    declared = {s.env: s for s in settings.ALL}
    return declared.get(env) or settings.Setting(
        env, "", f"a Linux {name} tree, tarball, or REPOSITORY@COMMIT"
    )


def _located(name: str, location: str, origin: str, cache: Cache) -> Source:
    path = Path(location).expanduser()
    repository, separator, commit = location.rpartition("@")
    if separator and not path.exists():
        source = _commit(name, Path(repository).expanduser(), commit, origin)
    elif path.is_dir():
        source = _tree(name, path.resolve(), cache)
    elif path.is_file():
        source = _tarball(name, path.resolve(), cache)
    else:
        raise UsageError(
            f"{origin}={location}: no such file or folder", hint="a tree, a tarball, or REPOSITORY@COMMIT"
        )
    return _of_expected_series(name, source, f"{origin}={location}")


def _of_expected_series(name: str, source: Source, place: str) -> Source:
    version = source.version
    if name == AUTO and version.series in catalogue().sources:
        return replace(source, name=version.series)
    if version.series != name:
        expected = " or ".join(catalogue().sources) if name == AUTO else name
        raise UsageError(f"{place} is Linux {version}, not {expected}")
    return source


def _not_linux(place: object) -> UsageError:
    return UsageError(f"{place}: not a Linux source: its top Makefile has no VERSION and PATCHLEVEL")


def _tree(name: str, path: Path, cache: Cache) -> Source:
    makefile = path / "Makefile"
    version = versions.of_makefile(makefile.read_text(errors="replace")) if makefile.is_file() else None
    if version is None:
        hint = f"{path}@COMMIT names a commit of it" if (path / "HEAD").is_file() else None
        error = _not_linux(path)
        raise UsageError(error.message, hint=hint)
    content = read_tree(path, memo=_memo(cache, "tree", path))
    return Source(name, "tree", version, f"tree:{content.digest}", str(path), path, content)


def _commit(name: str, repository: Path, commit: str, origin: str) -> Source:
    if not repository.is_dir():
        raise UsageError(
            f"{origin}={repository}@{commit}: {repository} is not a folder",
            hint="clone the repository first: git clone --bare URL FOLDER",
        )
    revision = commit or (catalogue().sources[name].commit if name != AUTO else "HEAD")
    parsed = _git(repository, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    if parsed is None:
        if _git(repository, "rev-parse", "--git-dir") is None:
            raise UsageError(f"{origin}: {repository} is not a git repository")
        raise UsageError(
            f"{origin}: commit {revision} is not in {repository}", hint=f"git -C {repository} fetch"
        )
    exact = parsed.strip()
    version = versions.of_makefile(_git(repository, "show", f"{exact}:Makefile") or "")
    if version is None:
        raise _not_linux(f"{repository}@{revision}")
    path = repository.resolve()
    return Source(name, "git", version, f"git:{exact}", f"{path}@{exact}", path)


def _git(repository: Path, *words: str) -> str | None:
    run.which("git")
    result = run.run(["git", "-C", repository, *words], check=False)
    return result.stdout if result.returncode == 0 else None


def _tarball(name: str, path: Path, cache: Cache) -> Source:
    status = path.stat()
    stamp = [status.st_size, status.st_mtime_ns, status.st_ino]
    memo = _memo(cache, "tarball", path)
    facts = files.read_state(memo)
    if facts.get("stamp") != stamp:
        with step(f"Reading {path.name}"):
            version = _version_in_tarball(path)
            facts = {"stamp": stamp, "sha256": files.sha256_file(path), "version": str(version)}
        files.write_json(memo, facts)
    return Source(
        name, "tarball", versions.parse(facts["version"]), f"sha256:{facts['sha256']}", str(path), path
    )


def _version_in_tarball(path: Path) -> Version:
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                if re.fullmatch(r"(\./)?([^/]+/)?Makefile", member.name) and member.isfile():
                    content = archive.extractfile(member)
                    version = versions.of_makefile(content.read().decode(errors="replace") if content else "")
                    if version is not None:
                        return version
    except (tarfile.TarError, EOFError, OSError) as e:
        raise UsageError(f"{path}: cannot be read as a tarball: {e}") from None
    raise _not_linux(path)


def _memo(cache: Cache, kind: str, path: Path) -> Path:
    key = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return cache.root / "scratch" / "kernel-memo" / f"{kind}-{key}.json"


def _basename(url: str) -> str:
    return url.rpartition("/")[2]
