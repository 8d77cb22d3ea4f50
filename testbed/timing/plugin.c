// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * QEMU plugin that runs the timing model along with the guest.
 *
 *   -plugin timing.so,config=FILE
 *
 * FILE has lines "name value", with the names in options[] below. The guest controls the plugin
 * with markers: long NOPs that encode a number. Guest code is instrumented only between the markers
 * that begin and end a region of interest; all other code runs at TCG's speed.
 *
 * A region belongs to the process that begins it, and ends with the process. The model runs while
 * any region is open.
 *
 * A vCPU's state is written only by its thread, except for fields marked otherwise. Shared state is
 * atomic or protected by a lock. Lock order: region_lock, pace_lock, log_lock.
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
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "markers.h"
#include "model.h"
#include "oracle.h"
#include "pace.h"
#include "qemu_plugin.h"

EXPORT int qemu_plugin_version = API;

#define SYNC_INSTRUCTIONS 2000 /* maximum number of instructions between synchronisations */
#define SYNCS_PER_WINDOW  4
#define BATCH		  256	/* instructions that are accounted for together */
#define SHORTCUT_LIMIT	  4096	/* accesses by shortcut before all are dropped */
#define HOLD_NS		  50000 /* duration of one sleep */
#define MAX_HOLDS	  20	/* consecutive sleeps before the guest continues */
#define PACE_CHECK_NS	  20e3	/* paced: real ns between checks of the time */
#define SLEEP_OVERRUN_NS  150e3 /* a sleep may take this much longer than requested */
#define SAMPLE_NS	  1e6	/* real ns of one sample of the host's speed */
#define BEHIND_LIMIT	  0.004 /* accepted share of time behind, for the needed dilation */
#define USER_END	  (1ULL << 47)
#define RESET_VECTOR	  0xfffffff0
#define KINDS		  512
#define MAX_REGIONS	  64 /* open at once */
#define NO_PROCESS	  -2
#define UNKNOWN_PROCESS	  -1 /* the kernel has not named the process yet */
#define COLD		  __attribute__((noinline))

static struct model_config config;
static struct model *model;
static unsigned int line_bits; /* log2 of the cache line size */
static double window = 20000;  /* maximum distance of vCPUs, model ns */
static double page_ns = 1500;  /* fixed time to migrate a page */
static char log_path[4096], clock_path[4096];

static FILE *log_file;
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static bool log_failed;
static volatile struct clock_page *clock_page;
static qemu_plugin_id_t plugin;
static atomic_bool active;	 /* a region is open */
static atomic_bool instrumented; /* new translations have callbacks */
static struct oracle *oracle;
static atomic_int observed = NO_PROCESS; /* the process that the oracle observes */
static atomic_int counted = NO_PROCESS;	 /* the process of the oracle's counts */

/* Protects the regions, and page_files */
static pthread_mutex_t region_lock = PTHREAD_MUTEX_INITIALIZER;
static int regions[MAX_REGIONS]; /* process IDs */
static unsigned int open_regions;
static uint64_t generation;	/* of the clock page */
static unsigned int page_files; /* number of files of page counts */

/* Protects the pace, and the start of the model */
static pthread_mutex_t pace_lock = PTHREAD_MUTEX_INITIALIZER;
static struct pace pace; /* of the last start; dilation is 0 in synchronised mode */
static struct pace_demand demand;
static atomic_uint starts;	   /* number of starts of the model */
static _Atomic double start_clock; /* model clock at the last start */
static atomic_uint machines;	   /* number of resets and restores */

/* A kind of memory access, decoded from QEMU's meminfo; ~0 is never valid */
struct kind {
	qemu_plugin_meminfo_t info;
	uint8_t last; /* size in bytes - 1 */
	bool read, write;
};

static struct vcpu {
	/* Written by any thread */
	atomic_bool present, busy;
	atomic_bool stale;	   /* mappings of virtual addresses may have changed */
	atomic_int serial_process; /* the process whose misses are serial */
	/* Written by the vCPU's thread, read by any */
	_Atomic uint64_t held;		     /* number of sleeps */
	_Atomic uint64_t pages[MODEL_NODES]; /* migrated to each node */
	/* Used by the vCPU's thread only */
	unsigned int start, machine; /* the last values of `starts` and `machines` it has seen */
	uint32_t since_sync;	     /* instructions since the last synchronisation */
	uint32_t pending;	     /* instructions not reported to the model yet */
	uint32_t since_batch;	     /* instructions since the last full batch */
	uint32_t shortcuts;	     /* accesses by shortcut since the last forget() */
	uint32_t argument;	     /* lower half of a marker's argument */
	int process;		     /* the process that it runs */
	bool serial;		     /* process == serial_process */
	bool halted;		     /* the last instruction was HLT or MWAIT */
	double dilation;	     /* 0: synchronised */
	double checked_at;	     /* model clock at the last synchronisation or pace check */
	double sample_real, sample_model; /* start of the current sample of the host's speed */
	double sample_held;		  /* real ns held in this sample */
	struct kind kinds[KINDS];	  /* by kind_index() */
} __attribute__((aligned(128))) vcpus[MODEL_CPUS];
static atomic_uint n_vcpus;

static bool is_modelled(unsigned int cpu)
{
	return cpu < MODEL_CPUS;
}

static void increment(_Atomic uint64_t *counter)
{
	atomic_store_explicit(counter, *counter + 1, memory_order_relaxed);
}

/* Returns the lowest clock of all busy vCPUs except `cpu`, or -1 if there are none. */
static double slowest_other_clock(unsigned int cpu)
{
	double slowest = -1, start = start_clock;

	for (unsigned int i = 0; i < n_vcpus; i++) {
		double clock;

		if (i == cpu || !vcpus[i].present || !vcpus[i].busy)
			continue;
		clock = model_clock(model, i);
		if (clock < start) /* it has not seen the start of the model yet */
			clock = start;
		if (slowest < 0 || clock < slowest)
			slowest = clock;
	}
	return slowest;
}

/* Returns the highest clock of all vCPUs, idle or busy. */
static double latest_clock(void)
{
	double latest = 0;

	for (unsigned int i = 0; i < n_vcpus; i++)
		if (model_clock(model, i) > latest)
			latest = model_clock(model, i);
	return latest;
}

/* Write the vCPU's clock to the clock page. */
static void publish(unsigned int cpu)
{
	if (clock_page)
		clock_page->ns[cpu] = (uint64_t)model_clock(model, cpu);
}

static double host_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* Returns real time in ns, excluding pauses of the machine. */
static double real_now(void)
{
	return cpu_get_clock ? (double)cpu_get_clock() : host_now();
}

static void begin_sample(struct vcpu *v, double now, double clock)
{
	v->sample_real = now;
	v->sample_model = clock;
	v->sample_held = 0;
}

/* End the current sample if it is long enough: record real and model time. */
static void end_sample(struct vcpu *v, double clock)
{
	double now = real_now(), elapsed = now - v->sample_real - v->sample_held;

	if (elapsed < SAMPLE_NS)
		return;
	pthread_mutex_lock(&pace_lock);
	pace_observe(&demand, elapsed, clock - v->sample_model);
	pthread_mutex_unlock(&pace_lock);
	begin_sample(v, now, clock);
}

/* Synchronised: wait while the vCPU is ahead of the slowest by more than the window. */
static void synchronise(unsigned int cpu)
{
	static const struct timespec hold = {0, HOLD_NS};
	struct vcpu *v = &vcpus[cpu];
	double since = 0;

	publish(cpu);
	end_sample(v, model_clock(model, cpu));
	for (int i = 0; i < MAX_HOLDS && active; i++) {
		double slowest = slowest_other_clock(cpu);

		if (slowest < 0 || model_clock(model, cpu) <= slowest + window)
			break;
		if (!since)
			since = real_now();
		increment(&v->held);
		nanosleep(&hold, NULL);
	}
	if (since)
		v->sample_held += real_now() - since;
}

/* Returns how far the model clock is ahead of real time, in real ns. */
static double ns_ahead(double clock)
{
	double ahead;

	pthread_mutex_lock(&pace_lock);
	ahead = pace_ahead(&pace, real_now(), clock);
	pthread_mutex_unlock(&pace_lock);
	return ahead;
}

/* Returns the lag of the vCPU, in real ns (see pace_late()). */
static double ns_late(unsigned int cpu)
{
	double late;

	pthread_mutex_lock(&pace_lock);
	late = pace_late(&pace, real_now(), model_clock(model, cpu));
	pthread_mutex_unlock(&pace_lock);
	return late;
}

/*
 * Paced: wait until real time catches up with the model clock. Gives up after MAX_HOLDS, because
 * the machine's time stops before its vCPUs do when it is paused.
 */
static void keep_pace(unsigned int cpu)
{
	struct vcpu *v = &vcpus[cpu];
	double clock = model_clock(model, cpu), began = host_now(), ahead;

	publish(cpu);
	while ((ahead = ns_ahead(clock)) > 0 && active) {
		if (host_now() - began > (double)MAX_HOLDS * HOLD_NS) {
			v->since_batch = BATCH; /* check again at the next block */
			return;
		}
		if (ahead > 2 * SLEEP_OVERRUN_NS) {
			increment(&v->held);
			nanosleep(&(struct timespec){0, HOLD_NS}, NULL);
		}
	}
	v->checked_at = clock;
	if (ahead < -PACE_TOLERANCE) {
		pthread_mutex_lock(&pace_lock);
		pace_behind(&pace, real_now(), clock);
		pthread_mutex_unlock(&pace_lock);
	}
}

/* Set the vCPU's clock and pace to those of the last start of the model. */
static COLD void adopt_start(unsigned int cpu)
{
	struct vcpu *v = &vcpus[cpu];
	struct pace p;

	pthread_mutex_lock(&pace_lock);
	p = pace;
	v->start = starts;
	pthread_mutex_unlock(&pace_lock);
	model_wake(model, cpu, p.model);
	v->checked_at = p.model;
	v->dilation = p.dilation;
	begin_sample(v, p.real, p.model);
}

/* Check whether the model was started since the last check. */
static void check_start(unsigned int cpu)
{
	if (vcpus[cpu].start != atomic_load_explicit(&starts, memory_order_relaxed))
		adopt_start(cpu);
}

/* Report pending instructions to the model. */
static void flush_pending(unsigned int cpu)
{
	struct vcpu *v = &vcpus[cpu];

	if (v->pending) {
		model_execute(model, cpu, v->pending);
		v->since_sync += v->pending;
		v->pending = 0;
	}
}

static void on_block(unsigned int cpu, void *data)
{
	struct vcpu *v = &vcpus[cpu];
	uint64_t n = (uintptr_t)data;
	double elapsed;

	if (!active)
		return;
	check_start(cpu);
	v->halted = false;
	v->pending += n;
	v->since_batch += n;
	if (v->since_batch < BATCH)
		return;
	v->since_batch = 0;
	flush_pending(cpu);
	elapsed = model_clock(model, cpu) - v->checked_at;
	if (v->dilation > 0) {
		if (elapsed * v->dilation >= PACE_CHECK_NS)
			keep_pace(cpu);
		return;
	}
	if (v->since_sync >= SYNC_INSTRUCTIONS || elapsed >= window / SYNCS_PER_WINDOW) {
		v->since_sync = 0;
		v->checked_at += elapsed;
		synchronise(cpu);
	}
}

/* Drop all shortcuts: mappings of virtual addresses may have changed. */
static void forget(unsigned int cpu)
{
	vcpus[cpu].stale = false;
	model_forget(model, cpu);
	vcpus[cpu].shortcuts = 0;
}

static uint64_t line_of(uint64_t address)
{
	return address >> line_bits;
}

/* Returns true if the oracle counts the vCPU's access to `address`. */
static bool is_observed(const struct vcpu *v, uint64_t address)
{
	return v->process >= 0 && v->process == observed && address < USER_END;
}

/* Hash of `info`. Loads and stores of one size differ only in bit 16, which must have effect. */
static unsigned int kind_index(qemu_plugin_meminfo_t info)
{
	return (info ^ info >> 8) % KINDS;
}

/* Decode `info`, and cache the result. */
static struct kind decode_kind(struct vcpu *v, qemu_plugin_meminfo_t info)
{
	struct kind *kind = &v->kinds[kind_index(info)];

	kind->info = info;
	kind->read = info >> MEM_RW_SHIFT & QEMU_PLUGIN_MEM_R;
	kind->write = info >> MEM_RW_SHIFT & QEMU_PLUGIN_MEM_W;
	kind->last = (1U << qemu_plugin_mem_size_shift(info)) - 1;
	return *kind;
}

static void count_observed(uint64_t address, struct kind kind, unsigned int misses, int node)
{
	if (kind.read)
		oracle_count(oracle, address, false, misses, node);
	if (kind.write)
		oracle_count(oracle, address, true, kind.read ? 0 : misses, node);
}

/*
 * Account for the bytes from `first` to `last` of an access, which are in one page. The write of a
 * read-modify-write hits the cache.
 */
static void access_page(unsigned int cpu, struct kind kind, uint64_t first, uint64_t last)
{
	struct qemu_plugin_hwaddr *hw = qemu_plugin_get_hwaddr(kind.info, first);
	unsigned int size = (unsigned int)(last - first) + 1, misses = 0;
	uint64_t physical;

	if (!hw || qemu_plugin_hwaddr_is_io(hw))
		return;
	flush_pending(cpu);
	physical = qemu_plugin_hwaddr_phys_addr(hw);
	if (kind.read)
		misses += model_access(model, cpu, physical, size, false);
	if (kind.write)
		misses += model_access(model, cpu, physical, size, true);
	if (line_of(first) == line_of(last))
		model_remember(model, cpu, physical, line_of(first));
	if (is_observed(&vcpus[cpu], first))
		count_observed(first, kind, misses, physical >= config.split);
}

/* Account for an access without a shortcut. */
static COLD void access_memory(unsigned int cpu, qemu_plugin_meminfo_t info, uint64_t address,
			       bool kernel)
{
	struct vcpu *v = &vcpus[cpu];
	struct kind kind = decode_kind(v, info);
	uint64_t last = address + kind.last, page = last / MODEL_PAGE * MODEL_PAGE;

	if (v->stale)
		forget(cpu);
	if (kernel && v->serial) /* misses in interrupts are not serial */
		model_serial(model, cpu, false);
	if (address / MODEL_PAGE == last / MODEL_PAGE) {
		access_page(cpu, kind, address, last);
	} else { /* the pages may not be physically contiguous */
		access_page(cpu, kind, address, page - 1);
		access_page(cpu, kind, page, last);
	}
	if (kernel && v->serial)
		model_serial(model, cpu, true);
}

/* Rare work after an access by shortcut: drop all shortcuts at the limit, count for the oracle. */
static COLD void after_shortcut(unsigned int cpu, uint64_t address, struct kind kind)
{
	if (vcpus[cpu].shortcuts >= SHORTCUT_LIMIT)
		forget(cpu);
	if (is_observed(&vcpus[cpu], address))
		count_observed(address, kind, 0, 0);
}

/* The hot path of the plugin: no calls, few instructions. */
static void on_access(unsigned int cpu, qemu_plugin_meminfo_t info, uint64_t address, void *kernel)
{
	struct vcpu *v = &vcpus[cpu];
	struct kind kind = v->kinds[kind_index(info)];
	uint64_t line = line_of(address);

	if (!active)
		return;
	if (kind.info != info || line != line_of(address + kind.last) ||
	    atomic_load_explicit(&v->stale, memory_order_relaxed) ||
	    !model_again(model, cpu, line, !kind.read)) {
		access_memory(cpu, info, address, kernel);
		return;
	}
	if (kind.read && kind.write)
		model_again(model, cpu, line, true);
	if (++v->shortcuts >= SHORTCUT_LIMIT || observed >= 0)
		after_shortcut(cpu, address, kind);
}

/* Write a line with all counters to the log. `fields` are further JSON members, or empty. */
static void log_counters(unsigned int cpu, unsigned int marker, const char *fields)
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
				"\"charged_ns\": %.1f, \"idle_ns\": %.1f, \"held\": %" PRIu64 "}",
				comma, i, model_clock(model, i), c.instructions, c.accesses,
				c.misses[0], c.misses[1], c.bytes_read[0], c.bytes_read[1],
				c.bytes_written[0], c.bytes_written[1], c.hits_near,
				(uint64_t)vcpus[i].pages[0], (uint64_t)vcpus[i].pages[1], c.compute,
				c.memory, c.queue, c.charged, c.idle, (uint64_t)vcpus[i].held) < 0;
		comma = ", ";
	}
	failed |= fprintf(log_file, "]%s}\n", fields) < 0;
	failed |= fflush(log_file) != 0;
	if (failed && !log_failed) {
		log_failed = true;
		fprintf(stderr, "timing: cannot write counters any more: %s: %s\n", log_path,
			strerror(errno));
	}
	pthread_mutex_unlock(&log_lock);
}

static void register_callbacks(qemu_plugin_id_t id);

/* Have all code translated again, with or without callbacks. */
static void set_instrumentation(bool on)
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

/* Start the model with the requested dilation, when the first region begins. */
static void start_model(void)
{
	double latest = latest_clock(), requested = clock_page ? clock_page->dilation : 0;

	pthread_mutex_lock(&pace_lock);
	if (requested >= 1) /* earlier samples served to choose this dilation */
		memset(&demand, 0, sizeof(demand));
	pace_begin(&pace, requested >= 1 ? requested : 0, real_now(), latest);
	start_clock = latest;
	starts++;
	pthread_mutex_unlock(&pace_lock);
	active = true;
	set_instrumentation(true);
}

/* Format the log fields of a region's end, and update the clock page. Returns `text`. */
static const char *describe_end(char *text, size_t size, int process, const char *cause)
{
	double real, needed, behind;

	pthread_mutex_lock(&pace_lock);
	real = real_now() - pace.real;
	needed = pace_needed(&demand, BEHIND_LIMIT);
	behind = pace.dilation > 0 && real > 0 ? pace.slipped / real : 0;
	snprintf(text, size,
		 ", \"process\": %d, \"cause\": \"%s\", \"dilation\": %.6g, \"needed\": %.6g, "
		 "\"behind\": %.6g",
		 process, cause, pace.dilation, needed, behind);
	pthread_mutex_unlock(&pace_lock);
	if (clock_page) {
		clock_page->needed = needed;
		clock_page->behind = behind;
	}
	return text;
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
	if (!open_regions) {
		active = false;
		set_instrumentation(false);
	}
	publish(cpu);
	log_counters(cpu, MARKER_REGION_END, describe_end(text, sizeof(text), process, cause));
	return true;
}

/* Begin a region of the current process. Ends its previous region if that is open. */
static void begin_region(unsigned int cpu)
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
static void switch_process(unsigned int cpu, int process)
{
	struct vcpu *v = &vcpus[cpu];

	v->process = process;
	v->serial = v->serial_process == process;
	model_serial(model, cpu, v->serial);
	forget(cpu);
}

/* Check whether the machine was reset or restored: the process is unknown then. */
static void check_machine(unsigned int cpu)
{
	unsigned int machine = machines;

	if (vcpus[cpu].machine != machine) {
		vcpus[cpu].machine = machine;
		switch_process(cpu, UNKNOWN_PROCESS);
	}
}

/* A process exits or executes another program: end everything that it left open. */
static void end_process(unsigned int cpu, int process)
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
		model_charge(model, cpu, page_ns);
	}
}

/* Write the oracle's counts to a file. Formats the log fields. Returns `text`. */
static const char *write_pages(char *text, size_t size)
{
	char path[sizeof(log_path) + 32];
	FILE *file;
	bool written = false;

	pthread_mutex_lock(&region_lock);
	snprintf(path, sizeof(path), "%.*s/pages-%u.csv", (int)(strrchr(log_path, '/') - log_path),
		 log_path, page_files);
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
	pthread_mutex_unlock(&region_lock);
	return text;
}

static void on_marker(unsigned int cpu, void *data)
{
	unsigned int marker = (unsigned int)(uintptr_t)data;
	char text[sizeof(log_path) + 64];
	const char *fields = "";
	struct vcpu *v = &vcpus[cpu];
	bool ended;

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
		pthread_mutex_lock(&region_lock);
		ended = end_region(cpu, v->process, "marker") ||
			end_region(cpu, UNKNOWN_PROCESS, "marker");
		pthread_mutex_unlock(&region_lock);
		if (ended)
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
	pthread_mutex_lock(&region_lock);
	end_machine(cpu, "reset");
	if (clock_page)
		clock_page->dilation = 0;
	pthread_mutex_unlock(&region_lock);
	check_machine(cpu);
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
	bool instrument = instrumented, kernel = qemu_plugin_tb_vaddr(tb) >= USER_END;
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

/*
 * Check whether the machine was restored: the clock page is then that of the saved machine, with an
 * older generation. Called when a vCPU resumes, because every vCPU stops for a restore.
 */
static void check_restored(unsigned int cpu)
{
	if (!clock_page)
		return;
	pthread_mutex_lock(&region_lock);
	if (clock_page->generation != generation)
		end_machine(cpu, "restore");
	clock_page->generation = ++generation;
	pthread_mutex_unlock(&region_lock);
}

static void on_resume(qemu_plugin_id_t id, unsigned int cpu)
{
	struct vcpu *v = &vcpus[cpu];
	double now = real_now(), clock;

	(void)id;
	check_restored(cpu);
	check_machine(cpu);
	check_start(cpu);
	if (v->halted) { /* idle until now; otherwise the machine was paused */
		/* Assume that the vCPU with the latest clock woke this one */
		clock = latest_clock();
		if (active && v->dilation > 0) {
			pthread_mutex_lock(&pace_lock);
			clock = pace_model(&pace, now);
			pthread_mutex_unlock(&pace_lock);
		}
		model_wake(model, cpu, clock);
	}
	v->halted = false;
	begin_sample(v, now, model_clock(model, cpu));
	v->busy = true;
}

static void register_callbacks(qemu_plugin_id_t id)
{
	qemu_plugin_register_vcpu_init_cb(id, on_vcpu);
	qemu_plugin_register_vcpu_idle_cb(id, on_idle);
	qemu_plugin_register_vcpu_resume_cb(id, on_resume);
	qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
}

/* ---------------------------------------------------------------- configuration */

static void set_number(void *to, const char *value)
{
	*(double *)to = strtod(value, NULL);
}

static void set_u64(void *to, const char *value)
{
	*(uint64_t *)to = strtoull(value, NULL, 0);
}

static void set_u32(void *to, const char *value)
{
	*(uint32_t *)to = (uint32_t)strtoul(value, NULL, 0);
}

static void set_path(void *to, const char *value)
{
	snprintf(to, sizeof(log_path), "%s", value);
}

/* One number per vCPU, separated by commas; the last one applies to all further vCPUs. */
static void set_cpus(void *to, const char *value)
{
	double *cpus = to, last = 0;
	char *rest = (char *)value;

	for (int i = 0; i < MODEL_CPUS; i++) {
		if (rest && *rest)
			last = strtod(rest, &rest);
		if (rest && *rest == ',')
			rest++;
		cpus[i] = last;
	}
}

static const struct {
	const char *name;
	void *to;
	void (*set)(void *to, const char *value);
} options[] = {
	{"node0.read_latency", &config.node[0].read_latency, set_number},
	{"node0.write_latency", &config.node[0].write_latency, set_number},
	{"node0.read_bandwidth", &config.node[0].read_bandwidth, set_number},
	{"node0.write_bandwidth", &config.node[0].write_bandwidth, set_number},
	{"node1.read_latency", &config.node[1].read_latency, set_number},
	{"node1.write_latency", &config.node[1].write_latency, set_number},
	{"node1.read_bandwidth", &config.node[1].read_bandwidth, set_number},
	{"node1.write_bandwidth", &config.node[1].write_bandwidth, set_number},
	{"split", &config.split, set_u64},
	{"end", &config.end, set_u64},
	{"hole.start", &config.hole[0], set_u64},
	{"hole.end", &config.hole[1], set_u64},
	{"cache.size", &config.cache_size, set_u64},
	{"cache.ways", &config.cache_ways, set_u32},
	{"cache.line", &config.cache_line, set_u32},
	{"cache.shared", &config.cache_shared, set_u32},
	{"memory_mode", &config.memory_mode, set_u32},
	{"write_buffer", &config.write_buffer, set_number},
	{"instruction", config.instruction, set_cpus},
	{"parallelism", config.parallelism, set_cpus},
	{"page", &page_ns, set_number},
	{"window", &window, set_number},
	{"log", log_path, set_path},
	{"clock", clock_path, set_path},
};

static bool read_options(const char *path)
{
	FILE *file = fopen(path, "re");
	char line[8192], *value;
	size_t i;

	if (!file) {
		fprintf(stderr, "timing: %s: %s\n", path, strerror(errno));
		return false;
	}
	while (fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = 0;
		value = strchr(line, ' ');
		if (!value)
			continue;
		*value++ = 0;
		for (i = 0; i < sizeof(options) / sizeof(*options); i++)
			if (!strcmp(line, options[i].name))
				break;
		if (i == sizeof(options) / sizeof(*options)) {
			fprintf(stderr, "timing: %s: unknown option %s\n", path, line);
			fclose(file);
			return false;
		}
		options[i].set(options[i].to, value);
	}
	fclose(file);
	return true;
}

static bool map_clock_page(void)
{
	int fd = open(clock_path, O_RDWR | O_CLOEXEC);
	void *page = MAP_FAILED;

	if (fd >= 0)
		page = mmap(NULL, sizeof(*clock_page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (page == MAP_FAILED) {
		fprintf(stderr, "timing: %s: %s\n", clock_path, strerror(errno));
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
	if (!read_options(path))
		return -1;
	model = model_new(&config);
	if (!model) {
		fprintf(stderr, "timing: %s: %s\n", path,
			errno == EINVAL ? "invalid configuration" : strerror(errno));
		return -1;
	}
	line_bits = (unsigned int)__builtin_ctz(config.cache_line);
	oracle = oracle_new();
	if (!oracle) {
		fprintf(stderr, "timing: %s\n", strerror(errno));
		return -1;
	}
	log_file = fopen(log_path, "ae");
	if (!log_file) {
		fprintf(stderr, "timing: %s: %s\n", log_path, strerror(errno));
		return -1;
	}
	if (*clock_path && !map_clock_page())
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
