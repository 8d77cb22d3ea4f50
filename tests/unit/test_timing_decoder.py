# SPDX-License-Identifier: Apache-2.0
"""Which registers instructions read and write, for the timing model's dependences."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from testbed.common.errors import InfrastructureError
from testbed.timing import plugin

NAMES = (
    *("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"),
    *(f"r{n}" for n in range(8, 16)),
    "flags",
    *(f"v{n}" for n in range(32)),
)


class Instruction(ctypes.Structure):
    _fields_ = [
        ("address", ctypes.c_uint64),
        ("reads", ctypes.c_uint64),
        ("writes", ctypes.c_uint64),
        ("keeps", ctypes.c_uint64),
        ("loads", ctypes.c_bool),
        ("stores", ctypes.c_bool),
        ("fence", ctypes.c_bool),
    ]

    def described(self) -> str:
        """Return "address; reads; writes; keeps; kinds of access"."""
        masks = (self.address, self.reads, self.writes, self.keeps)
        parts = [" ".join(name for bit, name in enumerate(NAMES) if mask >> bit & 1) for mask in masks]
        kinds = [name for name in ("loads", "stores", "fence") if getattr(self, name)]
        return "; ".join((*parts, " ".join(kinds)))


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")
    target = tmp_path_factory.mktemp("decoder") / "decoder.so"
    flags = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    source = str(plugin.SOURCES / "decoder.c")
    subprocess.run(["gcc", *flags, "-o", str(target), source, *plugin.LIBRARIES], check=True)
    loaded = ctypes.CDLL(str(target))
    loaded.decode.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.POINTER(Instruction)]
    loaded.decode.restype = ctypes.c_bool
    return loaded


@pytest.mark.parametrize(
    ("code", "assembly", "expected"),
    [
        ("48 8b 18", "mov (%rax),%rbx", "rax; ; rbx; ; loads"),
        ("8b 1c c8", "mov (%rax,%rcx,8),%ebx", "rax rcx; ; rbx; ; loads"),
        ("48 8b 44 24 08", "mov 8(%rsp),%rax", "; ; rax; ; loads"),
        ("64 48 8b 04 25 28 00 00 00", "mov %fs:0x28,%rax", "; ; rax; ; loads"),
        ("48 89 58 08", "mov %rbx,8(%rax)", "rax; rbx; ; ; stores"),
        ("48 03 18", "add (%rax),%rbx", "rax; rbx; rbx flags; ; loads"),
        ("48 01 18", "add %rbx,(%rax)", "rax; rbx; flags; ; loads stores"),
        ("48 8d 54 08 08", "lea 8(%rax,%rcx),%rdx", "; rax rcx; rdx; ; "),
        ("48 89 c3", "mov %rax,%rbx", "; rax; rbx; ; "),
        ("4d 89 c7", "mov %r8,%r15", "; r8; r15; ; "),
        ("bb 01 00 00 00", "mov $1,%ebx", "; ; rbx; ; "),
        ("88 c3", "mov %al,%bl", "; rax; rbx; rbx; "),
        ("0f b6 06", "movzbl (%rsi),%eax", "rsi; ; rax; ; loads"),
        ("8a 06", "mov (%rsi),%al", "rsi; ; rax; rax; loads"),
        ("48 31 c8", "xor %rcx,%rax", "; rax rcx; rax flags; ; "),
        ("31 c0", "xor %eax,%eax", "; ; rax flags; ; "),
        ("48 29 c9", "sub %rcx,%rcx", "; ; rcx flags; ; "),
        ("66 0f ef c9", "pxor %xmm1,%xmm1", "; ; v1; ; "),
        ("48 3b 18", "cmp (%rax),%rbx", "rax; rbx; flags; ; loads"),
        ("48 0f 4c d1", "cmovl %rcx,%rdx", "; rcx flags; rdx; rdx; "),
        ("48 0f 4c 11", "cmovl (%rcx),%rdx", "rcx; flags; rdx; rdx; loads"),
        ("0f 94 c0", "sete %al", "; flags; rax; rax; "),
        ("74 fe", "je .", "; flags; ; ; "),
        ("53", "push %rbx", "; rbx; ; ; stores"),
        ("5b", "pop %rbx", "; ; rbx; ; loads"),
        ("c3", "ret", "; ; ; ; loads"),
        ("ff 24 c8", "jmp *(%rax,%rcx,8)", "rax rcx; ; ; ; loads"),
        ("c9", "leave", "rbp; rbp; rbp; ; loads"),
        ("f3 48 a5", "rep movsq", "rsi rdi; flags; ; ; loads stores"),
        ("f3 48 ab", "rep stosq", "rdi; rax flags; ; ; stores"),
        ("48 87 03", "xchg %rax,(%rbx)", "rbx; rax; rax; ; loads stores"),
        ("f0 48 0f b1 0b", "lock cmpxchg %rcx,(%rbx)", "rbx; rax rcx; rax flags; rax; loads stores"),
        ("48 f7 33", "divq (%rbx)", "rbx; rax rdx; rax rdx flags; ; loads"),
        ("f2 0f 10 00", "movsd (%rax),%xmm0", "rax; ; v0; ; loads"),
        ("66 48 0f 7e c3", "movq %xmm0,%rbx", "; v0; rbx; ; "),
        ("c4 e2 ed 92 04 c8", "vgatherdpd %ymm2,(%rax,%xmm1,8),%ymm0", "rax v1; v0 v2; v0 v2; ; loads"),
        ("62 e1 f5 40 58 10", "vaddpd (%rax),%zmm17,%zmm18", "rax; v17; v18; ; loads"),
        ("0f ae e8", "lfence", "; ; ; ; fence"),
        ("0f 01 f9", "rdtscp", "; ; rax rcx rdx; ; fence"),
        ("0f 31", "rdtsc", "; ; rax rdx; ; fence"),
        ("0f a2", "cpuid", "; rax rcx; rax rcx rdx rbx; ; fence"),
        ("90", "nop", "; ; ; ; "),
    ],
)
def test_decoder_names_the_registers(decoder: ctypes.CDLL, code: str, assembly: str, expected: str) -> None:
    instruction = Instruction()
    data = bytes.fromhex(code)
    assert decoder.decode(data, len(data), instruction), assembly
    assert instruction.described() == expected, assembly


def test_decoder_takes_32_bit_code_whose_length_differs(decoder: ctypes.CDLL) -> None:
    """0x40 is INC EAX there, and a prefix in 64-bit code."""
    instruction = Instruction()
    assert decoder.decode(b"\x40", 1, instruction)
    assert instruction.described() == "; rax; rax flags; ; "


@pytest.mark.parametrize("code", ["", "66", "48 8b", "0f ff", "48 8b 18 90", "ff" * 15])
def test_decoder_refuses_what_is_not_one_instruction(decoder: ctypes.CDLL, code: str) -> None:
    instruction = Instruction(address=1, loads=True)
    data = bytes.fromhex(code)
    assert not decoder.decode(data, len(data), instruction)
    assert instruction.described() == "; ; ; ; "


def test_decoder_is_named_if_it_is_missing(tmp_path: Path) -> None:
    gcc = tmp_path / "gcc"
    gcc.write_text("#!/bin/sh\necho libZydis.so\n")
    gcc.chmod(0o755)
    with pytest.raises(InfrastructureError, match="needs Zydis") as caught:
        plugin._decoder(str(gcc))
    assert caught.value.hint == "apt-get install libzydis-dev"
