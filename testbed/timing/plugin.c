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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "accesses.h"
#include "oracle.h"
#include "pacing.h"
#include "regions.h"
#include "translation.h"

EXPORT int qemu_plugin_version = API;

struct options options = {.window = 20000, .page_ns = 1500, .model.cores = 1};
struct model *model;
volatile struct clock_page *clock_page;
atomic_bool active;
atomic_bool instrumented;
struct vcpu vcpus[MODEL_CPUS];
atomic_uint n_vcpus;

static qemu_plugin_id_t plugin;

static void register_callbacks(qemu_plugin_id_t id);

/* Have all code translated again, with or without callbacks. */
void set_instrumentation(bool on)
{
	if (instrumented == on || (API < 2 && !on))
		return;
	instrumented = on;
	qemu_plugin_reset(plugin, register_callbacks);
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
