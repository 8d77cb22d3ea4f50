# SPDX-License-Identifier: Apache-2.0
"""`sentinel profile --host`, with a program that pretends to be the namespaces and the training in them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from experiments import frameworks, host_profile, job
from experiments.job import ProcessError, Work
from images import build as images
from images import definition
from images import root as roots
from sentinel.planner.formats import files, profile_json
from sentinel.planner.formats.profile import Native
from sentinel.planner.timing.cost import estimate_costs, estimate_traffic
from testbed.common.cache import Cache
from testbed.common.errors import ExitCode, InfrastructureError, UsageError, WorkloadError
from tests.fakes import profiles
from tests.fakes.profiles import BIG, LAYERS, MEGA, SIMPLE, variable, written_then_read
from tests.fakes.programs import Programs

Run = Callable[..., tuple[int, str, str]]
SPEED = 20.0
KIND = "0123456789ab"
# The fake is `setpriv ... sh -uc SETUP sh TOP IMAGE FOLDER (SOURCE PLACE)... -- (NAME=VALUE)... PROGRAM`.
FAKE = """
import json, os, shutil, time
words = sys.argv[sys.argv.index('-uc') + 3:]
end = words.index('--')
places = dict(zip(words[4:end:2], words[3:end:2]))
program = [word for word in words[end + 1:] if '=' not in word]
trouble = Path(TROUBLE).read_text() if Path(TROUBLE).exists() else ''
if trouble == 'mount':
    print('mount: /x: no loop device\\ncannot mount the image through a loop device')
    sys.exit(97)
if trouble == 'namespace':
    print('unshare: unshare failed: Operation not permitted')
    sys.exit(1)
if 'guest.speed' in program:
    print('a warning\\n20.0')
    sys.exit(0)
job = Path(places['/run/sentinel/job'])
if trouble == 'status 97':
    print("a script's own")
    sys.exit(97)
if trouble == 'import':
    print('Traceback\\nImportError: no module')
    sys.exit(1)
if trouble == 'hang':
    (job.parent.parent / 'hanging').write_text(str(os.getpid()))
    time.sleep(600)
work = json.loads((job / 'job.json').read_text())
os.mkfifo(job / 'barrier')
(job / 'waiting').write_text('{}')
order = json.loads((job / 'barrier').read_text())
(job / 'seen.json').write_text(json.dumps([work, order, words[2], program]))
shutil.copy(job / 'seen.json', SEEN)
with (job / 'steps.jsonl').open('w') as f:
    for step in range(order['warmup'] + order['steps']):
        record = {'step': step, 'kind': 'KIND', 'warmup': step < order['warmup'], 'guest_ns': 10**6}
        f.write(json.dumps(record) + '\\n')
    if trouble == 'step':
        print('ValueError: bad batch')
        sys.exit(3)
    folder = job / 'profiles'
    folder.mkdir()
    for kind in {'': ['KIND'], 'kinds': ['KIND', 'other'], 'none': []}.get(trouble, []):
        shutil.copy(PROFILE, folder / f'{kind}.json.gz')
    f.write('{"end": true}\\n' if trouble != 'short' else '')
"""


def write_profile(path: Path) -> None:
    value = profiles.random_value(3)
    value |= {"clock": "cpu", "counts": "ops"}
    value["ops"].pop("fast_ns", None)
    files.write_profile(path, profile_json.parse(value))


class Host:
    """A host with an image, and the trouble that its programs make."""

    def __init__(self, folder: Path, cache: Cache) -> None:
        self.folder, self.cache = folder, cache

    def trouble(self, kind: str) -> None:
        (self.folder / "trouble").write_text(kind)

    def seen(self) -> tuple[dict[str, object], dict[str, object], str, list[str]]:
        work, order, folder, program = json.loads((self.folder / "seen").read_text())
        return work, order, folder, program


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    folder = tmp_path / "host"
    programs = Programs(folder / "bin", monkeypatch)
    write_profile(folder / "profile.json.gz")
    names = {"TROUBLE": "trouble", "SEEN": "seen", "PROFILE": "profile.json.gz"}
    body = FAKE.replace("'KIND'", repr(KIND))
    for name, file in names.items():
        body = body.replace(name, repr(str(folder / file)))
    programs.python("setpriv", body)
    monkeypatch.setenv("SENTINEL_CACHE", str(folder / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("testbed.host.memory.available", lambda: 8 << 30)
    library = folder / "libsentinel.so"
    library.write_bytes(b"")
    monkeypatch.setattr(frameworks.DEFAULT, "build_runtime", lambda *, cache: library)
    cache = Cache(folder / "cache")

    def fill(entry: Path) -> dict[str, object]:
        (entry / images.DISK).write_bytes(b"")
        return {}

    cache.build(images.KIND, definition.default().key, fill)
    return Host(folder, cache)


def work(**model: object) -> Work:
    return Work(seed=7, threads=1, runtime=True, model={"name": "cnn", "batch": 8, **model})


def test_the_process_gets_its_job_and_order(host: Host) -> None:
    (kind,) = host_profile.record(work(), warmup=2, steps=3, cache=host.cache)
    seen, order, folder, program = host.seen()
    assert kind == KIND
    assert seen == work().job()
    assert order == {"warmup": 2, "steps": 3, "profile": "/run/sentinel/job/profiles"}
    assert (folder, program[-2:]) == (job.FOLDER, ["guest.train", job.FOLDER])


def test_the_profile_says_where_it_was_recorded(host: Host) -> None:
    profile = host_profile.record(work(), socket_speed=500, cache=host.cache)[KIND]
    assert profile.native is not None
    assert (profile.native.core_speed, profile.native.socket_speed) == (SPEED, 500)
    assert profile.native.scale == SPEED / 500
    assert profile.native.processor
    assert profile.clock == "cpu"


def test_nothing_is_left_behind(host: Host) -> None:
    stale = host.folder / "sentinel-host-999999999-x"
    stale.mkdir()
    host_profile.record(work(), cache=host.cache)
    host.trouble("step")
    with pytest.raises(ProcessError):
        host_profile.record(work(), cache=host.cache)
    assert list(host.folder.glob("sentinel-host-*")) == []


@pytest.mark.parametrize(
    ("trouble", "error", "message"),
    [
        ("namespace", InfrastructureError, "this host cannot create namespaces: unshare: .* not permitted"),
        ("status 97", ProcessError, "cnn, before its first session, failed: .* status 97: a script's own"),
        ("mount", InfrastructureError, "this host cannot mount the image through a loop device: mount: /x"),
        (
            "import",
            ProcessError,
            "cnn, before its first session, failed: .* status 1: ImportError: no module",
        ),
        ("step", ProcessError, "cnn failed: .*exit status 3: ValueError: bad batch"),
        ("short", ProcessError, "cnn failed: the training process ended too early"),
        ("none", WorkloadError, "cnn wrote no profile: no kind of step ran 2 times"),
    ],
)
def test_failures_are_one_line(host: Host, trouble: str, error: type[Exception], message: str) -> None:
    host.trouble(trouble)
    with pytest.raises(error, match=message) as raised:
        host_profile.record(work(), cache=host.cache)
    assert "\n" not in str(raised.value)


def test_only_root_can_mount_the_image(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(InfrastructureError, match="only root can run programs in the guest image") as raised:
        host_profile.record(work(), cache=host.cache)
    assert raised.value.hint


def test_a_missing_image_is_said_with_the_command_that_builds_it(host: Host, tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="the guest image is not built") as raised:
        host_profile.record(work(), cache=Cache(tmp_path / "empty"))
    assert raised.value.hint == "sentinel image build"


def test_a_host_without_memory_is_refused(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("testbed.host.memory.available", lambda: 1 << 30)
    with pytest.raises(InfrastructureError, match=r"needs 2 GiB, and this host has 1.0 GiB available"):
        host_profile.record(work(), cache=host.cache)


def test_a_training_that_takes_all_memory_is_ended(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.trouble("hang")
    hanging = host.folder / "hanging"
    monkeypatch.setattr("testbed.host.memory.available", lambda: (1 << 20) if hanging.exists() else 8 << 30)
    with pytest.raises(InfrastructureError, match="the training left this host 512 MiB, and was ended"):
        host_profile.record(work(), cache=host.cache)
    assert not Path("/proc", hanging.read_text()).exists()


@contextlib.contextmanager
def program(host: Host) -> Iterator[subprocess.Popen[bytes]]:
    """The command in a process of its own, in which only the checks of the host are replaced."""
    code = f"""
import os, tempfile
from pathlib import Path
from experiments import frameworks
from sentinel.cli import main
os.geteuid = lambda: 0
tempfile.tempdir = {str(host.folder)!r}
frameworks.DEFAULT.build_runtime = lambda *, cache: Path({str(host.folder / "libsentinel.so")!r})
main.main(["profile", "--host", "cnn", "-o", {str(host.folder / "out.json.gz")!r}])
"""
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) as process:
        yield process


@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)]
)
def test_an_interrupted_command_leaves_no_process(host: Host, sent: int, code: int) -> None:
    host.trouble("hang")
    hanging = host.folder / "hanging"
    with program(host) as process:
        while not hanging.exists() or not hanging.read_text():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(sent)
        process.communicate()
        assert process.returncode == code
    if sent != signal.SIGKILL:  # a real setpriv ends it then
        assert not Path("/proc", hanging.read_text()).exists()
        assert list(host.folder.glob("sentinel-host-*")) == []
    else:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(hanging.read_text()), signal.SIGKILL)
    assert not (host.folder / "out.json.gz").exists()


def test_models_and_scripts_are_profiled_into_files_and_folders(
    host: Host, tmp_path: Path, sentinel_: Run
) -> None:
    out = tmp_path / "new" / "cnn.json.gz"
    code, _, err = sentinel_("profile", "--host", "cnn", "--parameter", "batch=4", "-o", out)
    assert (code, f"wrote the profile to {out}" in err.replace("\n", "")) == (0, True)
    assert host.seen()[0]["model"] == {"name": "cnn", "batch": 4}
    assert files.read_profile(out).native is not None
    script = tmp_path / "train.py"
    script.write_text("pass\n")
    code, _, _ = sentinel_("profile", "--host", script, "--arg=--lr", "--arg=0.1", "-o", tmp_path / "kinds")
    _, order, folder, words = host.seen()
    assert (code, order["steps"], folder) == (0, 8, "/root/script")
    assert words[-3:] == ["train.py", "--lr", "0.1"]
    assert [path.name for path in (tmp_path / "kinds").iterdir()] == [f"{KIND}.json.gz"]
    host.trouble("kinds")
    assert sentinel_("profile", "--host", "cnn", "-o", tmp_path / "kinds")[0] == 0
    assert len(list((tmp_path / "kinds").iterdir())) == 2
    code, _, err = sentinel_("profile", "--host", "cnn", "-o", out)
    assert (code, "cnn has 2 kinds of steps" in err) == (ExitCode.USAGE, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("cnn",), "needs --host"),
        (("--host", "nothing"), "no script and no model nothing"),
        (("--host", "cnn", "--arg", "x"), "--arg is not for a MODEL"),
        (("--host", "cnn", "--parameter", "batch"), "--parameter batch: must be NAME=VALUE"),
        (("--host", "cnn", "--parameter", "batch=0"), "--parameter batch: "),
        (("--host", "cnn", "--parameter", "wdth=2"), "cnn has no such parameter"),
        (("--host", "resnet", "--configuration", "huge"), "--configuration: must be one of paper, emulated"),
    ],
)
def test_wrong_words_are_one_line(
    host: Host, tmp_path: Path, sentinel_: Run, words: tuple[str, ...], message: str
) -> None:
    code, out, err = sentinel_("profile", *words, "-o", tmp_path / "x.json.gz")
    assert (code, out) == (ExitCode.USAGE, "")
    assert message in " ".join(err.split())


def test_the_namespaces_end_with_the_command() -> None:
    """The flags on which the ends of all mounts and processes depend."""
    root = roots.Root(Path("/x/rootfs.ext4"), Path("/x/top"), {"/opt/sentinel": Path("/x/code")})
    command = root.command(["python2.7", "-V"], folder="/root", env={"A": "b c"})
    assert command[:3] == ["setpriv", "--pdeathsig", "KILL"]
    assert {"--mount", "--pid", "--fork", "--kill-child"} <= set(command)
    assert command[-10:] == [
        *("sh", "/x/top", "/x/rootfs.ext4", "/root", "/x/code", "/opt/sentinel", "--"),
        *("A=b c", "python2.7", "-V"),
    ]


def test_computing_time_is_scaled_and_memory_time_added() -> None:
    tensors = [variable(1, 2, n=7), written_then_read(0, 5)]
    value = profile_json.encode(profiles.small(LAYERS, MEGA, tensors))
    value |= {"clock": "cpu", "native": {"processor": "x", "core_speed": 20, "socket_speed": 200}}
    step = profile_json.parse(value)
    assert step.native == Native("x", 20, 200)
    assert profile_json.parse(profile_json.encode(step)).native == step.native
    costs = estimate_costs(step, SIMPLE)
    read, written = estimate_traffic(step, SIMPLE.cache_bytes)
    compute_ns = sum(MEGA) / 10
    for ns, node in ((costs.fast_ns, 0), (costs.slow_ns, 1)):
        memory_ns = read.sum() * SIMPLE.read_ns(node, SIMPLE.compute_mlp) + written.sum() * SIMPLE.write_ns(
            node
        )
        assert ns == pytest.approx(compute_ns + memory_ns)
    assert read.sum() == 3 * BIG


def test_a_native_profile_needs_its_speeds() -> None:
    value = profile_json.encode(profiles.small(LAYERS, MEGA, []))
    with pytest.raises(Exception, match=r"native\.socket_speed: "):
        profile_json.parse({**value, "native": {"processor": "x", "core_speed": 1, "socket_speed": 0}})


def test_a_data_folder_that_is_missing_is_refused(host: Host, tmp_path: Path) -> None:
    from sentinel.cli.host_profiles import _model

    with pytest.raises(UsageError, match="no such folder"):
        _model("resnet", None, (f"data={tmp_path / 'none'}",), 7)


def record(kind: str, ns: int, *, warmup: bool = False) -> dict[str, object]:
    return {"kind": kind, "guest_ns": ns, "warmup": warmup}


def test_times_are_those_of_steps_that_nothing_records() -> None:
    step = profiles.small(LAYERS, MEGA, [])
    records = [record("a", 1, warmup=True), *(record("a", ns) for ns in (9, 9))]
    records += [record("a", step.step_ns * factor) for factor in (7, 2, 1)]
    scaled = host_profile.undisturbed({"a": step}, [*records, {"end": True}])["a"]
    assert scaled.step_ns == 2 * step.step_ns
    assert scaled.ops.slot_ns.tolist() == [2 * ns for ns in step.ops.slot_ns.tolist()]
    assert host_profile.undisturbed({"a": step}, records[:3])["a"].step_ns == step.step_ns


def test_kinds_of_one_iteration_are_scaled_alike() -> None:
    step = profiles.small(LAYERS, MEGA, [])
    records = [record("a", 9), record("a", 9), record("a", step.step_ns)]
    for scaled in host_profile.undisturbed({"a": step, "b": step}, records).values():
        assert scaled.step_ns == step.step_ns // 2
