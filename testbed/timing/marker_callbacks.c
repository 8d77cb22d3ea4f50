// SPDX-License-Identifier: GPL-2.0-or-later
#include "marker_callbacks.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "accesses.h"
#include "oracle.h"
#include "pacing.h"
#include "regions.h"
#include "tracer.h"

static atomic_int counted = NO_PROCESS; /* the process of the oracle's counts */
static pthread_mutex_t pages_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned int page_files; /* number of files of page counts; protected by pages_lock */

static void warn_unknown(unsigned int marker)
{
	static atomic_bool warned;

	if (!atomic_exchange(&warned, true))
		fprintf(stderr, "timing: unknown marker %u ignored\n", marker);
}

void on_argument_low(unsigned int cpu, qemu_plugin_meminfo_t info, uint64_t address, void *data)
{
	(void)info;
	(void)data;
	if (is_modelled(cpu))
		vcpus[cpu].argument = address % MARKER_ARGUMENTS;
}

/* Virtual addresses have new physical addresses. */
static void forget_addresses(void)
{
	for (unsigned int i = 0; i < n_vcpus; i++)
		vcpus[i].stale = true;
}

void on_argument(unsigned int cpu, qemu_plugin_meminfo_t info, uint64_t address, void *data)
{
	unsigned int marker = (unsigned int)(uintptr_t)data, value;

	(void)info;
	if (!is_modelled(cpu))
		return;
	value = vcpus[cpu].argument + address % MARKER_ARGUMENTS * MARKER_ARGUMENTS;
	if (marker == MARKER_PROCESS) {
		switch_process(cpu, (int)value);
	} else if (marker == MARKER_PROCESS_END) {
		end_process(cpu, (int)value);
	} else if (active && marker == MARKER_REMAPPED) {
		forget_addresses();
		model_remap(model, cpu, value);
	} else if (active && value < MODEL_NODES) {
		forget_addresses();
		increment(&vcpus[cpu].pages[value]);
		model_charge(model, cpu, options.page_ns);
	}
}

/* Write the oracle's counts to a file. Formats the log fields. Returns `text`. */
static const char *write_pages(char *text, size_t size)
{
	char path[sizeof(options.log_path) + 32];
	FILE *file;
	bool written = false;

	pthread_mutex_lock(&pages_lock);
	snprintf(path, sizeof(path), "%.*s/pages-%u.csv",
		 (int)(strrchr(options.log_path, '/') - options.log_path), options.log_path,
		 page_files);
	file = fopen(path, "we");
	if (file) {
		written = oracle_write(oracle, file);
		written &= fclose(file) == 0;
	}
	if (!written)
		fprintf(stderr, "timing: cannot write page counts: %s: %s\n", path,
			strerror(errno));
	snprintf(text, size, ", \"process\": %d, \"pages\": %s%s%s", (int)counted,
		 written ? "\"" : "", written ? strrchr(path, '/') + 1 : "null",
		 written ? "\"" : "");
	page_files++;
	pthread_mutex_unlock(&pages_lock);
	return text;
}

/* Markers within a trace, which take no time. */
static void mark_trace(unsigned int marker)
{
	if (marker == MARKER_TRACE_EVENT)
		trace_event();
	else
		trace_pause(marker == MARKER_TRACE_PAUSE);
}

void on_marker(unsigned int cpu, void *data)
{
	unsigned int marker = (unsigned int)(uintptr_t)data;
	char text[sizeof(options.log_path) + 64];
	const char *fields = "", *trace;
	struct vcpu *v = &vcpus[cpu];

	if (!is_modelled(cpu))
		return;
	if (marker >= MARKER_TRACE_EVENT && marker <= MARKER_TRACE_RESUME) {
		if (!cpu)
			mark_trace(marker);
		return;
	}
	check_start(cpu);
	flush_pending(cpu);
	model_drain(model, cpu);
	switch (marker) {
	case MARKER_REGION_BEGIN:
		begin_region(cpu);
		snprintf(text, sizeof(text), ", \"process\": %d", v->process);
		fields = text;
		break;
	case MARKER_REGION_END:
		if (end_marked_region(cpu))
			return;
		break;
	case MARKER_STEP_BEGIN:
	case MARKER_STEP_END:
		break;
	case MARKER_SERIAL_BEGIN:
	case MARKER_SERIAL_END:
		v->serial = marker == MARKER_SERIAL_BEGIN;
		v->serial_process = v->serial ? v->process : NO_PROCESS;
		model_serial(model, cpu, v->serial);
		return;
	case MARKER_CLOCK:
		publish(cpu);
		if (clock_page)
			clock_page->late[cpu] = v->dilation > 0 ? ns_late(cpu) : 0;
		return;
	case MARKER_OBSERVE:
		oracle_clear(oracle);
		observed = counted = v->process;
		return;
	case MARKER_PAGES:
		fields = write_pages(text, sizeof(text));
		break;
	case MARKER_TRACE_BEGIN:
		if (!cpu)
			trace_begin();
		return;
	case MARKER_TRACE_END:
		if (cpu)
			return;
		trace = trace_end();
		snprintf(text, sizeof(text), ", \"trace\": %s%s%s", trace ? "\"" : "",
			 trace ? trace : "null", trace ? "\"" : "");
		fields = text;
		break;
	case MARKER_PAGE_MIGRATED: /* handled by on_argument() */
	case MARKER_PROCESS:
	case MARKER_PROCESS_END:
	case MARKER_REMAPPED:
		return;
	default:
		if (marker < MARKER_LAYER ||
		    (marker >= MARKER_LAYER + MARKER_LAYERS && marker < MARKER_USER)) {
			warn_unknown(marker);
			return;
		}
	}
	publish(cpu);
	log_counters(cpu, marker, fields);
}

bool has_argument(int marker)
{
	return marker == MARKER_PAGE_MIGRATED || marker == MARKER_PROCESS ||
	       marker == MARKER_PROCESS_END || marker == MARKER_REMAPPED;
}
