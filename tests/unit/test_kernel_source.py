# SPDX-License-Identifier: Apache-2.0
"""Finding sources, and one clear line for each way in which that fails."""

from __future__ import annotations

import hashlib
import http.server
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel import download, source
from kernel.source import Source, locate, obtain
from kernel.versions import Version, of_makefile, parse
from testbed.common import files
from testbed.common.cache import Cache
from testbed.common.errors import InfrastructureError, SentinelError, UsageError
from tests.fakes import kernel_tree


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[kernel_tree.Data]:
    for name in ("4_9", "6_1"):
        monkeypatch.delenv(f"SENTINEL_LINUX_{name}", raising=False)
    yield kernel_tree.Data(tmp_path / "data", monkeypatch)
    source.catalogue.cache_clear()


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return kernel_tree.make_tree(tmp_path / "linux")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The URL of a web server that serves tmp_path/www."""
    (tmp_path / "www").mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(tmp_path / "www"))  # type: ignore[arg-type]

        def log_message(self, *args: object) -> None:
            pass

        def send_header(self, keyword: str, value: str) -> None:
            longer = "cut" in self.path and keyword == "Content-Length"
            super().send_header(keyword, str(int(value) + 100) if longer else value)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


def pinned(url: str, content: bytes, *, version: str = "4.9.0") -> str:
    digest = hashlib.sha256(content).hexdigest()
    return (
        'auto: ["4.9"]\nsources:\n  "4.9":\n    objects: 5\n'
        f'    tarball: {{url: "{url}", sha256: "{digest}", version: "{version}"}}\n'
    )


def failure(
    name: str, location: str | None, cache: Cache, kind: type[SentinelError] = UsageError
) -> SentinelError:
    with pytest.raises(kind) as caught:
        obtain(locate(name, location=location, cache=cache), cache=cache)
    assert "\n" not in caught.value.message
    return caught.value


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("VERSION = 4\nPATCHLEVEL = 9\nSUBLEVEL = 337\nEXTRAVERSION = -x\n", Version(4, 9, 337)),
        ("VERSION=6\nPATCHLEVEL=1\n", Version(6, 1)),
        ("all:\n\tcc\n", None),
    ],
)
def test_version_of_a_makefile(text: str, version: Version | None) -> None:
    assert of_makefile(text) == version


def test_versions_are_ordered_as_numbers() -> None:
    assert parse("4.9") < parse("4.9.337") < parse("4.10") < parse("6.1")
    assert str(parse("4.9")) == "4.9.0"
    with pytest.raises(ValueError, match=r"such as 4.9"):
        parse("4")


def test_a_location_comes_from_the_option_or_the_environment(
    data: kernel_tree.Data, cache: Cache, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = kernel_tree.make_tree(tmp_path / "other", version="4.9.337")
    monkeypatch.setenv("SENTINEL_LINUX_4_9", str(other))
    assert locate("4.9", location=None, cache=cache).path == other
    assert locate("4.9", location=None, cache=cache).version == Version(4, 9, 337)
    assert locate("4.9", location=str(tree), cache=cache).path == tree


def test_a_new_source_needs_no_code(
    data: kernel_tree.Data, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data.sources('auto: ["5.10"]\nsources:\n  "5.10": {objects: 9}\n')
    monkeypatch.setenv("SENTINEL_LINUX_5_10", str(kernel_tree.make_tree(tmp_path / "l", version="5.10.3")))
    assert source.names() == ("auto", "5.10")
    assert locate("5.10", location=None, cache=cache).version == Version(5, 10, 3)
    assert failure("4.9", str(tmp_path / "l"), cache).message.endswith("is Linux 5.10.3, not 4.9")
    with pytest.raises(UsageError, match=r"unknown kernel source '4.9'"):
        source.candidates("4.9")


def test_wrong_locations(data: kernel_tree.Data, cache: Cache, tree: Path, tmp_path: Path) -> None:
    six = kernel_tree.make_tree(tmp_path / "six", version="6.1.7")
    assert failure("4.9", str(six), cache).message == f"--source-location={six} is Linux 6.1.7, not 4.9"
    five = kernel_tree.make_tree(tmp_path / "five", version="5.10.1")
    assert "is Linux 5.10.1, not 4.9 or 6.1" in failure("auto", str(five), cache).message
    assert "no such file or folder" in failure("4.9", str(tmp_path / "none"), cache).message
    (tmp_path / "empty").mkdir()
    assert "not a Linux source" in failure("4.9", str(tmp_path / "empty"), cache).message
    (tmp_path / "text").write_text("hello")
    assert "cannot be read as a tarball" in failure("4.9", str(tmp_path / "text"), cache).message
    wrong = kernel_tree.make_tarball(six, tmp_path / "six.tar.xz")
    assert "is Linux 6.1.7, not 4.9" in failure("4.9", str(wrong), cache).message
    damaged = tmp_path / "damaged.tar.xz"
    damaged.write_bytes(wrong.read_bytes()[:300])
    assert "cannot be read as a tarball" in failure("4.9", str(damaged), cache).message


def test_wrong_commits(data: kernel_tree.Data, cache: Cache, tree: Path, tmp_path: Path) -> None:
    assert "not a git repository" in failure("4.9", f"{tree}@HEAD", cache).message
    commit = kernel_tree.make_repository(tree)
    assert locate("4.9", location=f"{tree}@HEAD", cache=cache).digest == f"git:{commit}"
    missing = failure("4.9", f"{tree}@{'1' * 40}", cache)
    assert missing.message == f"--source-location: commit {'1' * 40} is not in {tree}"
    assert "is not a folder" in failure("4.9", "https://example.org/linux@v4.9", cache).message
    assert "is Linux 4.9.0, not 6.1" in failure("6.1", f"{tree}@HEAD", cache).message


def test_an_empty_commit_means_the_pinned_one(data: kernel_tree.Data, cache: Cache, tree: Path) -> None:
    commit = kernel_tree.make_repository(tree)
    data.sources(f'auto: ["4.9"]\nsources:\n  "4.9": {{objects: 5, commit: "{commit}"}}\n')
    (tree / "init/main.c").write_text("int later;\n")
    kernel_tree.make_repository(tree)
    assert locate("4.9", location=f"{tree}@", cache=cache).digest == f"git:{commit}"


def test_a_missing_package_is_named(data: kernel_tree.Data, cache: Cache, tmp_path: Path) -> None:
    data.sources(
        'auto: ["6.1"]\nsources:\n  "6.1":\n    objects: 5\n'
        f"    package: {{name: linux-source-6.1, file: {tmp_path}/none.tar.xz}}\n"
    )
    error = failure("6.1", None, cache, InfrastructureError)
    assert error.message == "the package linux-source-6.1 is not installed"
    assert error.hint == "apt-get install linux-source-6.1, or SENTINEL_LINUX_6_1=/a/tree"


def test_a_download_is_verified_and_cached(
    data: kernel_tree.Data, cache: Cache, server: str, tmp_path: Path
) -> None:
    content = b"a tarball" * 1000
    (tmp_path / "www/linux-4.9.tar.xz").write_bytes(content)
    data.sources(pinned(f"{server}/linux-4.9.tar.xz", content))
    located = locate("4.9", location=None, cache=cache)
    assert located.path is None
    got = obtain(located, cache=cache)
    assert got.path is not None
    assert got.path.read_bytes() == content
    assert got.digest == located.digest
    (tmp_path / "www/linux-4.9.tar.xz").unlink()
    assert locate("4.9", location=None, cache=cache).path == got.path
    assert [e.kind for e in cache.entries()] == ["source"]


def test_a_download_with_the_wrong_content_is_refused(
    data: kernel_tree.Data, cache: Cache, server: str, tmp_path: Path
) -> None:
    (tmp_path / "www/linux-4.9.tar.xz").write_bytes(b"please log in")
    (tmp_path / "www/cut.tar.xz").write_bytes(b"half")
    data.sources(pinned(f"{server}/linux-4.9.tar.xz", b"a tarball"))
    error = failure("4.9", None, cache, InfrastructureError)
    assert "wrong content: sha256 is " in error.message
    assert hashlib.sha256(b"a tarball").hexdigest() in error.message
    data.sources(pinned(f"{server}/none.tar.xz", b"a tarball"))
    assert "cannot be downloaded: " in failure("4.9", None, cache, InfrastructureError).message
    data.sources(pinned(f"{server}/cut.tar.xz", b"half"))
    assert "IncompleteRead" in failure("4.9", None, cache, InfrastructureError).message
    assert cache.entries() == []


def test_no_network_fails_at_once(data: kernel_tree.Data, cache: Cache) -> None:
    data.sources(pinned("http://127.0.0.1:9/linux-4.9.tar.xz", b""))
    started = time.monotonic()
    error = failure("4.9", None, cache, InfrastructureError)
    assert time.monotonic() - started < 5
    assert "Connection refused" in error.message
    assert error.hint == "use a local tree or tarball: SENTINEL_LINUX_4_9=/a/tree"


def test_a_silent_server_times_out(
    data: kernel_tree.Data, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "TIMEOUT_S", (0.2, 0.2))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        data.sources(pinned(f"http://127.0.0.1:{silent.getsockname()[1]}/linux-4.9.tar.xz", b""))
        error = failure("4.9", None, cache, InfrastructureError)
    assert "timed out" in error.message


def test_a_tarball_is_hashed_once(
    data: kernel_tree.Data, cache: Cache, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = kernel_tree.make_tarball(tree, tmp_path / "linux.tar.xz")
    first = locate("4.9", location=str(path), cache=cache)
    assert first.digest == f"sha256:{files.sha256_file(path)}"

    def never(path: Path) -> str:
        raise AssertionError(f"read {path} again")

    with monkeypatch.context() as patched:
        patched.setattr(files, "sha256_file", never)
        assert locate("4.9", location=str(path), cache=cache) == first
    (tree / "init/main.c").write_text("int changed;\n")
    kernel_tree.make_tarball(tree, path)
    assert locate("4.9", location=str(path), cache=cache).digest != first.digest


def test_only_changed_files_of_a_tree_are_read_again(
    data: kernel_tree.Data, cache: Cache, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find() -> Source:
        return locate("4.9", location=str(tree), cache=cache)

    first = find()
    time.sleep(0.1)  # more than a tick of the file system clock
    assert find() == first
    reads: list[str] = []
    original = Path.read_bytes

    def read(path: Path) -> bytes:
        reads.append(path.name)
        return original(path)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", read)
        assert find() == first
        assert reads == []
        (tree / "init/main.c").write_text("int main, more;\n")
        second = find()
        assert reads == ["main.c"]
    (tree / "init/main.c").chmod(0o755)
    third = find()
    (tree / "init/main.c").rename(tree / "init/start.c")
    fourth = find()
    (tree / "init/main.c").symlink_to("start.c")
    fifth = find()
    assert len({s.digest for s in (first, second, third, fourth, fifth)}) == 5
