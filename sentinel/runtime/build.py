# SPDX-License-Identifier: Apache-2.0
"""Builds the runtime library on the host for the guest's TensorFlow and libraries.

TensorFlow's headers and library come from the pinned wheel, and the other libraries from the guest's image,
so that the result is linked against exactly the libraries it runs with. Two differences have to be bridged:

- The wheel was built by gcc 4.8, whose hash tables have 48 bytes. Newer ones embed a bucket and have 56, so
  every class that contains one would be shifted. `old_hashtable` restores that layout in a copy of it.
- Debian 11's glibc and libstdc++ are older than the host's headers: see tensorflow/guest_abi.cc.

The library goes to /opt/sentinel/libsentinel.so in the guest. meson.build has the sources and flags.
"""

from __future__ import annotations

import os
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

from images import build as images
from images import definition, wheels
from testbed.common import files
from testbed.common.cache import Cache
from testbed.common.errors import BuildError, InfrastructureError
from testbed.common.progress import step
from testbed.common.run import run, stream, version_of, which

KIND = "runtime"
NAME = "libsentinel.so"
SOURCES = Path(__file__).parent
JSON_HEADERS = Path("/usr/include/nlohmann")
_ROOT = SOURCES.parent.parent
_FOLDERS = (SOURCES, SOURCES.parent / "profiler", _ROOT / "testbed" / "timing" / "client")
_OPTIONS = ("-Doptimization=2", "-Ddebug=false", "-Db_ndebug=true")
_NO_FLAGS = dict.fromkeys(("CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS"), "")  # the user's own
# In the guest's image; symbolic links are resolved
_GUEST_LIBRARIES = (
    "/usr/lib/x86_64-linux-gnu/libstdc++.so.6",
    "/lib/x86_64-linux-gnu/libpthread.so.0",
    "/lib/x86_64-linux-gnu/libc.so.6",
    "/lib/x86_64-linux-gnu/libgcc_s.so.1",
    "/lib64/ld-linux-x86-64.so.2",
)


def build(*, cache: Cache | None = None) -> Path:
    """Return the path of `libsentinel.so`, compiled if it is not in the cache.

    Builds the guest's image if that is missing. Raises `BuildError`, naming the log, if compilation fails, or
    `InfrastructureError` if a program is missing.
    """
    cache = cache or Cache()
    compiler = which("g++", package="g++")
    meson = which("meson")
    which("debugfs", package="e2fsprogs")
    if not JSON_HEADERS.is_dir():
        raise InfrastructureError(f"{JSON_HEADERS} does not exist", hint="apt-get install nlohmann-json3-dev")
    image_definition = definition.default()
    image = images.build(cache=cache, guest=image_definition)
    key = files.sha256_json(
        {
            "compiler": version_of(compiler),
            "meson": version_of(meson),
            "options": _OPTIONS,
            "image": image.entry.key,
            "wheels": image_definition.wheels_key,
            "sources": {str(p.relative_to(_ROOT)): files.sha256_file(p) for p in _sources()},
            "json": {str(p): files.sha256_file(p) for p in sorted(JSON_HEADERS.rglob("*.hpp"))},
        }
    )

    def make(folder: Path) -> dict[str, Any]:
        packages = wheels.fetch(image_definition, cache=cache, log=folder / "wheels.log")
        scratch = folder / "scratch"
        with cache.using(packages), cache.using(image.entry):
            tensorflow = _unpack(next(packages.path.glob("tensorflow-*.whl")), scratch / "tensorflow")
            libraries = [_dump(image.disk, path, scratch / "guest") for path in _GUEST_LIBRARIES]
        header = scratch / "gcc48" / "bits" / "hashtable.h"
        header.parent.mkdir(parents=True)
        header.write_text(old_hashtable(host_header(compiler).read_text()))
        _compile(folder, scratch, compiler, tensorflow, libraries)
        shutil.rmtree(scratch)
        return {"image": image.entry.key}

    entry = cache.get(KIND, key)
    if entry is None:
        with step("Runtime library for TensorFlow"):
            entry = cache.build(KIND, key, make)
    return entry.path / NAME


def _sources() -> list[Path]:
    """Every file that the library is built from."""
    paths = [p for folder in _FOLDERS for p in folder.rglob("*")]
    return [*sorted(p for p in paths if p.suffix in {".cc", ".c", ".h", ".build", ".txt"}), Path(__file__)]


def _compile(folder: Path, scratch: Path, compiler: str, tensorflow: Path, libraries: list[Path]) -> None:
    log, build_folder = folder / "build.log", scratch / "build"
    options = [
        *_OPTIONS,
        f"-Dtensorflow={tensorflow}",
        f"-Dgcc48_headers={scratch / 'gcc48'}",
        f"-Dguest_libraries={','.join(map(str, libraries))}",
    ]
    setup = ["meson", "setup", str(build_folder), str(SOURCES), *options]
    environment = {"CC": which("gcc"), "CXX": compiler, **_NO_FLAGS}
    stream(setup, log=log, env=environment, error=BuildError, what="configuring the runtime library")
    compile_ = ["ninja", "-C", str(build_folder), f"-j{os.cpu_count()}"]
    stream(compile_, log=log, error=BuildError, what="compiling the runtime library")
    shutil.move(build_folder / NAME, folder / NAME)


def _unpack(wheel: Path, target: Path) -> Path:
    """Unpack headers and library of TensorFlow's wheel; return the folder that holds both."""
    with zipfile.ZipFile(wheel) as z:
        members = [
            name
            for name in z.namelist()
            if "/tensorflow/include/" in name or name.endswith("/libtensorflow_framework.so")
        ]
        z.extractall(target, members)
    return next(target.glob("*.data/purelib/tensorflow"))


def _dump(disk: Path, path: str, target: Path) -> Path:
    """Copy a file out of the guest's disk, following symbolic links. The copy has the last link's name."""
    target.mkdir(parents=True, exist_ok=True)
    while (link := _link_target(disk, path)) is not None:
        path = link if link.startswith("/") else str(Path(path).parent / link)
    copy = target / Path(path).name
    run(["debugfs", "-R", f"dump {path} {copy}", str(disk)])
    if not copy.exists() or not copy.stat().st_size:
        raise BuildError(f"the guest's image has no {path}")
    return copy


def _link_target(disk: Path, path: str) -> str | None:
    """Return the target of a symbolic link on the guest's disk; None if the path is no symbolic link."""
    output = run(["debugfs", "-R", f"stat {path}", str(disk)]).stdout
    match = re.search(r'link dest: "([^"]+)"', output)
    return match[1] if match else None


def host_header(compiler: str) -> Path:
    """Return the path of the compiler's own <bits/hashtable.h>."""
    output = run([compiler, "-xc++", "-E", "-", "-H"], stdin="#include <unordered_map>\n")
    return Path(next(w for w in output.stderr.split() if w.endswith("/bits/hashtable.h")))


def old_hashtable(text: str) -> str:
    """Give libstdc++'s <bits/hashtable.h> (gcc 10 to 12) the layout of gcc 4.8: no bucket within the table.

    An empty table then allocates a bucket, too. Raises `BuildError` if the header is not as expected.
    """
    new = "_M_one_bucket()"
    edits = (
        # (pattern, replacement, expected count); a function that allocates a bucket replaces its declaration
        (
            r"(__bucket_type\*|__buckets_ptr)\t\t_M_buckets\t\t= &_M_single_bucket;",
            rf"\1\t\t_M_buckets\t\t= {new};",
            1,
        ),
        (
            r"(__bucket_type|__node_base_ptr)\t\t_M_single_bucket\t= nullptr;",
            rf"\1* {new} {{ return __hashtable_alloc::_M_allocate_buckets(1); }}",
            1,
        ),
        (r"\{ return __builtin_expect\(__bkts == &_M_single_bucket, false\); \}", "{ return false; }", 1),
        (
            r"_M_single_bucket = nullptr;\n\t    return &_M_single_bucket;",
            f"return {new};",
            1,
        ),
        (
            r"_M_single_bucket = nullptr;\n      _M_buckets = &_M_single_bucket;",
            f"_M_buckets = {new};",
            1,
        ),
        # In branches that are no longer taken
        (r"_M_buckets = &_M_single_bucket;", "_M_buckets = nullptr;", None),
        (r"__x\._M_buckets = &__x\._M_single_bucket;", "__x._M_buckets = nullptr;", None),
        (r"_M_single_bucket = __ht\._M_single_bucket;", ";", None),
        (r"std::swap\(_M_single_bucket, __x\._M_single_bucket\);", "", None),
    )
    hint = "use Debian 12's g++ (12.2), or g++ 10 or 11"
    for pattern, replacement, expected in edits:
        text, count = re.subn(pattern, replacement, text)
        if expected is not None and count != expected:
            raise BuildError(
                f"unsupported <bits/hashtable.h> of this compiler: {pattern!r} occurs {count} times",
                hint=hint,
            )
    if "_M_single_bucket" in text.replace("_M_uses_single_bucket", ""):
        raise BuildError(
            "unsupported <bits/hashtable.h> of this compiler: embedded buckets remain", hint=hint
        )
    return text
