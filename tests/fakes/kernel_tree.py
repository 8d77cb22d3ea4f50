# SPDX-License-Identifier: Apache-2.0
"""A kernel source that builds in milliseconds, with a Makefile that answers to what the builder asks of one.

Its "compiler" copies; a .c file that contains `error` fails to compile, `undeclared` to link, and one with
`linger PATH` compiles until PATH exists.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from pytest import MonkeyPatch

from kernel import config, series, source

SOURCES = {
    "init/main.c": "int main;\n",
    "mm/migrate.c": "int a;\nint b;\nint c;\nint migrate;\nint d;\nint e;\nint f;\n",
    "mm/memory.c": "int fault;\n",
    "fs/ext4.c": "int ext4;\n",
}

_MAKEFILE = """\
VERSION = {version}
PATCHLEVEL = {patchlevel}
SUBLEVEL = {sublevel}
EXTRAVERSION =

ARCH ?= arm
KCONFIG_CONFIG ?= .config
RELEASE = $(VERSION).$(PATCHLEVEL).$(SUBLEVEL)$(LOCALVERSION)
DOT_CONFIG = $(if $(filter /%,$(KCONFIG_CONFIG)),$(KCONFIG_CONFIG),$(O)/$(KCONFIG_CONFIG))
INSTALLED = $(INSTALL_MOD_PATH)/lib/modules/$(RELEASE)
objs := $(patsubst %.c,$(O)/%.o,$(sort $(wildcard */*.c)))

ifneq ($(ARCH),x86_64)
$(error ARCH is $(ARCH))
endif

bzImage: $(O)/arch/x86/boot/bzImage

mrproper:
	@rm -rf .config include/config
	@find . -name '*.o' -delete

allnoconfig:
	@mkdir -p $(O)
	@grep -vwF -f dropped $$KCONFIG_ALLCONFIG > $(KCONFIG_CONFIG); true

olddefconfig:
	@test -e $(DOT_CONFIG)

localmodconfig: olddefconfig
	@sh ./localmod $(DOT_CONFIG) $$LSMOD

modules: bzImage
	@echo "  CC [M]  fs/module.o"
	@sed -n 's/^CONFIG_\\(.*\\)=m/\\1/p' $(O)/.config > $(O)/modules.order

modules_install:
	@mkdir -p $(INSTALLED)
	@for name in $$(cat $(O)/modules.order); do echo $$name > $(INSTALLED)/$$name.ko; done
	@ln -s $(CURDIR) $(INSTALLED)/build
	@$(DEPMOD) $(RELEASE)

kernelrelease:
	@echo $(RELEASE)

$(O)/%.o: %.c
	@echo "  CC      $*.o"
	@mkdir -p $(@D)
	@sh ./compile $< $@

$(O)/arch/x86/boot/bzImage: $(objs) $(O)/.config
	@mkdir -p $(@D)
	@if grep -l undeclared $(objs); then echo "ld: mm/x.o: undefined reference to \\`gone'"; exit 1; fi
	@echo "  LD      vmlinux"
	@cat $(objs) $(O)/.config > $@
	@echo "$(KBUILD_BUILD_USER)@$(KBUILD_BUILD_HOST) #$(KBUILD_BUILD_VERSION) $(KBUILD_BUILD_TIMESTAMP)" >> $@
	@echo "map" > $(O)/System.map
"""

_COMPILE = """\
go=$(sed -n 's/^linger //p' $1)
if test -n "$go"; then
  echo half > $2
  while ! test -e $go; do sleep 0.02; done
fi
at=$(grep -n error $1 | head -1 | cut -d: -f1)
if test -n "$at"; then
  echo "$PWD/$1:$at:1: error: expected ';'"
  echo "$PWD/$1:9:1: error: second"
  exit 1
fi
cp $1 $2
"""

# Module names of this source are symbols in lower case
_LOCALMOD = """\
for symbol in $(sed -n 's/^CONFIG_\\(.*\\)=m/\\1/p' $1); do
  name=$(echo $symbol | tr A-Z a-z)
  grep -qx $name $2 || sed -i "s/^CONFIG_$symbol=m/# CONFIG_$symbol is not set/" $1
done
for name in $(sed 1d $2); do
  symbol=$(echo $name | tr a-z A-Z)
  grep -q CONFIG_$symbol= $1 || echo "$name config not found!!" >&2
done
"""


def make_tree(folder: Path, *, version: str = "4.9.0", dropped: Sequence[str] = ()) -> Path:
    """Write a source of that version whose kconfig drops some symbols."""
    numbers = dict(zip(("version", "patchlevel", "sublevel"), version.split("."), strict=True))
    text = _MAKEFILE
    for name, number in numbers.items():
        text = text.replace(f"{{{name}}}", number)
    content = {
        "Makefile": text,
        "compile": _COMPILE,
        "localmod": _LOCALMOD,
        "dropped": "\n".join([*dropped, "CONFIG_NO_SUCH"]) + "\n",
    }
    for name, what in {**SOURCES, **content}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(what)
    return folder


def make_tarball(tree: Path, path: Path, *, top: str = "linux-4.9") -> Path:
    """Pack a source as a kernel's tarball is packed."""
    subprocess.run(
        ["tar", "-cJf", path, f"--transform=s,^\\.,{top},", "-C", tree, "."], check=True, capture_output=True
    )
    return path


def make_repository(tree: Path) -> str:
    """Make a source a git repository with one commit; returns it."""
    git = ["git", "-C", str(tree), "-c", "user.name=A", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "Linux"]):
        subprocess.run([*git, *words], check=True, capture_output=True)
    return subprocess.run(
        [*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()


def patch(path: str, old: str, new: str, *, at: int = 1) -> str:
    """A git-style patch that replaces one line."""
    return (
        f"From: A\nSubject: [PATCH] a change\n\n---\ndiff --git a/{path} b/{path}\n"
        f"--- a/{path}\n+++ b/{path}\n@@ -{at} +{at} @@\n-{old}\n+{new}\n"
    )


class Data:
    """A patch series, config fragments and a catalogue of sources that a test may write as it likes."""

    def __init__(self, folder: Path, monkeypatch: MonkeyPatch) -> None:
        self.folder = folder
        (folder / "patches").mkdir(parents=True)
        (folder / "config").mkdir()
        self.series({})
        self.fragment("base", 'CONFIG_SMP=y\nCONFIG_MODULES=n\nCONFIG_LOCALVERSION=""\n')
        self.expected("expected: []\n")
        self.sources('auto: ["4.9"]\nsources:\n  "4.9": {objects: 5}\n  "6.1": {objects: 5}\n')
        monkeypatch.setattr(series, "FOLDER", folder / "patches")
        monkeypatch.setattr(config, "FOLDER", folder / "config")
        monkeypatch.setattr(source, "CATALOGUE", folder / "sources.yaml")

    def series(self, patches: dict[str, str], *, bounds: str = "") -> None:
        """Make these the patches, all with the same bounds."""
        for name, text in patches.items():
            (self.folder / "patches" / name).write_text(text)
        members = "".join(f"  - {{patch: {name}{bounds}}}\n" for name in patches)
        (self.folder / "patches" / "series.yaml").write_text(
            f"series:\n{members}" if members else "series: []\n"
        )

    def fragment(self, name: str, text: str) -> None:
        (self.folder / "config" / f"{name}.config").write_text(text)

    def expected(self, text: str) -> None:
        (self.folder / "config" / "expected.yaml").write_text(text)

    def sources(self, text: str) -> None:
        (self.folder / "sources.yaml").write_text(text)
        source.catalogue.cache_clear()
