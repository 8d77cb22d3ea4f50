# SPDX-License-Identifier: Apache-2.0
"""A machine that boots by GRUB: a folder with the files of its root, and programs that work on them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from testbed.targets.kernel.places import Places
from tests.fakes.programs import Programs

OWN = "6.1.0-18-amd64"
_CMDLINE = f"BOOT_IMAGE=/boot/vmlinuz-{OWN} root=UUID=0-1 ro quiet"
_CONFIG = "CONFIG_SMP=y\nCONFIG_MODULES=y\nCONFIG_EXT4_FS=m\nCONFIG_XFS_FS=m\n# CONFIG_KASAN is not set\n"
_LIBRARY = """
make_system_path_relative_to_its_root() { echo "${1#@ROOT@}"; }
prepare_grub_to_access_device() {
  echo "insmod part_gpt"; echo "insmod ext2"; echo "search --no-floppy --fs-uuid --set=root 0-2"
}
"""
_10_LINUX = r"""#!/bin/sh
for kernel in @ROOT@/boot/vmlinuz-*; do
  [ -e "$kernel" ] || continue
  release=${kernel##*/vmlinuz-}
  echo "menuentry 'Debian, with Linux $release' \$menuentry_id_option 'gnulinux-$release' {"
  echo "linux /boot/vmlinuz-$release root=UUID=0-1 ro quiet"
  echo "}"
done
"""
_PROGRAMS = {
    "id": "echo 0",  # whoever runs the tests is root there
    "uname": """
case $1 in
  -r) cat @ROOT@/running ;;
  -s) echo Linux ;;
  -m) echo x86_64 ;;
  *) echo "#1 SMP Debian" ;;
esac
""",
    "update-grub": r"""
if [ -e @ROOT@/broken ]; then echo "grub-probe: error: disk failure." >&2; exit 1; fi
. @ROOT@/etc/default/grub
for file in @ROOT@/etc/default/grub.d/*.cfg; do [ ! -e "$file" ] || . "$file"; done
export pkgdatadir=@ROOT@/usr/share/grub GRUB_DEVICE_BOOT=/dev/sda2
{
  printf 'if [ "${next_entry}" ] ; then\n   set default="${next_entry}"\n   set next_entry=\n'
  printf '   save_env next_entry\nelse\n   set default="%s"\nfi\n' "$GRUB_DEFAULT"
  for script in @ROOT@/etc/grub.d/*; do
    [ ! -x "$script" ] || sed "s,/boot/sentinel/\\*,@ROOT@/boot/sentinel/*," "$script" | sh || exit 1
  done
} >@ROOT@/boot/grub/grub.cfg.new || exit 1
mv @ROOT@/boot/grub/grub.cfg.new @ROOT@/boot/grub/grub.cfg
""",
    "grub-editenv": r"""
file=$1
[ -e "$file" ] || : >"$file"
case $2 in
  list) cat "$file" ;;
  set) sed "/^${3%%=*}=/d" "$file" >"$file.new"; echo "$3" >>"$file.new"; mv "$file.new" "$file" ;;
  unset) sed "/^$3=/d" "$file" >"$file.new"; mv "$file.new" "$file" ;;
esac
""",
    "grub-reboot": 'grub-editenv @ROOT@/boot/grub/grubenv set "next_entry=$1"',
    "grub-probe": 'cat "@ROOT@/${1#--target=}"',
    "sync": ":",  # no test survives a power cut anyway
    "depmod": 'echo deps >"@ROOT@/lib/modules/$1/modules.dep"',
    "mkinitramfs": r"""
while [ $# -gt 1 ]; do [ "$1" != -o ] || out=$2; shift; done
if [ ! -e "@ROOT@/boot/config-$1" ]; then echo "E: no configuration" >&2; exit 1; fi
if [ -e @ROOT@/full ]; then : >"$out"; echo "gzip: stdout: No space left on device" >&2; exit 1; fi
echo "initramfs of $1" >"$out"
""",
    # GRUB itself, and the kernel that it boots
    "systemctl": r"""
[ "$1" = reboot ] && [ ! -e @ROOT@/stuck ] || exit 1
entry=$(sed -n 's/^next_entry=//p' @ROOT@/boot/grub/grubenv 2>/dev/null)
[ -z "$entry" ] || grub-editenv @ROOT@/boot/grub/grubenv set next_entry=
if [ -e @ROOT@/panics ] || [ -z "$entry" ]; then
  entry=$(sed -n 's/^   set default="\([^$].*\)"/\1/p' @ROOT@/boot/grub/grub.cfg)
fi
line=$(grep -A 5 "'$entry' {" @ROOT@/boot/grub/grub.cfg | grep '^linux ' | head -n 1)
case $entry in sentinel-*) echo "${entry#sentinel-}" ;; *) echo @OWN@ ;; esac >@ROOT@/running
[ -z "$line" ] || echo "BOOT_IMAGE=${line#linux }" >@ROOT@/proc/cmdline
echo "boot-$(date +%N)" >@ROOT@/proc/sys/kernel/random/boot_id
""",
}


class GrubMachine:
    """The machine. `places` are its files, `programs` its programs."""

    def __init__(self, root: Path, programs: Programs) -> None:
        self.root = root
        self.places = Places(str(root))
        self.programs = programs
        for path, text in {
            "running": OWN,
            "abstraction": "",
            "fs": "ext2\n",
            "proc/cmdline": _CMDLINE,
            "proc/modules": "ext4 1 2 - Live 0x0\nnvme 3 4 - Live 0x0\n",
            "proc/cpuinfo": "address sizes\t: 46 bits physical, 48 bits virtual\n",
            "proc/sys/kernel/random/boot_id": "boot-0\n",
            f"boot/vmlinuz-{OWN}": "its own kernel",
            f"boot/initrd.img-{OWN}": "its own initramfs",
            f"boot/config-{OWN}": _CONFIG,
            "boot/grub/grubenv": "saved_entry=0\n",
            "etc/default/grub": "GRUB_DEFAULT=0\n",
            "etc/grub.d/10_linux": _10_LINUX,
            "usr/share/grub/grub-mkconfig_lib": _LIBRARY,
            f"lib/modules/{OWN}/modules.dep": "deps\n",
        }.items():
            self.write(path, text)
        (root / "etc/grub.d/10_linux").chmod(0o755)
        (root / "etc/default/grub.d").mkdir()
        for name, body in _PROGRAMS.items():
            programs.shell(name, self._filled(body))
        self.update_grub()

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(self._filled(text))

    def _filled(self, text: str) -> str:
        return text.replace("@ROOT@", str(self.root)).replace("@OWN@", OWN)

    def run(self, *words: str) -> None:
        """Run a program of the machine."""
        subprocess.run([self.programs.folder / words[0], *words[1:]], check=True)

    def update_grub(self) -> None:
        self.run("update-grub")

    @property
    def menu(self) -> str:
        return (self.root / "boot/grub/grub.cfg").read_text()

    @property
    def running(self) -> str:
        return (self.root / "running").read_text().strip()

    def boot(self) -> None:
        """Boot as after a power cycle."""
        self.run("systemctl", "reboot")

    def tree(self) -> dict[str, tuple[int, str | None]]:
        """Return all folders and files with mode and content, but for what a boot changes."""
        passing = ("proc", "running")
        return {
            str(path.relative_to(self.root)): (
                path.lstat().st_mode,
                path.read_text() if path.is_file() else None,
            )
            for path in sorted(self.root.rglob("*"))
            if path.relative_to(self.root).parts[0] not in passing
        }
