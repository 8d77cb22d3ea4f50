// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * QEMU plugin that runs the timing model along with the guest.
 *
 *   -plugin timing.so,config=FILE
 *
 * FILE has lines "name value", with the names in options.c. The guest controls the plugin
 * with markers: long NOPs that encode a number. Guest code is instrumented only between the markers
 * that begin and end a region of interest; all other code runs at TCG's speed.
 *
 * A region belongs to the process that begins it, and ends with the process. The model runs while
 * any region is open.
 *
 * A vCPU's state is written only by its thread, except for fields marked otherwise. Shared state is
 * atomic or protected by a lock. No lock is held while another is taken, except that
 * region_lock is taken before pace_lock and log_lock.
 *
 * With QEMU 7.2, instrumented code must not be flushed: QEMU keeps a pointer to the callbacks of an
 * instruction that did not complete (iret, a fault) and follows it later (fixed in 8.0). There,
 * instrumented code stays instrumented, and its callbacks do nothing outside of regions.
 *
 * In synchronised mode, a vCPU that is ahead of the slowest busy one by more than the window is
 * held. In paced mode, model time advances at a fixed rate of real time. vCPUs are held for short
 * periods, because QEMU may need all of them to stop.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "accesses.h"
#include "oracle.h"
#include "pacing.h"
#include "regions.h"

EXPORT int qemu_plugin_version = API;

#define RESET_VECTOR 0xfffffff0
#define KERNEL_START (1ULL << 47)

struct options options = {.window = 20000, .page_ns = 1500};
struct model *model;
volatile struct clock_page *clock_page;
atomic_bool active;
struct vcpu vcpus[MODEL_CPUS];
atomic_uint n_vcpus;

static qemu_plugin_id_t plugin;
static atomic_bool instrumented;	/* new translations have callbacks */
static atomic_int counted = NO_PROCESS; /* the process of the oracle's counts */
static pthread_mutex_t pages_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned int page_files; /* number of files of page counts; protected by pages_lock */

static void register_callbacks(qemu_plugin_id_t id);

/* Have all code translated again, with or without callbacks. */
void set_instrumentation(bool on)
{
	if (instrumented == on || (API < 2 && !on))
		return;
	instrumented = on;
	qemu_plugin_reset(plugin, register_callbacks);
}

static void warn_unknown(unsigned int marker)
{
	static atomic_bool warned;

	if (!atomic_exchange(&warned, true))
		fprintf(stderr, "timing: unknown marker %u ignored\n", marker);
}

/* A kernel marker's first load: its address carries the lower half of the argument. */
static void on_argument_low(unsigned int cpu, qemu_plugin_meminfo_t info, uint64_t address,
			    void *data)
{
	(void)info;
	(void)data;
	if (is_modelled(cpu))
		vcpus[cpu].argument = address % MARKER_ARGUMENTS;
}

/* A kernel marker's second load: its address carries the upper half of the argument. */
static void on_argument(unsigned int cpu, qemu_plugin_meminfo_t info, uint64_t address, void *data)
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
	} else if (active && value < MODEL_NODES) {
		for (unsigned int i = 0; i < n_vcpus; i++)
			vcpus[i].stale = true; /* the page has a new physical address */
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

static void on_marker(unsigned int cpu, void *data)
{
	unsigned int marker = (unsigned int)(uintptr_t)data;
	char text[sizeof(options.log_path) + 64];
	const char *fields = "";
	struct vcpu *v = &vcpus[cpu];

	if (!is_modelled(cpu))
		return;
	check_start(cpu);
	flush_pending(cpu);
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
	case MARKER_PAGE_MIGRATED: /* handled by on_argument() */
	case MARKER_PROCESS:
	case MARKER_PROCESS_END:
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

/* The first instruction after a reset */
static void on_reset(unsigned int cpu, void *data)
{
	(void)data;
	if (!is_modelled(cpu))
		return;
	reset_machine(cpu);
}

static void on_halt(unsigned int cpu, void *data)
{
	(void)data;
	if (is_modelled(cpu))
		vcpus[cpu].halted = true;
}

/* Read the instruction's bytes if it has exactly `size`. Returns false otherwise. */
static bool read_bytes(const struct qemu_plugin_insn *insn, uint8_t *bytes, size_t size)
{
	if (qemu_plugin_insn_size(insn) != size)
		return false;
#if API < 3
	memcpy(bytes, qemu_plugin_insn_data(insn), size);
	return true;
#else
	return qemu_plugin_insn_data(insn, bytes, size) == size;
#endif
}

/* Returns true for HLT and MWAIT. */
static bool is_halt(const struct qemu_plugin_insn *insn)
{
	uint8_t bytes[3];

	return (read_bytes(insn, bytes, 1) && bytes[0] == 0xf4) ||
	       (read_bytes(insn, bytes, 3) &&
		!memcmp(bytes, (const uint8_t[]){0x0f, 0x01, 0xc9}, 3));
}

/* Returns the number of a marker, or -1 for other instructions. */
static int marker_number(const struct qemu_plugin_insn *insn)
{
	uint8_t bytes[8];

	if (!read_bytes(insn, bytes, sizeof(bytes)))
		return -1;
	if (memcmp(bytes, (const uint8_t[])MARKER_OPCODE, 4) ||
	    memcmp(bytes + 6, (const uint8_t[])MARKER_TAG, 2))
		return -1;
	return bytes[4] | bytes[5] << 8;
}

static bool has_argument(int marker)
{
	return marker == MARKER_PAGE_MIGRATED || marker == MARKER_PROCESS ||
	       marker == MARKER_PROCESS_END;
}

static void on_translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	size_t n = qemu_plugin_tb_n_insns(tb);
	bool instrument = instrumented, kernel = qemu_plugin_tb_vaddr(tb) >= KERNEL_START;
	int marker = -1, before = -1, earlier;

	(void)id;
	if (qemu_plugin_tb_vaddr(tb) == RESET_VECTOR)
		qemu_plugin_register_vcpu_tb_exec_cb(tb, on_reset, QEMU_PLUGIN_CB_NO_REGS, NULL);
	if (instrument)
		qemu_plugin_register_vcpu_tb_exec_cb(tb, on_block, QEMU_PLUGIN_CB_NO_REGS,
						     (void *)n);
	for (size_t i = 0; i < n; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);

		earlier = before;
		before = marker;
		marker = marker_number(insn);
		if (is_halt(insn))
			qemu_plugin_register_vcpu_insn_exec_cb(insn, on_halt,
							       QEMU_PLUGIN_CB_NO_REGS, NULL);
		if (marker >= 0)
			qemu_plugin_register_vcpu_insn_exec_cb(
				insn, on_marker, QEMU_PLUGIN_CB_NO_REGS, (void *)(uintptr_t)marker);
		if (has_argument(before))
			qemu_plugin_register_vcpu_mem_cb(insn, on_argument_low,
							 QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_MEM_RW,
							 /* QEMU 7.2 has no _R */ NULL);
		else if (has_argument(earlier))
			qemu_plugin_register_vcpu_mem_cb(insn, on_argument, QEMU_PLUGIN_CB_NO_REGS,
							 QEMU_PLUGIN_MEM_RW,
							 (void *)(uintptr_t)earlier);
		else if (instrument)
			qemu_plugin_register_vcpu_mem_cb(insn, on_access, QEMU_PLUGIN_CB_NO_REGS,
							 QEMU_PLUGIN_MEM_RW,
							 (void *)(uintptr_t)kernel);
	}
}

static void on_vcpu(qemu_plugin_id_t id, unsigned int cpu)
{
	struct vcpu *v = &vcpus[cpu];

	(void)id;
	if (!is_modelled(cpu)) {
		fprintf(stderr, "timing: vCPU %u is not supported: the model has %d\n", cpu,
			MODEL_CPUS);
		exit(1);
	}
	v->present = true;
	v->busy = true;
	v->process = UNKNOWN_PROCESS;
	v->serial_process = NO_PROCESS;
	v->halted = true; /* waits to be started by another vCPU */
	memset(v->kinds, 0xff, sizeof(v->kinds));
	if (n_vcpus <= cpu)
		n_vcpus = cpu + 1;
}

static void on_idle(qemu_plugin_id_t id, unsigned int cpu)
{
	(void)id;
	publish(cpu);
	vcpus[cpu].busy = false;
}

static void on_resume(qemu_plugin_id_t id, unsigned int cpu)
{
	(void)id;
	check_restored(cpu);
	check_machine(cpu);
	check_start(cpu);
	end_idle(cpu);
	vcpus[cpu].busy = true;
}

static void register_callbacks(qemu_plugin_id_t id)
{
	qemu_plugin_register_vcpu_init_cb(id, on_vcpu);
	qemu_plugin_register_vcpu_idle_cb(id, on_idle);
	qemu_plugin_register_vcpu_resume_cb(id, on_resume);
	qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
}

static bool map_clock_page(void)
{
	int fd = open(options.clock_path, O_RDWR | O_CLOEXEC);
	void *page = MAP_FAILED;

	if (fd >= 0)
		page = mmap(NULL, sizeof(*clock_page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (page == MAP_FAILED) {
		fprintf(stderr, "timing: %s: %s\n", options.clock_path, strerror(errno));
		return false;
	}
	close(fd);
	clock_page = page;
	clock_page->magic = CLOCK_MAGIC;
	return true;
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
	const char *path = NULL;

	(void)info;
	for (int i = 0; i < argc; i++)
		if (!strncmp(argv[i], "config=", 7))
			path = argv[i] + 7;
	if (!path) {
		fprintf(stderr, "timing: missing argument config=FILE\n");
		return -1;
	}
	if (!options_read(&options, path))
		return -1;
	model = model_new(&options.model);
	if (!model) {
		fprintf(stderr, "timing: %s: %s\n", path,
			errno == EINVAL ? "invalid configuration" : strerror(errno));
		return -1;
	}
	line_bits = (unsigned int)__builtin_ctz(options.model.cache_line);
	oracle = oracle_new();
	if (!oracle) {
		fprintf(stderr, "timing: %s\n", strerror(errno));
		return -1;
	}
	if (!open_log()) {
		fprintf(stderr, "timing: %s: %s\n", options.log_path, strerror(errno));
		return -1;
	}
	if (*options.clock_path && !map_clock_page())
		return -1;
	if (!qemu_plugin_mem_is_store(QEMU_PLUGIN_MEM_W << MEM_RW_SHIFT) ||
	    qemu_plugin_mem_is_store(QEMU_PLUGIN_MEM_R << MEM_RW_SHIFT)) {
		fprintf(stderr, "timing: this QEMU encodes reads and writes in an unknown way\n");
		return -1;
	}
	plugin = id;
	register_callbacks(id);
	return 0;
}
