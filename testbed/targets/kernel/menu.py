# SPDX-License-Identifier: Apache-2.0
"""GRUB's menu on a target: our entries, its default, and the entry of the next boot."""

from __future__ import annotations

from pathlib import Path

from testbed.common.errors import InfrastructureError
from testbed.targets.kernel import state as states
from testbed.targets.kernel.hands import Hands
from testbed.targets.kernel.places import Places, entry_id

_SCRIPT = Path(__file__).parent / "99_sentinel"
_DEFAULT = '# Written by `sentinel target install-kernel --default`\nGRUB_DEFAULT="{}"\n'
# $1: a folder that may be missing; $2: the list of what was made
_MAKE_FOLDER = 'if [ ! -d "$1" ]; then echo "$1" >>"$2"; mkdir "$1"; fi'
_REMOVE = 'for file; do rm -f "$file" "$(dirname "$file")/.$(basename "$file").new"; done'
_UPDATE = "update-grub"
# $1: the menu. One that does not name a kernel of ours is left alone; a target may have lost its GRUB.
_UPDATE_IF_LISTED = r"""
if grep -q "[\"']sentinel-" "$1" 2>/dev/null && command -v update-grub >/dev/null; then update-grub; fi
"""
# $1: GRUB's variables. Those that name an entry of ours, or that our boot has left empty, go.
_FORGET = """
[ -e "$1" ] && command -v grub-editenv >/dev/null || exit 0
for variable in next_entry saved_entry prev_saved_entry; do
  case $(grub-editenv "$1" list | sed -n "s/^$variable=/=/p") in
    =sentinel-* | =) grub-editenv "$1" unset $variable ;;
  esac
done
"""


def show(hands: Hands, places: Places, *, default: str) -> None:
    """Make GRUB list all complete kernels, and boot the release `default` by default if that is not empty.

    Raises `InfrastructureError` if the menu does not become so.
    """
    hands.write("add a boot entry", places.entries, _SCRIPT.read_text(), mode="755")
    if default:
        folder = str(Path(places.default).parent)
        hands.run("add a setting of GRUB", _MAKE_FOLDER, folder, places.made)
        hands.write("set GRUB's default", places.default, _DEFAULT.format(entry_id(default)))
    else:
        hands.run("reset GRUB's default", _REMOVE, places.default)
    hands.run("update GRUB's menu", _UPDATE)
    _check(hands, places, default)


def _check(hands: Hands, places: Places, default: str) -> None:
    state = states.read(hands.machine.shell, places)
    problem = None
    if missing := set(state.installed) - set(state.entries):
        problem = f"update-grub did not add an entry for {', '.join(sorted(missing))}"
    elif default and state.default != default:
        problem = "another file in /etc/default/grub.d sets GRUB_DEFAULT, too"
    elif not default and state.first:
        problem = "GRUB lists no other kernel, so this one would be the default"
    if problem is not None:
        raise InfrastructureError(f"{hands.place}: {problem}", log=hands.log)


def hide(hands: Hands, places: Places) -> None:
    """Make GRUB list none of our kernels, and boot none next time."""
    hands.run("remove the boot entries", _REMOVE, places.entries, places.default)
    hands.run("reset GRUB's next entry", _FORGET, places.environment)
    hands.run("update GRUB's menu", _UPDATE_IF_LISTED, places.menu)
