// SPDX-License-Identifier: GPL-2.0-or-later
#include "model.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "model_state.h"
#include "spinlock.h"

static bool is_valid(const struct model_config *c)
{
	if (c->cache_line < 16 || c->cache_line > MODEL_PAGE ||
	    (c->cache_line & (c->cache_line - 1)) || !c->cache_ways ||
	    c->cache_size < (uint64_t)c->cache_line * c->cache_ways || !(c->write_buffer >= 0))
		return false;
	if (c->split >= c->end || c->hole[0] > c->hole[1] || (c->memory_mode && !c->split) ||
	    (c->near_size && c->near_size < c->cache_line) ||
	    (c->split | c->end | c->hole[0] | c->hole[1]) % MODEL_PAGE)
		return false;
	for (int n = 0; n < MODEL_NODES; n++) {
		const struct model_node *node = &c->node[n];

		if (!(node->read_latency > 0) || !(node->write_latency > 0) ||
		    !(node->read_bandwidth > 0) || !(node->write_bandwidth > 0))
			return false;
	}
	for (int i = 0; i < MODEL_CPUS; i++)
		if (!(c->instruction[i] >= 0) || !(c->parallelism[i] >= 1))
			return false;
	return c->remap >= 0 && c->remap_page >= 0 && c->shootdown >= 0 && c->cores >= 1;
}

struct model *model_new(const struct model_config *config)
{
	uint64_t ways = config->cache_ways, sets;
	struct model *m;

	if (!is_valid(config)) {
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
		model_forget(m, (unsigned int)i);
		atomic_flag_clear(&cache->lock);
		cache->sets = sets;
		cache->ways = config->cache_ways;
	}
	m->near_lines = (config->near_size ? config->near_size : config->split) >> m->line_bits;
	if (config->memory_mode)
		m->near = calloc(m->near_lines, sizeof(*m->near));
	if (!m->caches || (config->memory_mode && !m->near) ||
	    (config->cache_shared && !cache_allocate(&m->caches[0]))) {
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

static bool is_memory(const struct model *m, uint64_t address)
{
	return address < m->config.end &&
	       (address < m->config.hole[0] || address >= m->config.hole[1]);
}

/* Returns when the vCPU's last fetch of a line arrives; 0: long ago. */
static double arrival_of(const struct cpu *c, uint64_t line)
{
	return c->fetched[line % RECENT].tag == line + 1 ? c->fetched[line % RECENT].arrival : 0;
}

static void note_arrival(struct cpu *c, uint64_t line)
{
	double arrival = arrival_of(c, line);

	if (arrival > c->arrival)
		c->arrival = arrival;
}

/* Access one line. Returns true if it missed. */
static bool access_line(struct model *m, struct cpu *c, unsigned int cpu, uint64_t line, bool store)
{
	bool shared = m->config.cache_shared, missing;
	struct cache *cache = c->cache;
	struct line *l = c->recent[line % RECENT];
	uint64_t victim = 0;

	if (!shared && l && l->tag == line + 1) {
		use_line(cache, l, store);
		note_arrival(c, line);
		return false;
	}
	if (shared)
		lock(&cache->lock);
	l = cache_look_up(cache, line, &missing, &victim);
	use_line(cache, l, store);
	if (shared)
		unlock(&cache->lock);
	c->recent[line % RECENT] = l;
	if (victim) {
		if (m->evicted)
			m->evicted(m->evicted_data, victim - 1);
		memory_evict(m, cpu, victim - 1);
	}
	if (missing) {
		c->fetched[line % RECENT].arrival = memory_miss(m, cpu, line, store);
		c->fetched[line % RECENT].tag = line + 1;
	}
	note_arrival(c, line);
	return missing;
}

void model_remember(struct model *m, unsigned int cpu, uint64_t address, uint64_t key)
{
	uint64_t line = address >> m->line_bits;
	struct cpu *c = &m->cpus[cpu];
	struct line *l = c->recent[line % RECENT];

	if (m->config.cache_shared || !l || l->tag != line + 1)
		return;
	c->shortcuts[key % SHORTCUTS].key = key;
	c->shortcuts[key % SHORTCUTS].tag = line + 1;
	c->shortcuts[key % SHORTCUTS].line = l;
}

bool model_again(struct model *m, unsigned int cpu, uint64_t key, bool store)
{
	struct cpu *c = &m->cpus[cpu];
	struct line *l = c->shortcuts[key % SHORTCUTS].line;

	if (c->shortcuts[key % SHORTCUTS].key != key || l->tag != c->shortcuts[key % SHORTCUTS].tag)
		return false;
	use_line(c->cache, l, store);
	count(&c->counters.accesses, 1);
	return true;
}

void model_issue_after(struct model *m, unsigned int cpu, double ns)
{
	m->cpus[cpu].issue_after = ns;
}

double model_arrival(const struct model *m, unsigned int cpu)
{
	return m->cpus[cpu].arrival;
}

double model_arrival_of(const struct model *m, unsigned int cpu, uint64_t key)
{
	const struct cpu *c = &m->cpus[cpu];

	return arrival_of(c, c->shortcuts[key % SHORTCUTS].tag - 1);
}

bool model_awaits(const struct model *m, unsigned int cpu, double ns)
{
	return ns > m->cpus[cpu].clock;
}

void model_drain(struct model *m, unsigned int cpu)
{
	struct cpu *c = &m->cpus[cpu];
	double ns = c->awaited - c->clock;

	if (ns > 0) {
		c->clock = c->awaited;
		spend(&c->counters.memory, ns);
		spend(&c->waited, ns);
	}
}

double model_waited(const struct model *m, unsigned int cpu)
{
	double ns;

	__atomic_load(&m->cpus[cpu].waited, &ns, __ATOMIC_RELAXED);
	return ns;
}

void model_forget(struct model *m, unsigned int cpu)
{
	memset(m->cpus[cpu].shortcuts, 0xff, sizeof(m->cpus[cpu].shortcuts)); /* not a key */
}

/* A window was remapped since the last access of a helper. */
static __attribute__((noinline)) void lose_lines(struct model *m, struct cpu *c, unsigned int cpu)
{
	c->remaps = m->remaps;
	if (m->config.cache_shared)
		return;
	cache_invalidate(c->cache);
	memset(c->recent, 0, sizeof(c->recent));
	model_forget(m, cpu);
}

unsigned int model_access(struct model *m, unsigned int cpu, uint64_t address, unsigned int size,
			  bool store)
{
	uint64_t page_end = address | (MODEL_PAGE - 1), end = address + size - 1;
	uint64_t line = address >> m->line_bits;
	uint64_t last = (end < page_end ? end : page_end) >> m->line_bits;
	struct cpu *c = &m->cpus[cpu];
	struct cache *cache = c->cache;
	unsigned int misses = 0;

	if (!is_memory(m, address))
		return 0;
	if (__builtin_expect(!cache->lines, 0) && !cache_allocate(cache)) /* private: no race */
		abort();
	if (cpu && c->remaps != atomic_load_explicit(&m->remaps, memory_order_relaxed))
		lose_lines(m, c, cpu);
	count(&c->counters.accesses, 1);
	c->arrival = 0;
	for (; line <= last; line++)
		misses += access_line(m, c, cpu, line, store);
	if (misses)
		show(c);
	return misses;
}

/* Returns how much longer an instruction of vCPU 0 takes, after charging it for interrupts. */
static double slowdown(struct model *m)
{
	double cores = m->config.cores;
	int migrating = atomic_load_explicit(&m->migrating, memory_order_relaxed);

	if (atomic_load_explicit(&m->shootdowns, memory_order_relaxed))
		model_charge(m, 0,
			     (double)atomic_exchange(&m->shootdowns, 0) * m->config.shootdown);
	if (migrating <= 0)
		return 1;
	return migrating < cores - 1 ? cores / (cores - migrating) : cores;
}

void model_execute(struct model *m, unsigned int cpu, uint64_t n)
{
	struct cpu *c = &m->cpus[cpu];
	double ns = (double)n * m->config.instruction[cpu];

	if (!cpu)
		ns *= slowdown(m);
	count(&c->counters.instructions, n);
	spend(&c->counters.compute, ns);
	c->clock += ns;
	show(c);
}

void model_watch(struct model *m, void (*evicted)(void *data, uint64_t line), void *data)
{
	m->evicted = evicted;
	m->evicted_data = data;
}

void model_serial(struct model *m, unsigned int cpu, bool serial)
{
	m->cpus[cpu].serial = serial;
}

void model_charge(struct model *m, unsigned int cpu, double ns)
{
	struct cpu *c = &m->cpus[cpu];

	c->clock += ns;
	spend(&c->counters.charged, ns);
	show(c);
}

void model_remap(struct model *m, unsigned int cpu, uint64_t pages)
{
	model_charge(m, cpu, m->config.remap + (double)pages * m->config.remap_page);
	m->remaps++;
	if (cpu)
		m->shootdowns++;
}

void model_migrating(struct model *m, int change)
{
	m->migrating += change;
}

void model_wake(struct model *m, unsigned int cpu, double clock)
{
	struct cpu *c = &m->cpus[cpu];

	model_drain(m, cpu);
	if (clock > c->clock) {
		spend(&c->counters.idle, clock - c->clock);
		c->clock = clock;
		show(c);
	}
}

double model_clock(const struct model *m, unsigned int cpu)
{
	return atomic_load_explicit(&m->cpus[cpu].shown, memory_order_relaxed);
}

struct model_counters model_counters(const struct model *m, unsigned int cpu)
{
	typedef uint64_t __attribute__((may_alias)) word;
	const word *from = (const word *)&m->cpus[cpu].counters;
	struct model_counters copy;

	for (size_t i = 0; i < sizeof(copy) / sizeof(word); i++)
		((word *)&copy)[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
	return copy;
}
