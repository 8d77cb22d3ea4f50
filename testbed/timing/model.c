// SPDX-License-Identifier: GPL-2.0-or-later
#include "model.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/*
 * Bandwidth of a node. Its time is divided into slots. A request is served from the first slots, at
 * or after its own time, that have time left. The clocks of vCPUs differ by up to the window, so
 * requests do not arrive in the order of their times. A request that finds a slot used up is still
 * entitled to its fair share, which it takes from the vCPU with the largest share. That vCPU's next
 * request is prolonged by the same time (its debt). So bandwidth is shared max-min fairly,
 * regardless of the order in which the host runs vCPUs, and is never allocated twice.
 */
#define SLOT  256.0 /* ns */
#define SLOTS 4096  /* in a ring: 1 ms, far more than any window */
#define UNIT  256.0 /* units of service time per ns */
#define FULL  ((uint32_t)(SLOT * UNIT))

/* Recent use of a node by other vCPUs delays single requests. */
#define USE_NS	  1000.0   /* period over which use is averaged */
#define RECENT_NS 100000.0 /* ignore vCPUs whose last use is further away */
#define MAX_USE	  0.999

struct slot {
	uint64_t number; /* time / SLOT */
	uint64_t users;	 /* one bit per vCPU */
	uint32_t used;	 /* units */
	uint32_t taken[MODEL_CPUS];
};

struct queue {
	struct slot slots[SLOTS];
	atomic_flag lock;
	uint64_t debt[MODEL_CPUS]; /* units */
	double use[MODEL_CPUS];	   /* share of the node's time, at `last` */
	double last[MODEL_CPUS];   /* time of the last request */
	unsigned int cpus;	   /* highest vCPU with a request, plus 1 */
};

struct line {
	uint64_t tag; /* line number + 1; 0: empty */
	uint32_t used;
	bool dirty;
};

#define RECENT	  1024 /* lines that are found without a search */
#define SHORTCUTS 256  /* lines that are found by key, without a physical address */

struct cache {
	struct line *lines; /* sets of ways */
	uint64_t sets;
	uint32_t tick;
	atomic_flag lock; /* if shared */
};

struct cpu {
	struct cache *cache;
	double clock;
	_Atomic double shown; /* copy of the clock for other threads */
	bool serial;
	struct line *recent[RECENT]; /* by line number % RECENT */
	struct {
		uint64_t key, tag;
		struct line *line;
	} shortcuts[SHORTCUTS]; /* by key % SHORTCUTS */
	struct model_counters counters;
} __attribute__((aligned(128)));

struct model {
	struct model_config config;
	unsigned int line_bits;
	double service[MODEL_NODES][2]; /* ns to read and to write a line at full bandwidth */
	struct cache *caches;
	_Atomic uint64_t *near; /* memory mode, by line of node 0: (line + 1) << 1 | dirty */
	struct queue queues[MODEL_NODES];
	struct cpu cpus[MODEL_CPUS];
};

static bool is_valid(const struct model_config *c)
{
	if (c->cache_line < 16 || c->cache_line > MODEL_PAGE ||
	    (c->cache_line & (c->cache_line - 1)) || !c->cache_ways ||
	    c->cache_size < (uint64_t)c->cache_line * c->cache_ways || !(c->write_buffer >= 0))
		return false;
	if (c->split >= c->end || c->hole[0] > c->hole[1] || (c->memory_mode && !c->split) ||
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
	return true;
}

static bool allocate_lines(const struct model *m, struct cache *cache)
{
	cache->lines = calloc(cache->sets * m->config.cache_ways, sizeof(*cache->lines));
	return cache->lines;
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
	}
	if (config->memory_mode)
		m->near = calloc(config->split >> m->line_bits, sizeof(*m->near));
	if (!m->caches || (config->memory_mode && !m->near) ||
	    (config->cache_shared && !allocate_lines(m, &m->caches[0]))) {
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

static void lock(atomic_flag *flag)
{
	while (atomic_flag_test_and_set_explicit(flag, memory_order_acquire))
		;
}

static void unlock(atomic_flag *flag)
{
	atomic_flag_clear_explicit(flag, memory_order_release);
}

/* Counters have a single writer and concurrent readers. */
static void count(uint64_t *counter, uint64_t n)
{
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

static void spend(double *counter, double ns)
{
	double sum = *counter + ns;

	__atomic_store(counter, &sum, __ATOMIC_RELAXED);
}

/* Take `more` units of a slot from the vCPU with the largest share, other than `cpu`. */
static void take_from_largest(struct queue *q, struct slot *slot, unsigned int cpu, uint32_t more)
{
	unsigned int largest = cpu;

	for (uint64_t users = slot->users & ~(1ULL << cpu); users; users &= users - 1) {
		unsigned int other = (unsigned int)__builtin_ctzll(users);

		if (largest == cpu || slot->taken[other] > slot->taken[largest])
			largest = other;
	}
	if (more > slot->taken[largest])
		more = slot->taken[largest];
	slot->taken[largest] -= more;
	q->debt[largest] += more;
}

/* Update the average use of a node: `cpu` uses it for `service` ns at time `t`. */
static void record_use(struct queue *q, unsigned int cpu, double t, double service)
{
	double elapsed = t - q->last[cpu];

	if (elapsed < 0)
		elapsed = 0;
	q->use[cpu] *= elapsed < USE_NS ? 1 - elapsed / USE_NS : 0;
	q->use[cpu] += service / USE_NS;
	q->last[cpu] = t;
	if (q->cpus <= cpu)
		q->cpus = cpu + 1;
}

/* Allocate `service` ns of a node's time, from time `t` on. Returns when the request completes. */
static double serve(struct model *m, int node, unsigned int cpu, double t, double service)
{
	struct queue *q = &m->queues[node];
	uint64_t need = (uint64_t)(service * UNIT + 0.5), number = (uint64_t)(t / SLOT);
	uint32_t offset = (uint32_t)((t - (double)number * SLOT) * UNIT), turn, at;
	double end = t + service;

	lock(&q->lock);
	record_use(q, cpu, t, service);
	need += q->debt[cpu];
	q->debt[cpu] = 0;
	for (;; number++, offset = 0) {
		struct slot *slot = &q->slots[number % SLOTS];
		uint32_t left, fair, take, users;

		if (slot->number > number) /* too old: no longer in the ring */
			break;
		if (slot->number < number)
			*slot = (struct slot){.number = number};
		slot->users |= 1ULL << cpu;
		users = (uint32_t)__builtin_popcountll(slot->users);
		left = FULL - slot->used;
		fair = FULL / users;
		fair = fair > slot->taken[cpu] ? fair - slot->taken[cpu] : 0;
		take = left > fair ? left : fair;
		if (take > need)
			take = (uint32_t)need;
		if (take > left)
			take_from_largest(q, slot, cpu, take - left);
		slot->used = take > left ? FULL : slot->used + take;
		slot->taken[cpu] += take;
		need -= take;
		if (need)
			continue;
		/* Complete in order of all requests, or at the rate of the fair share if that is
		 * sooner. */
		turn = slot->used < (uint64_t)slot->taken[cpu] * users ? slot->used
								       : slot->taken[cpu] * users;
		at = offset + take < FULL ? offset + take : FULL;
		if (turn > at)
			at = turn;
		if ((double)number * SLOT + at / UNIT > end)
			end = (double)number * SLOT + at / UNIT;
		break;
	}
	unlock(&q->lock);
	return end;
}

/*
 * Returns the wait of a single request due to other vCPUs' use of the node, in ns: that of a queue
 * with random arrivals and fixed service times (M/D/1), but at most the service of all requests
 * that the others can have in flight.
 */
static double contention(struct model *m, int node, unsigned int cpu, double t)
{
	struct queue *q = &m->queues[node];
	double busy = 0, in_flight = 0, own, wait;

	lock(&q->lock);
	own = q->use[cpu];
	for (unsigned int i = 0; i < q->cpus; i++) {
		double age = t - q->last[i];

		if (i == cpu || !(q->use[i] > 0) || age > RECENT_NS || age < -RECENT_NS)
			continue;
		busy += q->use[i];
		in_flight += m->config.parallelism[i];
	}
	unlock(&q->lock);
	if (!in_flight)
		return 0;
	if (busy > 1 - own) /* the others get at most what this vCPU leaves */
		busy = 1 - own;
	if (busy < 0)
		busy = 0;
	if (busy > MAX_USE)
		busy = MAX_USE;
	wait = busy / (2 * (1 - busy));
	return (wait < in_flight ? wait : in_flight) * m->service[node][0];
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

/* Write a line to `node`. Returns when the write completes. */
static double write_line(struct model *m, struct cpu *c, int node)
{
	count(&c->counters.bytes_written[node], m->config.cache_line);
	return serve(m, node, (unsigned int)(c - m->cpus), c->clock, m->service[node][1]);
}

/* Write an evicted line to its node. The vCPU waits only if writes lag too far behind. */
static void write_back(struct model *m, struct cpu *c, uint64_t line)
{
	double late = write_line(m, c, node_of(m, line << m->line_bits)) - c->clock -
		      m->config.write_buffer;

	if (late > 0) {
		c->clock += late;
		spend(&c->counters.queue, late);
		spend(&c->counters.memory, late);
	}
}

/* Read a line from `node`. */
static void fetch(struct model *m, struct cpu *c, unsigned int cpu, int node)
{
	double service = m->service[node][0];
	double overlap = c->serial ? 1 : m->config.parallelism[cpu];
	double queue = serve(m, node, cpu, c->clock, service) - service - c->clock;
	double latency = m->config.node[node].read_latency / overlap;
	double wait = contention(m, node, cpu, c->clock) / overlap;

	/* A bandwidth-bound vCPU already waits in the queue */
	if (latency + wait > service)
		queue += latency > service ? wait : latency + wait - service;
	if (latency < service)
		latency = service;
	c->clock += latency + queue;
	spend(&c->counters.memory, latency + queue);
	spend(&c->counters.queue, queue);
	count(&c->counters.bytes_read[node], m->config.cache_line);
}

/* Memory mode: the entry of node 0 to which `line` maps. */
static _Atomic uint64_t *near_entry(struct model *m, uint64_t line)
{
	return &m->near[line % (m->config.split >> m->line_bits)];
}

/* Memory mode: read a line of node 1 through node 0, its direct-mapped cache. */
static void fetch_through_near(struct model *m, struct cpu *c, unsigned int cpu, uint64_t line)
{
	_Atomic uint64_t *near = near_entry(m, line);

	if (*near >> 1 == line + 1) {
		count(&c->counters.hits_near, 1);
		fetch(m, c, cpu, 0);
		return;
	}
	fetch(m, c, cpu, 1);
	write_line(m, c, 0);
	if (atomic_exchange(near, (line + 1) << 1) & 1)
		write_line(m, c, 1);
}

static void delay(struct cpu *c, double ns)
{
	c->clock += ns;
	spend(&c->counters.memory, ns);
}

static void miss(struct model *m, struct cpu *c, unsigned int cpu, uint64_t line, bool store)
{
	int node = node_of(m, line << m->line_bits);

	count(&c->counters.misses[node], 1);
	if (m->near)
		fetch_through_near(m, c, cpu, line);
	else if (!store)
		fetch(m, c, cpu, node);
	else if (c->serial) /* the next miss depends on this write */
		delay(c, m->config.node[node].write_latency);
	/* Other write misses cost nothing: lines are assumed to be written completely */
}

static void evict(struct model *m, struct cpu *c, uint64_t line)
{
	uint64_t clean = (line + 1) << 1, entry = clean;

	if (!m->near) {
		write_back(m, c, line);
		return;
	}
	/* To node 0 if it still caches the line, else to node 1 */
	if (atomic_compare_exchange_strong(near_entry(m, line), &entry, clean | 1) ||
	    entry == (clean | 1))
		write_line(m, c, 0);
	else
		write_line(m, c, 1);
}

/*
 * Returns the first way of a line's set. Sets are selected by a hash, as in processors with a
 * sliced last-level cache, so results hardly depend on physical addresses.
 */
static struct line *set_of(const struct model *m, const struct cache *cache, uint64_t line)
{
	uint64_t hash = line * 0x9e3779b97f4a7c15ULL;
	uint64_t set = (uint64_t)((unsigned __int128)hash * cache->sets >> 64);

	return &cache->lines[set * m->config.cache_ways];
}

/* Returns the way that holds a line, or NULL. */
static struct line *find_line(struct line *set, uint32_t ways, uint64_t line)
{
	for (struct line *l = set; l < set + ways; l++)
		if (l->tag == line + 1)
			return l;
	return NULL;
}

/* Returns an empty way, or else the least recently used one. */
static struct line *choose_victim(struct line *set, uint32_t ways, uint32_t tick)
{
	struct line *oldest = set;

	for (struct line *l = set; l < set + ways; l++) {
		if (!l->tag)
			return l;
		if (tick - l->used > tick - oldest->used)
			oldest = l;
	}
	return oldest;
}

/* Look up a line, and insert it if it is `missing`. Sets `victim` to an evicted dirty line + 1. */
static struct line *look_up(struct model *m, struct cache *cache, uint64_t line, bool *missing,
			    uint64_t *victim)
{
	uint32_t ways = m->config.cache_ways;
	struct line *set = set_of(m, cache, line), *l = find_line(set, ways, line);

	*missing = !l;
	if (l)
		return l;
	l = choose_victim(set, ways, cache->tick);
	*victim = l->dirty ? l->tag : 0;
	l->tag = line + 1;
	l->dirty = false;
	return l;
}

static void use(struct cache *cache, struct line *l, bool store)
{
	l->used = ++cache->tick;
	l->dirty |= store;
}

/* Access one line. Returns true if it missed. */
static bool access_line(struct model *m, struct cpu *c, unsigned int cpu, uint64_t line, bool store)
{
	bool shared = m->config.cache_shared, missing;
	struct cache *cache = c->cache;
	struct line *l = c->recent[line % RECENT];
	uint64_t victim = 0;

	if (!shared && l && l->tag == line + 1) {
		use(cache, l, store);
		return false;
	}
	if (shared)
		lock(&cache->lock);
	l = look_up(m, cache, line, &missing, &victim);
	use(cache, l, store);
	if (shared)
		unlock(&cache->lock);
	c->recent[line % RECENT] = l;
	if (victim)
		evict(m, c, victim - 1);
	if (missing)
		miss(m, c, cpu, line, store);
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
	use(c->cache, l, store);
	count(&c->counters.accesses, 1);
	return true;
}

void model_forget(struct model *m, unsigned int cpu)
{
	memset(m->cpus[cpu].shortcuts, 0xff, sizeof(m->cpus[cpu].shortcuts)); /* not a key */
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
	if (__builtin_expect(!cache->lines, 0) && !allocate_lines(m, cache)) /* private: no race */
		abort();
	count(&c->counters.accesses, 1);
	for (; line <= last; line++)
		misses += access_line(m, c, cpu, line, store);
	if (misses)
		atomic_store_explicit(&c->shown, c->clock, memory_order_relaxed);
	return misses;
}

void model_execute(struct model *m, unsigned int cpu, uint64_t n)
{
	struct cpu *c = &m->cpus[cpu];
	double ns = (double)n * m->config.instruction[cpu];

	count(&c->counters.instructions, n);
	spend(&c->counters.compute, ns);
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
	spend(&c->counters.charged, ns);
	atomic_store_explicit(&c->shown, c->clock, memory_order_relaxed);
}

void model_wake(struct model *m, unsigned int cpu, double clock)
{
	struct cpu *c = &m->cpus[cpu];

	if (clock > c->clock) {
		spend(&c->counters.idle, clock - c->clock);
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
	typedef uint64_t __attribute__((may_alias)) word;
	const word *from = (const word *)&m->cpus[cpu].counters;
	struct model_counters copy;

	for (size_t i = 0; i < sizeof(copy) / sizeof(word); i++)
		((word *)&copy)[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
	return copy;
}
