# SPDX-License-Identifier: Apache-2.0
"""Builds the runtime library on the host, for the guest's TensorFlow and the guest's libraries.

TensorFlow's headers and library come from the pinned wheel, the guest's own libraries from its image, so that
what is linked against is what it will run with. Two things stand between Debian 12's compiler and them:

- The wheel was built by gcc 4.8. Its hash tables have 48 bytes where newer ones have 56 (a bucket within),
  so every class with one in it would be shifted: `old_hashtable` makes the older layout of the host's header.
- Debian 11's glibc and libstdc++ are older: see tensorflow/guest_abi.cc.

`libsentinel.so` is copied to /opt/sentinel in the guest.
"""

from __future__ import annotations

import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

from images import build as images
from images import definition, wheels
from testbed.common import files
from testbed.common.cache import Cache
from testbed.common.errors import BuildError
from testbed.common.progress import step
from testbed.common.run import run, stream, version_of, which

KIND = "runtime"
NAME = "libsentinel.so"
SOURCES = Path(__file__).parent
_PROFILER = SOURCES.parent / "profiler"
_MARKERS = SOURCES.parent.parent / "testbed" / "timing" / "client"
_FLAGS = ("-O2", "-fPIC", "-DNDEBUG", "-Wall", "-Wextra", "-fvisibility=hidden")
# absl::string_view, of which TensorFlow's symbols are full, is std::string_view from C++17 on.
_CXX_FLAGS = ("-std=c++14", "-fvisibility-inlines-hidden", "-D_GLIBCXX_USE_CXX11_ABI=0")
# As the image has them; the last names of chains of links.
_GUEST_LIBRARIES = (
    "/usr/lib/x86_64-linux-gnu/libstdc++.so.6",
    "/lib/x86_64-linux-gnu/libpthread.so.0",
    "/lib/x86_64-linux-gnu/libc.so.6",
    "/lib/x86_64-linux-gnu/libgcc_s.so.1",
    "/lib64/ld-linux-x86-64.so.2",
)


def build(*, cache: Cache | None = None) -> Path:
    """`libsentinel.so`, compiled if it is not in the cache. Builds the guest's image if that is missing.

    Raises `BuildError` naming the log, `InfrastructureError` if a program is missing.
    """
    cache = cache or Cache()
    compiler = which("g++", package="g++")
    which("debugfs", package="e2fsprogs")
    wanted = definition.default()
    image = images.build(cache=cache, guest=wanted)
    key = files.sha256_json(
        {
            "compiler": version_of(compiler),
            "flags": [*_FLAGS, *_CXX_FLAGS],
            "image": image.entry.key,
            "wheels": wanted.wheels_key,
            "build": files.sha256_file(Path(__file__)),
            "sources": {str(p.relative_to(SOURCES.parent.parent)): files.sha256_file(p) for p in _sources()},
        }
    )

    def make(folder: Path) -> dict[str, Any]:
        packages = wheels.fetch(wanted, cache=cache, log=folder / "wheels.log")
        scratch = folder / "scratch"
        with cache.using(packages), cache.using(image.entry):
            tensorflow = _unpack(next(packages.path.glob("tensorflow-*.whl")), scratch / "tensorflow")
            libraries = [_dump(image.disk, path, scratch / "guest") for path in _GUEST_LIBRARIES]
        header = scratch / "old" / "bits" / "hashtable.h"
        header.parent.mkdir(parents=True)
        header.write_text(old_hashtable(host_header(compiler).read_text()))
        _compile(compiler, folder, scratch, tensorflow, libraries)
        shutil.rmtree(scratch)
        return {"image": image.entry.key}

    entry = cache.get(KIND, key)
    if entry is None:
        with step("Runtime library for TensorFlow"):
            entry = cache.build(KIND, key, make)
    return entry.path / NAME


def _sources() -> list[Path]:
    return sorted(
        [
            *SOURCES.rglob("*.cc"),
            *SOURCES.rglob("*.h"),
            *_PROFILER.rglob("*.[ch]"),
            *_MARKERS.glob("*.h"),
        ]
    )


def _compile(compiler: str, folder: Path, scratch: Path, tensorflow: Path, libraries: list[Path]) -> None:
    log = folder / "build.log"
    objects = []
    for source in (*sorted(SOURCES.rglob("*.cc")), *_PROFILER.glob("*.c")):
        target = scratch / f"{source.stem}.o"
        language = [*_CXX_FLAGS, "-isystem", scratch / "old", "-isystem", tensorflow / "include"]
        command = [compiler, *(language if source.suffix == ".cc" else ["-xc", "-std=gnu11"]), *_FLAGS]
        command += [f"-I{SOURCES}", f"-I{_PROFILER / 'include'}", "-c", source, "-o", target]
        stream([str(word) for word in command], log=log, error=BuildError, what=f"compiling {source.name}")
        objects.append(target)
    # -nodefaultlibs: not the host's libraries, for their symbols have versions that the guest's do not know
    command = [compiler, "-shared", "-nodefaultlibs", "-Wl,-z,defs", "-s", "-o", folder / NAME, *objects]
    command += [f"-L{tensorflow}", "-l:libtensorflow_framework.so", *libraries, "-lgcc"]
    stream([str(word) for word in command], log=log, error=BuildError, what=f"linking {NAME}")


def _unpack(wheel: Path, target: Path) -> Path:
    """The headers and the library in TensorFlow's wheel; where `include` is below."""
    with zipfile.ZipFile(wheel) as z:
        wanted = [
            name
            for name in z.namelist()
            if "/tensorflow/include/" in name or name.endswith("/libtensorflow_framework.so")
        ]
        z.extractall(target, wanted)
    return next(target.glob("*.data/purelib/tensorflow"))


def _dump(disk: Path, path: str, target: Path) -> Path:
    """A file of the guest's disk, by its last name: links are followed."""
    target.mkdir(parents=True, exist_ok=True)
    while (link := _link(disk, path)) is not None:
        path = link if link.startswith("/") else str(Path(path).parent / link)
    copy = target / Path(path).name
    run(["debugfs", "-R", f"dump {path} {copy}", str(disk)])
    if not copy.exists() or not copy.stat().st_size:
        raise BuildError(f"the guest's image has no {path}")
    return copy


def _link(disk: Path, path: str) -> str | None:
    """Where a symbolic link on the guest's disk leads, or None if the path is none."""
    said = run(["debugfs", "-R", f"stat {path}", str(disk)]).stdout
    match = re.search(r'link dest: "([^"]+)"', said)
    return match[1] if match else None


def host_header(compiler: str) -> Path:
    """The compiler's own <bits/hashtable.h>."""
    said = run([compiler, "-xc++", "-E", "-", "-H"], stdin="#include <unordered_map>\n")
    return Path(next(w for w in said.stderr.split() if w.endswith("/bits/hashtable.h")))


def old_hashtable(text: str) -> str:
    """libstdc++'s <bits/hashtable.h> (gcc 10 to 12) with gcc 4.8's layout: no bucket within the table.

    A table without elements then has a bucket on the heap too. Raises `BuildError` for a header that is
    not as expected, rather than make something that is almost right.
    """
    new = "_M_one_bucket()"
    edits = (
        # (what, instead, how often); the declaration of the bucket becomes a function that makes one
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
        # Within branches that are never taken now
        (r"_M_buckets = &_M_single_bucket;", "_M_buckets = nullptr;", None),
        (r"__x\._M_buckets = &__x\._M_single_bucket;", "__x._M_buckets = nullptr;", None),
        (r"_M_single_bucket = __ht\._M_single_bucket;", ";", None),
        (r"std::swap\(_M_single_bucket, __x\._M_single_bucket\);", "", None),
    )
    for what, instead, times in edits:
        text, found = re.subn(what, instead, text)
        if times is not None and found != times:
            raise BuildError(
                f"this compiler's <bits/hashtable.h> is another one: {what!r} is there {found} times",
                hint="use Debian 12's g++ (12.2), or 10 or 11",
            )
    if "_M_single_bucket" in text.replace("_M_uses_single_bucket", ""):
        raise BuildError(
            "this compiler's <bits/hashtable.h> is another one: buckets within are left",
            hint="use Debian 12's g++ (12.2), or 10 or 11",
        )
    return text
