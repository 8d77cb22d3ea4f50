# SPDX-License-Identifier: Apache-2.0
"""Where a kernel's source comes from, and what it is exactly: a version and a digest.

`locate` finds a source without fetching anything; `obtain` downloads it if it must. What is slow to find
out about a file or folder is remembered in the cache's scratch folder `kernel-memo`.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.client
import os
import queue
import re
import tarfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from kernel import versions
from kernel.snapshot import Snapshot, snapshot
from kernel.versions import Version
from testbed.common import files, run, schema, settings
from testbed.common.cache import Cache
from testbed.common.errors import InfrastructureError, UsageError
from testbed.common.progress import step

CATALOGUE = Path(__file__).parent / "sources.yaml"
AUTO = "auto"
TIMEOUT_S = 10.0  # to find, reach and hear from the server, and between two pieces of a download
_CHUNK = 1 << 20


class Tarball(schema.Strict):
    """A pinned file on the network."""

    url: str
    sha256: str
    version: versions.Text


class Package(schema.Strict):
    """A Debian package that contains a tarball."""

    name: str
    file: Path


class Spec(schema.Strict):
    """One entry of sources.yaml."""

    tarball: Tarball | None = None
    package: Package | None = None
    commit: str = "HEAD"
    cflags: tuple[str, ...] = ()
    objects: int


class Catalogue(schema.Strict):
    """sources.yaml."""

    auto: tuple[str, ...]
    sources: dict[str, Spec]


@dataclass(frozen=True)
class Source:
    """A source that was found. `path` is None while it must still be downloaded."""

    name: str
    kind: Literal["tarball", "tree", "git"]
    version: Version
    digest: str
    origin: str
    path: Path | None
    files: Snapshot | None = field(default=None, repr=False, compare=False)

    @property
    def spec(self) -> Spec:
        return catalogue().sources[self.name]


@functools.cache
def catalogue() -> Catalogue:
    """What sources.yaml says."""
    return schema.load(CATALOGUE, Catalogue)


def names() -> tuple[str, ...]:
    """What a user may ask for."""
    return (AUTO, *catalogue().sources)


def candidates(name: str) -> tuple[str, ...]:
    """The sources to try for `name`, best first."""
    if name == AUTO:
        return catalogue().auto
    if name not in catalogue().sources:
        raise UsageError(f"there is no kernel source {name!r}", hint=f"one of: {', '.join(names())}")
    return (name,)


def locate(name: str, *, location: str | None, cache: Cache) -> Source:
    """Find the source `name`, or what is at `location`: a tree, a tarball, or REPOSITORY@COMMIT.

    Nothing is downloaded. With a location, `auto` is whatever series is found there. Raises UsageError if
    the location is wrong, InfrastructureError if there is none and the default cannot be had.
    """
    given, by = location, "--source-location"
    if given is None and name != AUTO:
        setting = _setting(name)
        given, by = setting.get() or None, setting.env
    if given is not None:
        return _located(name, given, by, cache)
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
    """The same source with a `path`, downloaded into the cache if it is not there.

    Raises InfrastructureError without a network, or if what arrives is not what was pinned.
    """
    if source.path is not None:
        return source
    tarball = source.spec.tarball
    assert tarball is not None  # noqa: S101 -- only a pinned tarball is located without a path

    def make(folder: Path) -> dict[str, Any]:
        _download(tarball, folder / _basename(tarball.url), _hint(source.name))
        return {"url": tarball.url, "sha256": tarball.sha256}

    entry = cache.build("source", tarball.sha256, make)
    return replace(source, path=entry.path / _basename(tarball.url))


def check_reachable(source: Source) -> None:
    """Make sure that `obtain` could begin: raises what it would raise if the server cannot be reached."""
    if source.path is None and source.spec.tarball is not None:
        url = source.spec.tarball.url
        with _explained(url, _hint(source.name)):
            _asked(url).close()


def _hint(name: str) -> str:
    return f"give a local tree or tarball: {_setting(name).env}=/a/tree"


def _setting(name: str) -> settings.Setting:
    env = "SENTINEL_LINUX_" + name.replace(".", "_")
    known = {s.env: s for s in settings.ALL}
    return known.get(env) or settings.Setting(env, "", f"a Linux {name} tree, tarball, or REPOSITORY@COMMIT")


def _located(name: str, location: str, by: str, cache: Cache) -> Source:
    path = Path(location).expanduser()
    repository, at, commit = location.rpartition("@")
    if at and not path.exists():
        source = _commit(name, Path(repository).expanduser(), commit, by)
    elif path.is_dir():
        source = _tree(name, path.resolve(), cache)
    elif path.is_file():
        source = _tarball(name, path.resolve(), cache)
    else:
        raise UsageError(
            f"{by}={location}: no such file or folder", hint="a tree, a tarball, or REPOSITORY@COMMIT"
        )
    return _of_expected_series(name, source, f"{by}={location}")


def _of_expected_series(name: str, source: Source, what: str) -> Source:
    found = source.version
    if name == AUTO and found.series in catalogue().sources:
        return replace(source, name=found.series)
    if found.series != name:
        wanted = " or ".join(catalogue().sources) if name == AUTO else name
        raise UsageError(f"{what} is Linux {found}, not {wanted}")
    return source


def _not_linux(what: object) -> UsageError:
    return UsageError(f"{what}: not a Linux source: its top Makefile names no VERSION and PATCHLEVEL")


def _tree(name: str, path: Path, cache: Cache) -> Source:
    makefile = path / "Makefile"
    version = versions.of_makefile(makefile.read_text(errors="replace")) if makefile.is_file() else None
    if version is None:
        hint = f"{path}@COMMIT names a commit of it" if (path / "HEAD").is_file() else None
        error = _not_linux(path)
        raise UsageError(error.message, hint=hint)
    found = snapshot(path, memo=_memo(cache, "tree", path))
    return Source(name, "tree", version, f"tree:{found.digest}", str(path), path, found)


def _commit(name: str, repository: Path, commit: str, by: str) -> Source:
    if not repository.is_dir():
        raise UsageError(
            f"{by}={repository}@{commit}: {repository} is not a folder",
            hint="clone the repository first: git clone --bare URL FOLDER",
        )
    wanted = commit or (catalogue().sources[name].commit if name != AUTO else "HEAD")
    parsed = _git(repository, "rev-parse", "--verify", "--quiet", f"{wanted}^{{commit}}")
    if parsed is None:
        if _git(repository, "rev-parse", "--git-dir") is None:
            raise UsageError(f"{by}: {repository} is not a git repository")
        raise UsageError(
            f"{by}: the commit {wanted} is not in {repository}", hint=f"git -C {repository} fetch"
        )
    exact = parsed.strip()
    version = versions.of_makefile(_git(repository, "show", f"{exact}:Makefile") or "")
    if version is None:
        raise _not_linux(f"{repository}@{wanted}")
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
    known = _recall(memo)
    if known.get("stamp") != stamp:
        with step(f"Reading {path.name}"):
            version = _version_in_tarball(path)
            known = {"stamp": stamp, "sha256": files.sha256_file(path), "version": str(version)}
        files.write_json(memo, known)
    return Source(
        name, "tarball", versions.parse(known["version"]), f"sha256:{known['sha256']}", str(path), path
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


def _memo(cache: Cache, what: str, path: Path) -> Path:
    key = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return cache.root / "scratch" / "kernel-memo" / f"{what}-{key}.json"


def _recall(memo: Path) -> dict[str, Any]:
    try:
        known: dict[str, Any] = files.read_json(memo)
    except (OSError, ValueError):
        return {}
    return known


def _basename(url: str) -> str:
    return url.rpartition("/")[2]


def _download(tarball: Tarball, target: Path, hint: str) -> None:
    name = _basename(tarball.url)
    digest = hashlib.sha256()
    with step(f"Downloading {name}") as s:
        for piece, share in _pieces(tarball.url, hint):
            digest.update(piece)
            with target.open("ab") as out:
                out.write(piece)
            s.update(share, tarball.url)
    if digest.hexdigest() != tarball.sha256:
        raise InfrastructureError(
            f"{tarball.url}: what arrived is not {name}: its sha256 is {digest.hexdigest()}, "
            f"it must be {tarball.sha256}",
            hint="a proxy may have answered in its place",
        )


def _asked(url: str) -> http.client.HTTPResponse:
    """The server's answer. The time limit holds for all its addresses and the name lookup together."""
    answers: queue.SimpleQueue[http.client.HTTPResponse | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(urllib.request.urlopen(url, timeout=TIMEOUT_S))  # noqa: S310 -- pinned by hash
        except Exception as e:
            answers.put(e)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=TIMEOUT_S)
    except queue.Empty:
        raise TimeoutError(f"no answer within {TIMEOUT_S:g} s") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _pieces(url: str, hint: str) -> Iterator[tuple[bytes, float | None]]:
    """Yield (bytes, share of the whole or None); network errors become one line."""
    with _explained(url, hint), _asked(url) as answer:
        size = int(answer.headers.get("Content-Length") or 0)
        got = 0
        while piece := answer.read(_CHUNK):
            got += len(piece)
            yield piece, (got / size if size else None)
        if got < size:
            raise http.client.IncompleteRead(b"", size - got)


@contextlib.contextmanager
def _explained(url: str, hint: str) -> Iterator[None]:
    try:
        yield
    except (urllib.error.URLError, http.client.HTTPException, OSError) as e:
        reason = getattr(e, "reason", None) or e
        raise InfrastructureError(f"{url} cannot be downloaded: {reason}", hint=hint) from None
