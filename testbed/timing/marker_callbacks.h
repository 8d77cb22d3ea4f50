/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the plugin does when the guest executes a marker. */
#ifndef SENTINEL_TIMING_MARKER_CALLBACKS_H
#define SENTINEL_TIMING_MARKER_CALLBACKS_H

#include "vcpu.h"

/* Called for each marker; `data` is its number. */
void on_marker(unsigned int cpu, void *data);

/* Returns true for markers with an argument: two loads follow, whose addresses are the argument. */
bool has_argument(int marker);

/* The first load after such a marker: its address carries the lower half of the argument. */
void on_argument_low(unsigned int cpu, qemu_plugin_meminfo_t info, uint64_t address, void *data);

/* The second load: its address carries the upper half. `data` is the number. */
void on_argument(unsigned int cpu, qemu_plugin_meminfo_t info, uint64_t address, void *data);

#endif
