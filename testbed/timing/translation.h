/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Translation of guest code: which instructions have callbacks. */
#ifndef SENTINEL_TIMING_TRANSLATION_H
#define SENTINEL_TIMING_TRANSLATION_H

#include "vcpu.h"

/* Called for each block of guest code that QEMU translates. */
void on_translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb);

#endif
