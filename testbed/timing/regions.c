// SPDX-License-Identifier: GPL-2.0-or-later
#include "regions.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "accesses.h"
#include "pacing.h"

#define MAX_REGIONS 64 /* open at once */

static FILE *log_file;
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static bool log_failed;

/* Protects the regions */
static pthread_mutex_t region_lock = PTHREAD_MUTEX_INITIALIZER;
static int regions[MAX_REGIONS]; /* process IDs */
static unsigned int open_regions;
static uint64_t generation;  /* of the clock page */
static atomic_uint machines; /* number of resets and restores */

bool open_log(void)
{
	log_file = fopen(options.log_path, "ae");
	return log_file;
}

/* Write a line with all counters to the log. `fields` are further JSON members, or empty. */
void log_counters(unsigned int cpu, unsigned int marker, const char *fields)
{
	const char *comma = "";
	int failed = 0;

	pthread_mutex_lock(&log_lock);
	failed |= fprintf(log_file, "{\"marker\": %u, \"vcpu\": %u, \"ns\": %.1f, \"vcpus\": [",
			  marker, cpu, model_clock(model, cpu)) < 0;
	for (unsigned int i = 0; i < n_vcpus; i++) {
		struct model_counters c;

		if (!vcpus[i].present)
			continue;
		c = model_counters(model, i);
		failed |=
			fprintf(log_file,
				"%s{\"vcpu\": %u, \"ns\": %.1f, \"instructions\": %" PRIu64
				", \"accesses\": %" PRIu64 ", \"misses\": [%" PRIu64 ", %" PRIu64
				"], \"read\": [%" PRIu64 ", %" PRIu64 "], \"written\": [%" PRIu64
				", %" PRIu64 "], \"near\": %" PRIu64 ", \"pages\": [%" PRIu64
				", %" PRIu64
				"], \"compute_ns\": %.1f, \"memory_ns\": %.1f, \"queue_ns\": %.1f, "
				"\"waited_ns\": %.1f, "
				"\"charged_ns\": %.1f, \"idle_ns\": %.1f, \"held\": %" PRIu64 "}",
				comma, i, model_clock(model, i), c.instructions, c.accesses,
				c.misses[0], c.misses[1], c.bytes_read[0], c.bytes_read[1],
				c.bytes_written[0], c.bytes_written[1], c.hits_near,
				(uint64_t)vcpus[i].pages[0], (uint64_t)vcpus[i].pages[1], c.compute,
				c.memory, c.queue, model_waited(model, i), c.charged, c.idle,
				(uint64_t)vcpus[i].held) < 0;
		comma = ", ";
	}
	failed |= fprintf(log_file, "]%s}\n", fields) < 0;
	failed |= fflush(log_file) != 0;
	if (failed && !log_failed) {
		log_failed = true;
		fprintf(stderr, "timing: cannot write counters any more: %s: %s\n",
			options.log_path, strerror(errno));
	}
	pthread_mutex_unlock(&log_lock);
}

/* Start the model with the requested dilation, when the first region begins. */
static void start_model(void)
{
	start_pacing(clock_page ? clock_page->dilation : 0);
	active = true;
	set_instrumentation(true);
}

/* Format the log fields of a region's end, and update the clock page. Returns `text`. */
static const char *describe_end(char *text, size_t size, int process, const char *cause)
{
	struct pacing_summary summary = summarise_pacing();

	snprintf(text, size,
		 ", \"process\": %d, \"cause\": \"%s\", \"dilation\": %.6g, \"needed\": %.6g, "
		 "\"behind\": %.6g",
		 process, cause, summary.dilation, summary.needed, summary.behind);
	if (clock_page) {
		clock_page->needed = summary.needed;
		clock_page->behind = summary.behind;
	}
	return text;
}

/* Set the process with a region that a helper runs, 0 for none: that core does not compute. */
static void set_migrating(unsigned int cpu, int process)
{
	bool before = atomic_exchange(&vcpus[cpu].migrates_for, process);

	model_migrating(model, (process != 0) - before);
}

/* Returns whether a process has a region. */
static bool has_region(int process)
{
	bool found = false;

	pthread_mutex_lock(&region_lock);
	for (unsigned int i = 0; i < open_regions; i++)
		found |= regions[i] == process;
	pthread_mutex_unlock(&region_lock);
	return found;
}

/* End the region of a process. Returns false if it has none. Called with region_lock. */
static bool end_region(unsigned int cpu, int process, const char *cause)
{
	char text[256];
	unsigned int i = 0;

	while (i < open_regions && regions[i] != process)
		i++;
	if (i == open_regions)
		return false;
	regions[i] = regions[--open_regions];
	for (unsigned int helper = 1; helper < n_vcpus; helper++)
		if (vcpus[helper].migrates_for == process)
			set_migrating(helper, 0);
	if (!open_regions) {
		active = false;
		set_instrumentation(false);
	}
	publish(cpu);
	log_counters(cpu, MARKER_REGION_END, describe_end(text, sizeof(text), process, cause));
	return true;
}

/* Begin a region of the current process. Ends its previous region if that is open. */
void begin_region(unsigned int cpu)
{
	int process = vcpus[cpu].process;

	pthread_mutex_lock(&region_lock);
	end_region(cpu, process, "begin");
	end_region(cpu, UNKNOWN_PROCESS, "begin");
	if (open_regions == MAX_REGIONS) {
		fprintf(stderr, "timing: region of process %d ignored: %d regions are open\n",
			process, MAX_REGIONS);
	} else {
		if (!open_regions)
			start_model();
		regions[open_regions++] = process;
	}
	pthread_mutex_unlock(&region_lock);
	vcpus[cpu].busy = true;
	check_start(cpu);
}

/* End everything that processes left open, after a reset or restore. Called with region_lock. */
static void end_machine(unsigned int cpu, const char *cause)
{
	while (open_regions)
		end_region(cpu, regions[open_regions - 1], cause);
	observed = NO_PROCESS;
	for (unsigned int i = 0; i < n_vcpus; i++)
		vcpus[i].serial_process = NO_PROCESS;
	machines++;
}

/* The vCPU switches to a process. */
void switch_process(unsigned int cpu, int process)
{
	struct vcpu *v = &vcpus[cpu];

	v->process = process;
	if (cpu)
		set_migrating(cpu, process > 0 && active && has_region(process) ? process : 0);
	v->serial = v->serial_process == process;
	model_serial(model, cpu, v->serial);
	forget(cpu);
}

/* Check whether the machine was reset or restored: the process is unknown then. */
void check_machine(unsigned int cpu)
{
	unsigned int machine = machines;

	if (vcpus[cpu].machine != machine) {
		vcpus[cpu].machine = machine;
		switch_process(cpu, UNKNOWN_PROCESS);
	}
}

/* A process exits or executes another program: end everything that it left open. */
void end_process(unsigned int cpu, int process)
{
	struct vcpu *v = &vcpus[cpu];
	bool named = v->process != UNKNOWN_PROCESS;

	if (!named)
		switch_process(cpu, process);
	pthread_mutex_lock(&region_lock);
	end_region(cpu, process, "process");
	if (!named)
		end_region(cpu, UNKNOWN_PROCESS, "process");
	pthread_mutex_unlock(&region_lock);
	atomic_compare_exchange_strong(&observed, &(int){process}, NO_PROCESS);
	for (unsigned int i = 0; i < n_vcpus; i++)
		atomic_compare_exchange_strong(&vcpus[i].serial_process, &(int){process},
					       NO_PROCESS);
	switch_process(cpu, v->process);
}

/*
 * Check whether the machine was restored: the clock page is then that of the saved machine, with an
 * older generation. Called when a vCPU resumes, because every vCPU stops for a restore.
 */
void check_restored(unsigned int cpu)
{
	if (!clock_page)
		return;
	pthread_mutex_lock(&region_lock);
	if (clock_page->generation != generation)
		end_machine(cpu, "restore");
	clock_page->generation = ++generation;
	pthread_mutex_unlock(&region_lock);
}

bool end_marked_region(unsigned int cpu)
{
	bool ended;

	pthread_mutex_lock(&region_lock);
	ended = end_region(cpu, vcpus[cpu].process, "marker") ||
		end_region(cpu, UNKNOWN_PROCESS, "marker");
	pthread_mutex_unlock(&region_lock);
	return ended;
}

void reset_machine(unsigned int cpu)
{
	pthread_mutex_lock(&region_lock);
	end_machine(cpu, "reset");
	if (clock_page)
		clock_page->dilation = 0;
	pthread_mutex_unlock(&region_lock);
	check_machine(cpu);
}
