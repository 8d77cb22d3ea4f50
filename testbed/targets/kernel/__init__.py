# SPDX-License-Identifier: Apache-2.0
"""Our kernels on a real machine: installed beside its own, booted once, removed without a trace.

/boot/sentinel/RELEASE/     vmlinuz, config, initrd.img; `cmdline` is written last and marks it as complete
/boot/sentinel/made         folders and files of the machine that did not exist before
/boot/config-RELEASE        its configuration, where mkinitramfs looks for it
/lib/modules/RELEASE/       its modules
/etc/grub.d/99_sentinel     prints a menu entry for each complete kernel
/etc/default/grub.d/99-sentinel.cfg    makes one the default; only there if asked for

GRUB's own scripts take no notice of /boot/sentinel, so none of these kernels becomes the default by itself.
The folder RELEASE is created before anything else of a kernel, and removed after it: whatever interrupts a
command, the names of the folders say what there is to remove.
"""
