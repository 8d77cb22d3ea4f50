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
#define KINDS	   512
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
static atomic_bool active;	 /* inside the region */
static atomic_bool instrumented; /* what is translated now */
static struct oracle *oracle;
static atomic_int observed = -1; /* the process whose accesses the oracle counts */
static unsigned int dumps;	 /* files of page counts so far */
static struct pace pace;	 /* its dilation is 0 if vCPUs are synchronised */
static struct pace_demand demand;
static pthread_mutex_t pace_lock = PTHREAD_MUTEX_INITIALIZER;

/* Loads and stores of a kind, as QEMU numbers them; no kind has the number ~0. */
struct kind {
	qemu_plugin_meminfo_t info;
	uint8_t last; /* offset of the last byte */
	bool store;
};

static struct vcpu {
	atomic_bool present, busy;
	uint32_t since;			/* instructions since it looked at the others */
	uint32_t pending;		/* and those that the model does not know of yet, */
	uint32_t unlooked;		/* and those since it may have had to wait */
	uint32_t shortcuts;		/* accesses since keys were forgotten */
	int process;			/* that it runs, as far as we know */
	bool serial;			/* between these markers */
	double looked;			/* its clock when it did, or at the time (paced) */
	double piece_real, piece_model; /* when the piece began for which we note the demand */
	double piece_held;		/* real ns it was held since */
	uint64_t held;			/* sleeps */
	uint64_t pages[MODEL_NODES];	/* migrated to each node */
	struct kind kinds[KINDS];	/* by place_of() */
} __attribute__((aligned(128))) vcpus[MODEL_CPUS];
static unsigned int vcpus_seen; /* the last one's number + 1 */

static bool known(unsigned int cpu)
{
	return cpu < MODEL_CPUS;
}

/* The clock of the busy vCPU furthest behind, but `cpu`; negative if there is none. */
static double slowest_but(unsigned int cpu)
{
	double found = -1;

	for (unsigned int i = 0; i < vcpus_seen; i++) {
		double clock;

		if (i == cpu || !vcpus[i].present || !vcpus[i].busy)
			continue;
		clock = model_clock(model, i);
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

static double real_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
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
		v->held++;
		nanosleep(&moment, NULL);
	}
	if (before)
		v->piece_held += real_now() - before;
}

/* Wait until real time has come as far as the model. */
static void keep_pace(unsigned int cpu)
{
	struct vcpu *v = &vcpus[cpu];
	double clock = model_clock(model, cpu), began = real_now(), now = began, ahead;

	publish(cpu);
	while ((ahead = pace_ahead(&pace, now, clock)) > 0 && active) {
		if (now - began > (double)MOST_HOLDS * HOLD_NS) {
			v->unlooked = PENDING; /* look again at the next block */
			return;
		}
		if (ahead > 2 * SLEEP_LATE) {
			v->held++;
			nanosleep(&(struct timespec){0, HOLD_NS}, NULL);
		}
		now = real_now();
	}
	v->looked = clock;
	if (ahead < -PACE_TOLERANCE) {
		pthread_mutex_lock(&pace_lock);
		pace_behind(&pace, now, clock);
		pthread_mutex_unlock(&pace_lock);
	}
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
	v->pending += n;
	v->unlooked += n;
	if (v->unlooked < PENDING)
		return;
	v->unlooked = 0;
	execute(cpu);
	passed = model_clock(model, cpu) - v->looked;
	if (pace.dilation > 0) {
		if (passed * pace.dilation >= PACE_LOOK)
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
	return observed >= 0 && address < USER_HALF && v->process == observed;
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
	kind->store = qemu_plugin_mem_is_store(info);
	kind->last = (1U << qemu_plugin_mem_size_shift(info)) - 1;
	return *kind;
}

/* An access to a line that is none of those accessed a moment ago. */
static COLD void access_anew(unsigned int cpu, qemu_plugin_meminfo_t info, uint64_t address,
			     bool kernel)
{
	struct qemu_plugin_hwaddr *hw = qemu_plugin_get_hwaddr(info, address);
	struct vcpu *v = &vcpus[cpu];
	struct kind kind = kind_of(v, info);
	unsigned int misses;
	uint64_t physical;

	if (!hw || qemu_plugin_hwaddr_is_io(hw))
		return;
	execute(cpu);
	physical = qemu_plugin_hwaddr_phys_addr(hw);
	if (kernel && v->serial) /* an interrupt's misses do not wait for each other */
		model_serial(model, cpu, false);
	misses = model_access(model, cpu, physical, kind.last + 1U, kind.store);
	if (line_of(address) == line_of(address + kind.last))
		model_remember(model, cpu, physical, line_of(address));
	if (kernel && v->serial)
		model_serial(model, cpu, true);
	if (observes(v, address))
		oracle_count(oracle, address, kind.store, misses, physical >= config.split);
}

/* The shortcut was taken: what is to be done now and then. */
static COLD void now_and_then(unsigned int cpu, uint64_t address, bool store)
{
	if (vcpus[cpu].shortcuts >= SHORTCUTS)
		forget(cpu);
	if (observes(&vcpus[cpu], address))
		oracle_count(oracle, address, store, 0, 0);
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
	    !model_again(model, cpu, line, kind.store)) {
		access_anew(cpu, info, address, kernel);
		return;
	}
	if (++v->shortcuts >= SHORTCUTS || observed >= 0)
		now_and_then(cpu, address, kind.store);
}

/* The kernel says something: what it loads from, after a marker, is what it says. */
static void on_argument(unsigned int cpu, qemu_plugin_meminfo_t info, uint64_t address, void *data)
{
	unsigned int marker = (unsigned int)(uintptr_t)data, value = address % MARKER_ARGUMENTS;

	(void)info;
	if (!known(cpu))
		return;
	if (marker == MARKER_PROCESS) {
		vcpus[cpu].process = (int)value;
		forget(cpu);
	} else if (active && value < MODEL_NODES) {
		for (unsigned int i = 0; i < vcpus_seen; i++)
			vcpus[i].shortcuts = SHORTCUTS; /* that page is elsewhere now */
		vcpus[cpu].pages[value]++;
		model_charge(model, cpu, page_ns);
	}
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
				vcpus[i].pages[0], vcpus[i].pages[1], c.compute, c.memory, c.queue,
				c.charged, c.idle, vcpus[i].held) < 0;
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

static void begin_region(void)
{
	double now = real_now(), latest = furthest(), asked = clock_page ? clock_page->dilation : 0;

	/* Real time went by meanwhile, for all of them alike */
	for (unsigned int i = 0; i < vcpus_seen; i++) {
		if (!vcpus[i].present)
			continue;
		model_wake(model, i, latest);
		vcpus[i].looked = latest;
		begin_piece(&vcpus[i], now, latest);
	}
	if (asked >= 1) /* what went before was to find out what to ask for */
		memset(&demand, 0, sizeof(demand));
	pace_begin(&pace, asked >= 1 ? asked : 0, now, latest);
	active = true;
	instrument(true);
}

/* Returns what the counters' line says of the region. */
static const char *end_region(char *text, size_t size)
{
	double real = real_now() - pace.real;
	double needed = pace_needed(&demand, LATE_SHARE);
	double behind = pace.dilation > 0 ? pace.slipped / real : 0;

	active = false;
	if (clock_page) {
		clock_page->needed = needed;
		clock_page->behind = behind;
	}
	instrument(false);
	snprintf(text, size, ", \"dilation\": %.6g, \"needed\": %.6g, \"behind\": %.6g",
		 pace.dilation, needed, behind);
	return text;
}

/* Write the oracle's counts to a file; returns what the counters' line says of it. */
static const char *dump_pages(char *text, size_t size)
{
	char path[sizeof(log_path) + 32];
	FILE *file;
	bool written = false;

	snprintf(path, sizeof(path), "%.*s/pages-%u.csv", (int)(strrchr(log_path, '/') - log_path),
		 log_path, dumps);
	file = fopen(path, "we");
	if (file) {
		written = oracle_write(oracle, file);
		written &= fclose(file) == 0;
	}
	if (!written)
		fprintf(stderr, "timing: no counts of pages: %s: %s\n", path, strerror(errno));
	snprintf(text, size, ", \"process\": %d, \"pages\": %s%s%s", (int)observed,
		 written ? "\"" : "", written ? strrchr(path, '/') + 1 : "null",
		 written ? "\"" : "");
	dumps++;
	return text;
}

static void on_marker(unsigned int cpu, void *data)
{
	unsigned int marker = (unsigned int)(uintptr_t)data;
	char text[sizeof(log_path) + 64];
	const char *more = "";

	if (!known(cpu))
		return;
	execute(cpu);
	switch (marker) {
	case MARKER_REGION_BEGIN:
		if (!active) {
			vcpus[cpu].busy = true;
			begin_region();
		}
		break;
	case MARKER_REGION_END:
		if (active)
			more = end_region(text, sizeof(text));
		break;
	case MARKER_STEP_BEGIN:
	case MARKER_STEP_END:
		break;
	case MARKER_SERIAL_BEGIN:
	case MARKER_SERIAL_END:
		vcpus[cpu].serial = marker == MARKER_SERIAL_BEGIN;
		model_serial(model, cpu, vcpus[cpu].serial);
		return;
	case MARKER_CLOCK:
		publish(cpu);
		return;
	case MARKER_OBSERVE:
		oracle_clear(oracle);
		observed = vcpus[cpu].process;
		return;
	case MARKER_PAGES:
		more = dump_pages(text, sizeof(text));
		break;
	case MARKER_PAGE_MIGRATED: /* on_argument() sees to these */
	case MARKER_PROCESS:
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

/* The number of the marker that this instruction is; -1 if it is another instruction. */
static int marker_in(struct qemu_plugin_insn *insn)
{
	uint8_t bytes[8];

	if (qemu_plugin_insn_size(insn) != sizeof(bytes))
		return -1;
#if API < 3
	memcpy(bytes, qemu_plugin_insn_data(insn), sizeof(bytes));
#else
	if (qemu_plugin_insn_data(insn, bytes, sizeof(bytes)) != sizeof(bytes))
		return -1;
#endif
	if (memcmp(bytes, (const uint8_t[])MARKER_OPCODE, 4) ||
	    memcmp(bytes + 6, (const uint8_t[])MARKER_TAG, 2))
		return -1;
	return bytes[4] | bytes[5] << 8;
}

static void on_translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	size_t n = qemu_plugin_tb_n_insns(tb);
	bool observe = instrumented, kernel = qemu_plugin_tb_vaddr(tb) >= USER_HALF;
	int marker = -1, before;

	(void)id;
	if (observe)
		qemu_plugin_register_vcpu_tb_exec_cb(tb, on_block, QEMU_PLUGIN_CB_NO_REGS,
						     (void *)n);
	for (size_t i = 0; i < n; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);

		before = marker;
		marker = marker_in(insn);
		if (marker >= 0)
			qemu_plugin_register_vcpu_insn_exec_cb(
				insn, on_marker, QEMU_PLUGIN_CB_NO_REGS, (void *)(uintptr_t)marker);
		if (before == MARKER_PAGE_MIGRATED || before == MARKER_PROCESS)
			qemu_plugin_register_vcpu_mem_cb(insn, on_argument, QEMU_PLUGIN_CB_NO_REGS,
							 QEMU_PLUGIN_MEM_RW, /* 7.2 knows no _R */
							 (void *)(uintptr_t)before);
		else if (observe)
			qemu_plugin_register_vcpu_mem_cb(insn, on_access, QEMU_PLUGIN_CB_NO_REGS,
							 QEMU_PLUGIN_MEM_RW,
							 (void *)(uintptr_t)kernel);
	}
}

static void on_vcpu(qemu_plugin_id_t id, unsigned int cpu)
{
	(void)id;
	if (!known(cpu)) {
		fprintf(stderr, "timing: vCPU %u is one too many; the model has %d\n", cpu,
			MODEL_CPUS);
		exit(1);
	}
	vcpus[cpu].present = true;
	vcpus[cpu].busy = true;
	vcpus[cpu].process = -1;
	memset(vcpus[cpu].kinds, 0xff, sizeof(vcpus[cpu].kinds));
	if (vcpus_seen <= cpu)
		vcpus_seen = cpu + 1;
}

static void on_idle(qemu_plugin_id_t id, unsigned int cpu)
{
	(void)id;
	publish(cpu);
	vcpus[cpu].busy = false;
}

/* It was woken by who is furthest, for all we know; that one may sleep by now. */
static void on_resume(qemu_plugin_id_t id, unsigned int cpu)
{
	double now = real_now();

	(void)id;
	if (active && pace.dilation > 0)
		model_wake(model, cpu, pace_model(&pace, now));
	else
		model_wake(model, cpu, furthest());
	begin_piece(&vcpus[cpu], now, model_clock(model, cpu));
	vcpus[cpu].busy = true;
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
	plugin = id;
	attach(id);
	return 0;
}
