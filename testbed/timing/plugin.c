// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * QEMU plugin: runs the timing model along with the guest.
 *
 *   -plugin timing.so,config=FILE
 *
 * FILE has lines "name value"; names are in options[] below. Markers are instructions: long NOPs
 * with a tag and a number, which hardware executes as nothing. Only between the markers of a
 * region's begin and end is the guest's code instrumented; everywhere else it runs at TCG's speed.
 *
 * A region belongs to the process that begins it, and ends with it. The model runs while any region
 * is open.
 *
 * Each vCPU's thread alone writes that vCPU's state. What all share is atomic or has a lock. A
 * thread takes region_lock before pace_lock, and log_lock last.
 *
 * QEMU 7.2 must not flush instrumented code: it keeps a pointer to the callbacks of an instruction
 * that did not end (iret, a fault) and follows it later (mended in 8.0). There code that was
 * instrumented stays so, and only does nothing after the region.
 *
 * Synchronised, vCPUs are kept together: who is ahead of the slowest busy one by more than the
 * window is held. Paced, all of them are kept to a fixed rate of real time. Either way a vCPU is
 * held for a moment at a time, because QEMU may need all vCPUs to stop.
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

#define QUANTUM	   2000	 /* instructions between looks at the others, at most, */
#define LOOKS	   4	 /* and looks in a window */
#define PENDING	   256	 /* instructions that are accounted for together */
#define SHORTCUTS  4096	 /* accesses after which a virtual address is looked up again */
#define HOLD_NS	   50000 /* of one sleep, */
#define MOST_HOLDS 20	 /* and how many there may be before the guest goes on */
#define PACE_LOOK  20e3	 /* paced: real ns between looks at the time */
#define SLEEP_LATE 150e3 /* a sleep may end so much later than asked for */
#define PIECE	   1e6	 /* real ns after which we note what dilation the host sustains */
#define LATE_SHARE 0.004 /* of the time for which it may be behind */
#define USER_HALF  (1ULL << 47)
#define RESET	   0xfffffff0 /* where a processor begins after a reset */
#define KINDS	   512
#define REGIONS	   64 /* open at once */
#define NOBODY	   -2 /* no process */
#define UNKNOWN	   -1 /* a process that the kernel has not named yet */
#define COLD	   __attribute__((noinline))

static struct model_config config;
static struct model *model;
static unsigned int line_bits; /* of the cache's lines */
static double window = 20000;  /* ns */
static double page_ns = 1500;  /* of migrating a page */
static char log_path[4096], clock_path[4096];

static FILE *log_file;
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static bool log_failed;
static volatile struct clock_page *clock_page;
static qemu_plugin_id_t plugin;
static atomic_bool active;	 /* a region is open */
static atomic_bool instrumented; /* what is translated now */
static struct oracle *oracle;
static atomic_int observed = NOBODY; /* the process whose accesses the oracle counts, */
static atomic_int counted = NOBODY;  /* and the one that it has counts of */

/* What there is of regions. */
static pthread_mutex_t region_lock = PTHREAD_MUTEX_INITIALIZER;
static int regions[REGIONS]; /* the processes that have an open one */
static unsigned int open_regions;
static uint64_t generation; /* of the clock page */
static unsigned int dumps;  /* files of page counts so far */

/* How fast model time goes by: since when, and at what rate. */
static pthread_mutex_t pace_lock = PTHREAD_MUTEX_INITIALIZER;
static struct pace pace; /* its dilation is 0 if vCPUs are synchronised */
static struct pace_demand demand;
static atomic_uint starts;	     /* of the model; pace is the last one's */
static _Atomic double started_model; /* the clocks of all vCPUs at the last one */
static atomic_uint machines;	     /* that there were: it was reset, or another restored */

/* Loads and stores of a kind, as QEMU numbers them; no kind has the number ~0. */
struct kind {
	qemu_plugin_meminfo_t info;
	uint8_t last; /* offset of the last byte */
	bool read, write;
};

static struct vcpu {
	/* Any thread's */
	atomic_bool present, busy;
	atomic_bool stale;    /* virtual addresses may be other memory now */
	atomic_int serial_of; /* the process between these markers */
	/* Written by its own thread */
	_Atomic uint64_t held;		     /* sleeps */
	_Atomic uint64_t pages[MODEL_NODES]; /* migrated to each node */
	/* Its own thread's */
	unsigned int start, machine;	/* what it knows of: starts, machines */
	uint32_t since;			/* instructions since it looked at the others */
	uint32_t pending;		/* and those that the model does not know of yet, */
	uint32_t unlooked;		/* and those since it may have had to wait */
	uint32_t shortcuts;		/* accesses since keys were forgotten */
	uint32_t argument;		/* the lower half of a marker's */
	int process;			/* that it runs, as far as we know */
	bool serial;			/* which is the one of serial_of */
	bool halts;			/* it executed HLT last: asleep, it waits for work */
	double dilation;		/* 0: synchronised */
	double looked;			/* its clock when it did, or at the time (paced) */
	double piece_real, piece_model; /* when the piece began for which we note the demand */
	double piece_held;		/* real ns it was held since */
	struct kind kinds[KINDS];	/* by place_of() */
} __attribute__((aligned(128))) vcpus[MODEL_CPUS];
static atomic_uint vcpus_seen; /* the last one's number + 1 */

static bool known(unsigned int cpu)
{
	return cpu < MODEL_CPUS;
}

static void count(_Atomic uint64_t *counter)
{
	atomic_store_explicit(counter, *counter + 1, memory_order_relaxed);
}

/* The clock of the busy vCPU furthest behind, but `cpu`; negative if there is none. */
static double slowest_but(unsigned int cpu)
{
	double found = -1, start = started_model;

	for (unsigned int i = 0; i < vcpus_seen; i++) {
		double clock;

		if (i == cpu || !vcpus[i].present || !vcpus[i].busy)
			continue;
		clock = model_clock(model, i);
		if (clock < start) /* it does not know yet that the model runs */
			clock = start;
		if (found < 0 || clock < found)
			found = clock;
	}
	return found;
}

/* The clock of the vCPU furthest ahead, idle or busy. */
static double furthest(void)
{
	double found = 0;

	for (unsigned int i = 0; i < vcpus_seen; i++)
		if (model_clock(model, i) > found)
			found = model_clock(model, i);
	return found;
}

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

/* Real time for the guest: it stands still while the machine is paused. */
static double real_now(void)
{
	return cpu_get_clock ? (double)cpu_get_clock() : host_now();
}

static void begin_piece(struct vcpu *v, double now, double clock)
{
	v->piece_real = now;
	v->piece_model = clock;
	v->piece_held = 0;
}

/* Note how long this vCPU's last piece of model time took. */
static void note_demand(struct vcpu *v, double clock)
{
	double now = real_now(), took = now - v->piece_real - v->piece_held;

	if (took < PIECE)
		return;
	pthread_mutex_lock(&pace_lock);
	pace_observe(&demand, took, clock - v->piece_model);
	pthread_mutex_unlock(&pace_lock);
	begin_piece(v, now, clock);
}

/* Wait for the slowest. */
static void hold(unsigned int cpu)
{
	static const struct timespec moment = {0, HOLD_NS};
	struct vcpu *v = &vcpus[cpu];
	double before = 0;

	publish(cpu);
	note_demand(v, model_clock(model, cpu));
	for (int i = 0; i < MOST_HOLDS && active; i++) {
		double slowest = slowest_but(cpu);

		if (slowest < 0 || model_clock(model, cpu) <= slowest + window)
			break;
		if (!before)
			before = real_now();
		count(&v->held);
		nanosleep(&moment, NULL);
	}
	if (before)
		v->piece_held += real_now() - before;
}

/* How far, in real ns, this clock is ahead of real time. */
static double ahead_of_time(double clock)
{
	double ahead;

	pthread_mutex_lock(&pace_lock);
	ahead = pace_ahead(&pace, real_now(), clock);
	pthread_mutex_unlock(&pace_lock);
	return ahead;
}

/* How late this vCPU is, in real ns. */
static double lateness(unsigned int cpu)
{
	double late;

	pthread_mutex_lock(&pace_lock);
	late = pace_late(&pace, real_now(), model_clock(model, cpu));
	pthread_mutex_unlock(&pace_lock);
	return late;
}

/* Wait until real time has come as far as the model. Time may stand still: the machine is about to
 * be paused, and waits for us. */
static void keep_pace(unsigned int cpu)
{
	struct vcpu *v = &vcpus[cpu];
	double clock = model_clock(model, cpu), began = host_now(), ahead;

	publish(cpu);
	while ((ahead = ahead_of_time(clock)) > 0 && active) {
		if (host_now() - began > (double)MOST_HOLDS * HOLD_NS) {
			v->unlooked = PENDING; /* look again at the next block */
			return;
		}
		if (ahead > 2 * SLEEP_LATE) {
			count(&v->held);
			nanosleep(&(struct timespec){0, HOLD_NS}, NULL);
		}
	}
	v->looked = clock;
	if (ahead < -PACE_TOLERANCE) {
		pthread_mutex_lock(&pace_lock);
		pace_behind(&pace, real_now(), clock);
		pthread_mutex_unlock(&pace_lock);
	}
}

/* Time went by while the model did not run, for all vCPUs alike. */
static COLD void skip_time(unsigned int cpu)
{
	struct vcpu *v = &vcpus[cpu];
	struct pace p;

	pthread_mutex_lock(&pace_lock);
	p = pace;
	v->start = starts;
	pthread_mutex_unlock(&pace_lock);
	model_wake(model, cpu, p.model);
	v->looked = p.model;
	v->dilation = p.dilation;
	begin_piece(v, p.real, p.model);
}

/* Note whether the model was started since this vCPU last looked. */
static void follow(unsigned int cpu)
{
	if (vcpus[cpu].start != atomic_load_explicit(&starts, memory_order_relaxed))
		skip_time(cpu);
}

/* Account for the instructions since the last time. */
static void execute(unsigned int cpu)
{
	struct vcpu *v = &vcpus[cpu];

	if (v->pending) {
		model_execute(model, cpu, v->pending);
		v->since += v->pending;
		v->pending = 0;
	}
}

static void on_block(unsigned int cpu, void *data)
{
	struct vcpu *v = &vcpus[cpu];
	uint64_t n = (uintptr_t)data;
	double passed;

	if (!active)
		return;
	follow(cpu);
	v->halts = false;
	v->pending += n;
	v->unlooked += n;
	if (v->unlooked < PENDING)
		return;
	v->unlooked = 0;
	execute(cpu);
	passed = model_clock(model, cpu) - v->looked;
	if (v->dilation > 0) {
		if (passed * v->dilation >= PACE_LOOK)
			keep_pace(cpu);
		return;
	}
	if (v->since >= QUANTUM || passed >= window / LOOKS) {
		v->since = 0;
		v->looked += passed;
		hold(cpu);
	}
}

/* Virtual addresses may be other memory now. */
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

/* Whether the oracle counts an access there. */
static bool observes(const struct vcpu *v, uint64_t address)
{
	return v->process >= 0 && v->process == observed && address < USER_HALF;
}

/* Where a kind is: loads and stores of one size differ in bit 16, and should not be in one place.
 */
static unsigned int place_of(qemu_plugin_meminfo_t info)
{
	return (info ^ info >> 8) % KINDS;
}

/* Returns what QEMU says of such an access, and remembers it. */
static struct kind kind_of(struct vcpu *v, qemu_plugin_meminfo_t info)
{
	struct kind *kind = &v->kinds[place_of(info)];

	kind->info = info;
	kind->read = info >> MEM_RW_SHIFT & QEMU_PLUGIN_MEM_R;
	kind->write = info >> MEM_RW_SHIFT & QEMU_PLUGIN_MEM_W;
	kind->last = (1U << qemu_plugin_mem_size_shift(info)) - 1;
	return *kind;
}

static void observe(uint64_t address, struct kind kind, unsigned int misses, int node)
{
	if (kind.read)
		oracle_count(oracle, address, false, misses, node);
	if (kind.write)
		oracle_count(oracle, address, true, kind.read ? 0 : misses, node);
}

/* The part of an access that is in one page: the bytes from `first` to `last`. What is written
 * after it was read is there already. */
static void access_page(unsigned int cpu, struct kind kind, uint64_t first, uint64_t last)
{
	struct qemu_plugin_hwaddr *hw = qemu_plugin_get_hwaddr(kind.info, first);
	unsigned int size = (unsigned int)(last - first) + 1, misses = 0;
	uint64_t physical;

	if (!hw || qemu_plugin_hwaddr_is_io(hw))
		return;
	execute(cpu);
	physical = qemu_plugin_hwaddr_phys_addr(hw);
	if (kind.read)
		misses += model_access(model, cpu, physical, size, false);
	if (kind.write)
		misses += model_access(model, cpu, physical, size, true);
	if (line_of(first) == line_of(last))
		model_remember(model, cpu, physical, line_of(first));
	if (observes(&vcpus[cpu], first))
		observe(first, kind, misses, physical >= config.split);
}

/* An access to a line that is none of those accessed a moment ago. */
static COLD void access_anew(unsigned int cpu, qemu_plugin_meminfo_t info, uint64_t address,
			     bool kernel)
{
	struct vcpu *v = &vcpus[cpu];
	struct kind kind = kind_of(v, info);
	uint64_t last = address + kind.last, page = last / MODEL_PAGE * MODEL_PAGE;

	if (v->stale)
		forget(cpu);
	if (kernel && v->serial) /* an interrupt's misses do not wait for each other */
		model_serial(model, cpu, false);
	if (address / MODEL_PAGE == last / MODEL_PAGE) {
		access_page(cpu, kind, address, last);
	} else { /* virtual addresses go on there, physical ones do not */
		access_page(cpu, kind, address, page - 1);
		access_page(cpu, kind, page, last);
	}
	if (kernel && v->serial)
		model_serial(model, cpu, true);
}

/* The shortcut was taken: what is to be done now and then. */
static COLD void now_and_then(unsigned int cpu, uint64_t address, struct kind kind)
{
	if (vcpus[cpu].shortcuts >= SHORTCUTS)
		forget(cpu);
	if (observes(&vcpus[cpu], address))
		observe(address, kind, 0, 0);
}

/* Most of the model's cost in real time is here: a leaf, and few instructions. */
static void on_access(unsigned int cpu, qemu_plugin_meminfo_t info, uint64_t address, void *kernel)
{
	struct vcpu *v = &vcpus[cpu];
	struct kind kind = v->kinds[place_of(info)];
	uint64_t line = line_of(address);

	if (!active)
		return;
	if (kind.info != info || line != line_of(address + kind.last) ||
	    atomic_load_explicit(&v->stale, memory_order_relaxed) ||
	    !model_again(model, cpu, line, !kind.read)) {
		access_anew(cpu, info, address, kernel);
		return;
	}
	if (kind.read && kind.write)
		model_again(model, cpu, line, true);
	if (++v->shortcuts >= SHORTCUTS || observed >= 0)
		now_and_then(cpu, address, kind);
}

static void report(unsigned int cpu, unsigned int marker, const char *more)
{
	const char *comma = "";
	int failed = 0;

	pthread_mutex_lock(&log_lock);
	failed |= fprintf(log_file, "{\"marker\": %u, \"vcpu\": %u, \"ns\": %.1f, \"vcpus\": [",
			  marker, cpu, model_clock(model, cpu)) < 0;
	for (unsigned int i = 0; i < vcpus_seen; i++) {
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
	failed |= fprintf(log_file, "]%s}\n", more) < 0;
	failed |= fflush(log_file) != 0;
	if (failed && !log_failed) {
		log_failed = true;
		fprintf(stderr, "timing: counters are lost from here on: %s: %s\n", log_path,
			strerror(errno));
	}
	pthread_mutex_unlock(&log_lock);
}

static void attach(qemu_plugin_id_t id);

/* Have code translated again, with or without callbacks. */
static void instrument(bool wanted)
{
	if (instrumented == wanted || (API < 2 && !wanted))
		return;
	instrumented = wanted;
	qemu_plugin_reset(plugin, attach);
}

static void unknown(unsigned int marker)
{
	static atomic_bool said;

	if (!atomic_exchange(&said, true))
		fprintf(stderr, "timing: marker %u is none of ours, and not counted\n", marker);
}

/* The first region begins. */
static void start_model(void)
{
	double latest = furthest(), asked = clock_page ? clock_page->dilation : 0;

	pthread_mutex_lock(&pace_lock);
	if (asked >= 1) /* what went before was to find out what to ask for */
		memset(&demand, 0, sizeof(demand));
	pace_begin(&pace, asked >= 1 ? asked : 0, real_now(), latest);
	started_model = latest;
	starts++;
	pthread_mutex_unlock(&pace_lock);
	active = true;
	instrument(true);
}

/* Returns what the counters' line says of a region that ended. */
static const char *tell_end(char *text, size_t size, int process, const char *cause)
{
	double real, needed, behind;

	pthread_mutex_lock(&pace_lock);
	real = real_now() - pace.real;
	needed = pace_needed(&demand, LATE_SHARE);
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

/* End the process's region; returns false if it has none. Called with region_lock. */
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
		instrument(false);
	}
	publish(cpu);
	report(cpu, MARKER_REGION_END, tell_end(text, sizeof(text), process, cause));
	return true;
}

/* A process has one region at most: beginning another one ends it. */
static void begin_region(unsigned int cpu)
{
	int process = vcpus[cpu].process;

	pthread_mutex_lock(&region_lock);
	end_region(cpu, process, "begin");
	end_region(cpu, UNKNOWN, "begin");
	if (open_regions == REGIONS) {
		fprintf(stderr, "timing: the region of process %d is one too many; %d are open\n",
			process, REGIONS);
	} else {
		if (!open_regions)
			start_model();
		regions[open_regions++] = process;
	}
	pthread_mutex_unlock(&region_lock);
	vcpus[cpu].busy = true;
	follow(cpu);
}

/* Whatever was open is no more: this is another machine now. Called with region_lock. */
static void forget_machine(unsigned int cpu, const char *cause)
{
	while (open_regions)
		end_region(cpu, regions[open_regions - 1], cause);
	observed = NOBODY;
	for (unsigned int i = 0; i < vcpus_seen; i++)
		vcpus[i].serial_of = NOBODY;
	machines++;
}

/* The CPU turns to a process. */
static void turn_to(unsigned int cpu, int process)
{
	struct vcpu *v = &vcpus[cpu];

	v->process = process;
	v->serial = v->serial_of == process;
	model_serial(model, cpu, v->serial);
	forget(cpu);
}

/* Note whether this is another machine now: no process is known then. */
static void meet_machine(unsigned int cpu)
{
	unsigned int machine = machines;

	if (vcpus[cpu].machine != machine) {
		vcpus[cpu].machine = machine;
		turn_to(cpu, UNKNOWN);
	}
}

/* A process exits or executes another program: nothing of what it left open is for others. */
static void end_process(unsigned int cpu, int process)
{
	struct vcpu *v = &vcpus[cpu];
	bool named = v->process != UNKNOWN;

	if (!named)
		turn_to(cpu, process);
	pthread_mutex_lock(&region_lock);
	end_region(cpu, process, "process");
	if (!named)
		end_region(cpu, UNKNOWN, "process");
	pthread_mutex_unlock(&region_lock);
	atomic_compare_exchange_strong(&observed, &(int){process}, NOBODY);
	for (unsigned int i = 0; i < vcpus_seen; i++)
		atomic_compare_exchange_strong(&vcpus[i].serial_of, &(int){process}, NOBODY);
	turn_to(cpu, v->process);
}

/* The kernel says something: what it loads from, after a marker, is what it says. */
static void on_low_argument(unsigned int cpu, qemu_plugin_meminfo_t info, uint64_t address,
			    void *data)
{
	(void)info;
	(void)data;
	if (known(cpu))
		vcpus[cpu].argument = address % MARKER_ARGUMENTS;
}

static void on_argument(unsigned int cpu, qemu_plugin_meminfo_t info, uint64_t address, void *data)
{
	unsigned int marker = (unsigned int)(uintptr_t)data, value;

	(void)info;
	if (!known(cpu))
		return;
	value = vcpus[cpu].argument + address % MARKER_ARGUMENTS * MARKER_ARGUMENTS;
	if (marker == MARKER_PROCESS) {
		turn_to(cpu, (int)value);
	} else if (marker == MARKER_PROCESS_END) {
		end_process(cpu, (int)value);
	} else if (active && value < MODEL_NODES) {
		for (unsigned int i = 0; i < vcpus_seen; i++)
			vcpus[i].stale = true; /* that page is elsewhere now */
		count(&vcpus[cpu].pages[value]);
		model_charge(model, cpu, page_ns);
	}
}

/* Write the oracle's counts to a file; returns what the counters' line says of it. */
static const char *dump_pages(char *text, size_t size)
{
	char path[sizeof(log_path) + 32];
	FILE *file;
	bool written = false;

	pthread_mutex_lock(&region_lock);
	snprintf(path, sizeof(path), "%.*s/pages-%u.csv", (int)(strrchr(log_path, '/') - log_path),
		 log_path, dumps);
	file = fopen(path, "we");
	if (file) {
		written = oracle_write(oracle, file);
		written &= fclose(file) == 0;
	}
	if (!written)
		fprintf(stderr, "timing: no counts of pages: %s: %s\n", path, strerror(errno));
	snprintf(text, size, ", \"process\": %d, \"pages\": %s%s%s", (int)counted,
		 written ? "\"" : "", written ? strrchr(path, '/') + 1 : "null",
		 written ? "\"" : "");
	dumps++;
	pthread_mutex_unlock(&region_lock);
	return text;
}

static void on_marker(unsigned int cpu, void *data)
{
	unsigned int marker = (unsigned int)(uintptr_t)data;
	char text[sizeof(log_path) + 64];
	const char *more = "";
	struct vcpu *v = &vcpus[cpu];
	bool ended;

	if (!known(cpu))
		return;
	follow(cpu);
	execute(cpu);
	switch (marker) {
	case MARKER_REGION_BEGIN:
		begin_region(cpu);
		snprintf(text, sizeof(text), ", \"process\": %d", v->process);
		more = text;
		break;
	case MARKER_REGION_END:
		pthread_mutex_lock(&region_lock);
		ended = end_region(cpu, v->process, "marker") || end_region(cpu, UNKNOWN, "marker");
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
		v->serial_of = v->serial ? v->process : NOBODY;
		model_serial(model, cpu, v->serial);
		return;
	case MARKER_CLOCK:
		publish(cpu);
		if (clock_page)
			clock_page->late[cpu] = v->dilation > 0 ? lateness(cpu) : 0;
		return;
	case MARKER_OBSERVE:
		oracle_clear(oracle);
		observed = counted = v->process;
		return;
	case MARKER_PAGES:
		more = dump_pages(text, sizeof(text));
		break;
	case MARKER_PAGE_MIGRATED: /* on_argument() sees to these */
	case MARKER_PROCESS:
	case MARKER_PROCESS_END:
		return;
	default:
		if (marker < MARKER_LAYER ||
		    (marker >= MARKER_LAYER + MARKER_LAYERS && marker < MARKER_USER)) {
			unknown(marker);
			return;
		}
	}
	publish(cpu);
	report(cpu, marker, more);
}

/* The processor begins anew. */
static void on_reset(unsigned int cpu, void *data)
{
	(void)data;
	if (!known(cpu))
		return;
	pthread_mutex_lock(&region_lock);
	forget_machine(cpu, "reset");
	if (clock_page)
		clock_page->dilation = 0;
	pthread_mutex_unlock(&region_lock);
	meet_machine(cpu);
}

static void on_halt(unsigned int cpu, void *data)
{
	(void)data;
	if (known(cpu))
		vcpus[cpu].halts = true;
}

/* Whether this instruction has `size` bytes, which are stored in `bytes` then. */
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

/* HLT and MWAIT. */
static bool halts(const struct qemu_plugin_insn *insn)
{
	uint8_t bytes[3];

	return (read_bytes(insn, bytes, 1) && bytes[0] == 0xf4) ||
	       (read_bytes(insn, bytes, 3) &&
		!memcmp(bytes, (const uint8_t[]){0x0f, 0x01, 0xc9}, 3));
}

/* The number of the marker that this instruction is; -1 if it is another instruction. */
static int marker_in(const struct qemu_plugin_insn *insn)
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
	bool observe = instrumented, kernel = qemu_plugin_tb_vaddr(tb) >= USER_HALF;
	int marker = -1, before = -1, earlier;

	(void)id;
	if (qemu_plugin_tb_vaddr(tb) == RESET)
		qemu_plugin_register_vcpu_tb_exec_cb(tb, on_reset, QEMU_PLUGIN_CB_NO_REGS, NULL);
	if (observe)
		qemu_plugin_register_vcpu_tb_exec_cb(tb, on_block, QEMU_PLUGIN_CB_NO_REGS,
						     (void *)n);
	for (size_t i = 0; i < n; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);

		earlier = before;
		before = marker;
		marker = marker_in(insn);
		if (halts(insn))
			qemu_plugin_register_vcpu_insn_exec_cb(insn, on_halt,
							       QEMU_PLUGIN_CB_NO_REGS, NULL);
		if (marker >= 0)
			qemu_plugin_register_vcpu_insn_exec_cb(
				insn, on_marker, QEMU_PLUGIN_CB_NO_REGS, (void *)(uintptr_t)marker);
		if (has_argument(before))
			qemu_plugin_register_vcpu_mem_cb(insn, on_low_argument,
							 QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_MEM_RW,
							 /* 7.2 knows no _R */ NULL);
		else if (has_argument(earlier))
			qemu_plugin_register_vcpu_mem_cb(insn, on_argument, QEMU_PLUGIN_CB_NO_REGS,
							 QEMU_PLUGIN_MEM_RW,
							 (void *)(uintptr_t)earlier);
		else if (observe)
			qemu_plugin_register_vcpu_mem_cb(insn, on_access, QEMU_PLUGIN_CB_NO_REGS,
							 QEMU_PLUGIN_MEM_RW,
							 (void *)(uintptr_t)kernel);
	}
}

static void on_vcpu(qemu_plugin_id_t id, unsigned int cpu)
{
	struct vcpu *v = &vcpus[cpu];

	(void)id;
	if (!known(cpu)) {
		fprintf(stderr, "timing: vCPU %u is one too many; the model has %d\n", cpu,
			MODEL_CPUS);
		exit(1);
	}
	v->present = true;
	v->busy = true;
	v->process = UNKNOWN;
	v->serial_of = NOBODY;
	v->halts = true; /* until another one starts it */
	memset(v->kinds, 0xff, sizeof(v->kinds));
	if (vcpus_seen <= cpu)
		vcpus_seen = cpu + 1;
}

static void on_idle(qemu_plugin_id_t id, unsigned int cpu)
{
	(void)id;
	publish(cpu);
	vcpus[cpu].busy = false;
}

/*
 * What is restored into this machine brings the clock page as it was when it was saved, and any
 * vCPU that runs after that was asleep in between.
 */
static void check_restored(unsigned int cpu)
{
	if (!clock_page)
		return;
	pthread_mutex_lock(&region_lock);
	if (clock_page->generation != generation)
		forget_machine(cpu, "restore");
	clock_page->generation = ++generation;
	pthread_mutex_unlock(&region_lock);
}

static void on_resume(qemu_plugin_id_t id, unsigned int cpu)
{
	struct vcpu *v = &vcpus[cpu];
	double now = real_now(), clock;

	(void)id;
	check_restored(cpu);
	meet_machine(cpu);
	follow(cpu);
	if (v->halts) { /* not if the machine was paused: it goes on where it was */
		/* It was woken by who is furthest, for all we know; that one may sleep by now */
		clock = furthest();
		if (active && v->dilation > 0) {
			pthread_mutex_lock(&pace_lock);
			clock = pace_model(&pace, now);
			pthread_mutex_unlock(&pace_lock);
		}
		model_wake(model, cpu, clock);
	}
	v->halts = false;
	begin_piece(v, now, model_clock(model, cpu));
	v->busy = true;
}

static void attach(qemu_plugin_id_t id)
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

/* One figure for each vCPU, separated by commas; the last one is for all further ones. */
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

static bool configure(const char *path)
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

static bool open_clock(void)
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
		fprintf(stderr, "timing: config=FILE is missing\n");
		return -1;
	}
	if (!configure(path))
		return -1;
	model = model_new(&config);
	if (!model) {
		fprintf(stderr, "timing: %s: %s\n", path,
			errno == EINVAL ? "these figures make no machine" : strerror(errno));
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
	if (*clock_path && !open_clock())
		return -1;
	if (!qemu_plugin_mem_is_store(QEMU_PLUGIN_MEM_W << MEM_RW_SHIFT) ||
	    qemu_plugin_mem_is_store(QEMU_PLUGIN_MEM_R << MEM_RW_SHIFT)) {
		fprintf(stderr, "timing: this QEMU tells reads and writes in a way unknown here\n");
		return -1;
	}
	plugin = id;
	attach(id);
	return 0;
}
