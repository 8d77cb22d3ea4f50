/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Regions of interest, the processes that they belong to, and the log of counters. Functions with
 * `cpu` are called by the thread of that vCPU.
 */
#ifndef SENTINEL_TIMING_REGIONS_H
#define SENTINEL_TIMING_REGIONS_H

#include "vcpu.h"

/* Open the log at options.log_path. Returns false with errno set on failure. */
bool open_log(void);

/* Write a line with all counters to the log. `fields` are further JSON members, or empty. */
void log_counters(unsigned int cpu, unsigned int marker, const char *fields);

/* Begin a region of the current process. Ends its previous region if that is open. */
void begin_region(unsigned int cpu);

/* End the region of the current process, at its marker. Returns false if it has none. */
bool end_marked_region(unsigned int cpu);

/* The vCPU switches to a process. */
void switch_process(unsigned int cpu, int process);

/* A process exits or executes another program: end everything that it left open. */
void end_process(unsigned int cpu, int process);

/* The machine was reset. */
void reset_machine(unsigned int cpu);

/* Check whether the machine was restored. Called when a vCPU resumes. */
void check_restored(unsigned int cpu);

/* Check whether the machine was reset or restored: the process is unknown then. */
void check_machine(unsigned int cpu);

/* Have all code translated again, with or without callbacks (plugin.c). */
void set_instrumentation(bool on);

#endif
