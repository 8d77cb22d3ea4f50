// SPDX-License-Identifier: GPL-2.0-or-later
#include "model.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/*
 * A node serves requests one after the other. vCPUs' clocks differ by up to the window in which
 * they are kept, so requests do not come in the order of their times. Time is therefore cut into
 * slots, and a request takes its service time out of the first slots from its own time on that
 * have some left: who comes later with an earlier time still finds what was free then.
 */
#define SLOT	   256.0 /* ns */
#define SLOTS	   4096	 /* a ring; 1 ms is far more than any window */
#define UNIT	   64.0	 /* of a nanosecond: what service times are counted in */
#define FULL	   ((uint64_t)(SLOT * UNIT))
#define USED_BITS  20
#define USED(slot) ((slot) & ((1ULL << USED_BITS) - 1))

/* A slot's number in the upper bits, how much of it is taken in the lower. */
typedef _Atomic uint64_t slot_t;

struct line {
	uint64_t tag; /* line number + 1; 0 if there is none */
	uint32_t used;
	bool dirty;
};

struct cache {
	struct line *lines; /* ways beside each other */
	uint64_t sets;
	uint32_t tick;
	atomic_flag lock; /* of a shared one */
};

struct cpu {
	struct cache *cache;
	double clock;
	_Atomic double shown; /* the clock, for others */
	bool serial;
	struct model_counters counters;
} __attribute__((aligned(128)));

struct model {
	struct model_config config;
	unsigned int line_bits;
	double service[MODEL_NODES][2]; /* ns for a line, read and written */
	struct cache *caches;
	uint64_t *near; /* memory mode: line + 1 of node 1, and whether it is dirty, by line of node
			   0 */
	slot_t slots[MODEL_NODES][SLOTS];
	struct cpu cpus[MODEL_CPUS];
};

static bool sensible(const struct model_config *c)
{
	if (c->cache_line < 16 || (c->cache_line & (c->cache_line - 1)) || !c->cache_ways ||
	    c->cache_size < (uint64_t)c->cache_line * c->cache_ways || c->split >= c->end)
		return false;
	for (int n = 0; n < MODEL_NODES; n++) {
		const struct model_node *node = &c->node[n];

		if (!(node->read_latency > 0) || !(node->read_bandwidth > 0) ||
		    !(node->write_bandwidth > 0))
			return false;
	}
	for (int i = 0; i < MODEL_CPUS; i++)
		if (!(c->instruction[i] >= 0) || !(c->parallelism[i] >= 1))
			return false;
	return true;
}

struct model *model_new(const struct model_config *config)
{
	uint64_t ways = config->cache_ways, sets;
	struct model *m;

	if (!sensible(config)) {
		errno = EINVAL;
		return NULL;
	}
	m = aligned_alloc(128, (sizeof(*m) + 127) / 128 * 128);
	if (!m)
		return NULL;
	memset(m, 0, sizeof(*m));
	m->config = *config;
	m->line_bits = (unsigned int)__builtin_ctz(config->cache_line);
	for (int n = 0; n < MODEL_NODES; n++) {
		m->service[n][0] = config->cache_line / config->node[n].read_bandwidth;
		m->service[n][1] = config->cache_line / config->node[n].write_bandwidth;
	}
	sets = config->cache_size / (config->cache_line * ways);
	m->caches = calloc(MODEL_CPUS, sizeof(*m->caches));
	for (int i = 0; m->caches && i < MODEL_CPUS; i++) {
		struct cache *cache = &m->caches[i];

		m->cpus[i].cache = config->cache_shared ? &m->caches[0] : cache;
		atomic_flag_clear(&cache->lock);
		cache->sets = sets;
	}
	if (config->memory_mode)
		m->near = calloc(config->split >> m->line_bits, sizeof(*m->near));
	if (!m->caches || (config->memory_mode && !m->near)) {
		model_free(m);
		errno = ENOMEM;
		return NULL;
	}
	return m;
}

void model_free(struct model *m)
{
	for (int i = 0; m->caches && i < MODEL_CPUS; i++)
		free(m->caches[i].lines);
	free(m->caches);
	free(m->near);
	free(m);
}

/* Take `service` ns of a node from time `t` on; returns when that is done. */
static double serve(struct model *m, int node, double t, double service)
{
	uint64_t need = (uint64_t)(service * UNIT + 0.5), number = (uint64_t)(t / SLOT);
	uint64_t within = (uint64_t)((t - (double)number * SLOT) * UNIT), old, used, taken;

	for (;; number++, within = 0) {
		slot_t *slot = &m->slots[node][number % SLOTS];

		old = atomic_load_explicit(slot, memory_order_relaxed);
		for (;;) {
			used = old >> USED_BITS == number ? USED(old) : 0;
			if (old >> USED_BITS > number) /* far behind: nobody knows any more */
				return t + service;
			taken = FULL - used < need ? FULL - used : need;
			if (!taken)
				break;
			if (atomic_compare_exchange_weak_explicit(
				    slot, &old, number << USED_BITS | (used + taken),
				    memory_order_relaxed, memory_order_relaxed))
				break;
		}
		need -= taken;
		if (!need) {
			double end = (double)number * SLOT;
			uint64_t at = used + taken > within + taken ? used + taken : within + taken;

			end += (double)(at < FULL ? at : FULL) / UNIT;
			return end > t + service ? end : t + service;
		}
	}
}

static bool is_memory(const struct model *m, uint64_t address)
{
	return address < m->config.end &&
	       (address < m->config.hole[0] || address >= m->config.hole[1]);
}

static int node_of(const struct model *m, uint64_t address)
{
	return address >= m->config.split;
}

/* A line is written to `node`; returns when that is done. */
static double write_line(struct model *m, struct cpu *c, int node)
{
	c->counters.bytes_written[node] += m->config.cache_line;
	return serve(m, node, c->clock, m->service[node][1]);
}

/* A line goes to its node: nobody waits for that unless too many do. */
static void write_back(struct model *m, struct cpu *c, uint64_t line)
{
	double late = write_line(m, c, node_of(m, line << m->line_bits)) - c->clock -
		      m->config.write_buffer;

	if (late > 0) {
		c->clock += late;
		c->counters.queue += late;
		c->counters.memory += late;
	}
}

/* A line comes from `node`. */
static void fetch(struct model *m, struct cpu *c, unsigned int cpu, int node)
{
	double service = m->service[node][0], alone, done;
	double overlap = c->serial ? 1 : m->config.parallelism[cpu];

	done = serve(m, node, c->clock, service);
	alone = m->config.node[node].read_latency / overlap;
	if (alone < service)
		alone = service;
	c->counters.queue += done - service - c->clock;
	alone += done - service - c->clock;
	c->clock += alone;
	c->counters.memory += alone;
	c->counters.bytes_read[node] += m->config.cache_line;
}

/* Memory mode: where node 0 keeps `line`, if it does. */
static uint64_t *near_of(struct model *m, uint64_t line)
{
	return &m->near[line % (m->config.split >> m->line_bits)];
}

/* Memory mode: all memory is on node 1, and node 0 keeps the lines used last. */
static void fetch_through_near(struct model *m, struct cpu *c, unsigned int cpu, uint64_t line)
{
	uint64_t *near = near_of(m, line);

	if (*near >> 1 == line + 1) {
		c->counters.hits_near++;
		fetch(m, c, cpu, 0);
		return;
	}
	fetch(m, c, cpu, 1);
	write_line(m, c, 0);
	if (*near & 1)
		write_line(m, c, 1);
	*near = (line + 1) << 1;
}

static void miss(struct model *m, struct cpu *c, unsigned int cpu, uint64_t line, bool store)
{
	int node = node_of(m, line << m->line_bits);

	c->counters.misses[node]++;
	if (m->near)
		fetch_through_near(m, c, cpu, line);
	else if (!store) /* what is written is taken to be written whole: nothing is fetched */
		fetch(m, c, cpu, node);
}

static void evict(struct model *m, struct cpu *c, uint64_t line)
{
	uint64_t *near;

	if (!m->near) {
		write_back(m, c, line);
		return;
	}
	/* Into node 0 if it has the line still, else to node 1 */
	near = near_of(m, line);
	if (*near >> 1 == line + 1) {
		*near |= 1;
		write_line(m, c, 0);
	} else {
		write_line(m, c, 1);
	}
}

/* Look a line up, and put it there. Returns whether it was missing; `victim` is a dirty line + 1.
 */
static bool look_up(struct model *m, struct cache *cache, uint64_t line, bool store,
		    uint64_t *victim)
{
	uint32_t ways = m->config.cache_ways;
	/* Folded, so that powers of two do not meet in one set */
	struct line *set = &cache->lines[(line ^ line / cache->sets) % cache->sets * ways];
	struct line *oldest = set;

	*victim = 0;
	cache->tick++;
	for (struct line *l = set; l < set + ways; l++) {
		if (l->tag == line + 1) {
			l->used = cache->tick;
			l->dirty |= store;
			return false;
		}
		if (oldest->tag && (!l->tag || cache->tick - l->used > cache->tick - oldest->used))
			oldest = l;
	}
	if (oldest->dirty)
		*victim = oldest->tag;
	oldest->tag = line + 1;
	oldest->used = cache->tick;
	oldest->dirty = store;
	return true;
}

void model_access(struct model *m, unsigned int cpu, uint64_t address, unsigned int size,
		  bool store)
{
	uint64_t line = address >> m->line_bits, last = (address + size - 1) >> m->line_bits;
	struct cpu *c = &m->cpus[cpu];
	struct cache *cache = c->cache;
	uint64_t victim;
	bool missing;

	if (!is_memory(m, address))
		return;
	if (__builtin_expect(!cache->lines, 0)) {
		cache->lines = calloc(cache->sets * m->config.cache_ways, sizeof(*cache->lines));
		if (!cache->lines)
			abort();
	}
	c->counters.accesses++;
	for (; line <= last; line++) {
		if (m->config.cache_shared)
			while (atomic_flag_test_and_set_explicit(&cache->lock,
								 memory_order_acquire))
				;
		missing = look_up(m, cache, line, store, &victim);
		if (m->config.cache_shared)
			atomic_flag_clear_explicit(&cache->lock, memory_order_release);
		if (!missing)
			continue;
		if (victim)
			evict(m, c, victim - 1);
		miss(m, c, cpu, line, store);
	}
	atomic_store_explicit(&c->shown, c->clock, memory_order_relaxed);
}

void model_execute(struct model *m, unsigned int cpu, uint64_t n)
{
	struct cpu *c = &m->cpus[cpu];
	double ns = (double)n * m->config.instruction[cpu];

	c->counters.instructions += n;
	c->counters.compute += ns;
	c->clock += ns;
	atomic_store_explicit(&c->shown, c->clock, memory_order_relaxed);
}

void model_serial(struct model *m, unsigned int cpu, bool serial)
{
	m->cpus[cpu].serial = serial;
}

void model_charge(struct model *m, unsigned int cpu, double ns)
{
	struct cpu *c = &m->cpus[cpu];

	c->clock += ns;
	c->counters.charged += ns;
	atomic_store_explicit(&c->shown, c->clock, memory_order_relaxed);
}

void model_wake(struct model *m, unsigned int cpu, double clock)
{
	struct cpu *c = &m->cpus[cpu];

	if (clock > c->clock) {
		c->counters.idle += clock - c->clock;
		c->clock = clock;
		atomic_store_explicit(&c->shown, c->clock, memory_order_relaxed);
	}
}

double model_clock(const struct model *m, unsigned int cpu)
{
	return atomic_load_explicit(&m->cpus[cpu].shown, memory_order_relaxed);
}

struct model_counters model_counters(const struct model *m, unsigned int cpu)
{
	return m->cpus[cpu].counters;
}
