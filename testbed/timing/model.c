// SPDX-License-Identifier: GPL-2.0-or-later
#include "model.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/*
 * A node's time is cut into slots, and a request takes its service time out of the first slots from
 * its own time on that have some left. vCPUs' clocks differ by up to the window in which they are
 * kept, so requests do not come in the order of their times: whoever comes later with an earlier
 * time still has a right to its fair share of a slot, and takes it from who has most of it. That
 * one owes it to the node then, and its next request takes so much longer. So bandwidth is shared
 * max-min fairly, whichever vCPU the host runs first, and none is ever given away twice.
 */
#define SLOT  256.0 /* ns */
#define SLOTS 4096  /* a ring; 1 ms is far more than any window */
#define UNIT  256.0 /* of a nanosecond: what service times are counted in */
#define FULL  ((uint32_t)(SLOT * UNIT))

/* Others' use of a node as it was a moment ago makes who waits for one line wait longer. */
#define MEMORY	 1000.0	  /* ns over which use is averaged */
#define RECENTLY 100000.0 /* whose clock is further away than this is not there */
#define BUSIEST	 0.999

struct slot {
	uint64_t number; /* since the beginning of time */
	uint64_t users;	 /* a bit for each vCPU */
	uint32_t used;	 /* UNITs */
	uint32_t taken[MODEL_CPUS];
};

struct queue {
	struct slot slots[SLOTS];
	atomic_flag lock;
	uint64_t debt[MODEL_CPUS]; /* UNITs */
	double use[MODEL_CPUS];	   /* share of the node's time, of late */
	double last[MODEL_CPUS];   /* when it was brought up to date */
	unsigned int cpus;	   /* one more than the last vCPU that came */
};

struct line {
	uint64_t tag; /* line number + 1; 0 if there is none */
	uint32_t used;
	bool dirty;
};

#define RECENT 1024 /* lines that are found without a search */
#define AGAIN  256  /* and those that are found without their physical address */

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
	struct line *recent[RECENT]; /* of its own cache, by the last bits of the line's number */
	struct {
		uint64_t key, tag;
		struct line *line;
	} again[AGAIN]; /* whatever has a key has a line */
	struct model_counters counters;
} __attribute__((aligned(128)));

struct model {
	struct model_config config;
	unsigned int line_bits;
	double service[MODEL_NODES][2]; /* ns for a line, read and written */
	struct cache *caches;
	_Atomic uint64_t *near; /* memory mode: line + 1 of node 1, and whether it is dirty, by line
				   of node 0 */
	struct queue queues[MODEL_NODES];
	struct cpu cpus[MODEL_CPUS];
};

static bool sensible(const struct model_config *c)
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

/* Counters have one writer, and readers at any time. */
static void count(uint64_t *counter, uint64_t n)
{
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

static void spend(double *counter, double ns)
{
	double sum = *counter + ns;

	__atomic_store(counter, &sum, __ATOMIC_RELAXED);
}

/* Take `more` than is left of a slot from who has most of it but `cpu`. */
static void rob(struct queue *q, struct slot *slot, unsigned int cpu, uint32_t more)
{
	unsigned int richest = cpu;

	for (uint64_t users = slot->users & ~(1ULL << cpu); users; users &= users - 1) {
		unsigned int other = (unsigned int)__builtin_ctzll(users);

		if (richest == cpu || slot->taken[other] > slot->taken[richest])
			richest = other;
	}
	if (more > slot->taken[richest])
		more = slot->taken[richest];
	slot->taken[richest] -= more;
	q->debt[richest] += more;
}

/* Remember that `cpu` uses a node for `service` ns at time `t`. */
static void used(struct queue *q, unsigned int cpu, double t, double service)
{
	double since = t - q->last[cpu];

	if (since < 0)
		since = 0;
	q->use[cpu] *= since < MEMORY ? 1 - since / MEMORY : 0;
	q->use[cpu] += service / MEMORY;
	q->last[cpu] = t;
	if (q->cpus <= cpu)
		q->cpus = cpu + 1;
}

/* Take `service` ns of a node from time `t` on; returns when that is done. */
static double serve(struct model *m, int node, unsigned int cpu, double t, double service)
{
	struct queue *q = &m->queues[node];
	uint64_t need = (uint64_t)(service * UNIT + 0.5), number = (uint64_t)(t / SLOT);
	uint32_t within = (uint32_t)((t - (double)number * SLOT) * UNIT), most, at;
	double end = t + service;

	lock(&q->lock);
	used(q, cpu, t, service);
	need += q->debt[cpu];
	q->debt[cpu] = 0;
	for (;; number++, within = 0) {
		struct slot *slot = &q->slots[number % SLOTS];
		uint32_t left, fair, take, users;

		if (slot->number > number) /* far behind: nobody knows any more */
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
			rob(q, slot, cpu, take - left);
		slot->used = take > left ? FULL : slot->used + take;
		slot->taken[cpu] += take;
		need -= take;
		if (need)
			continue;
		/* In its turn among all requests, or at the rate of its fair share if that is
		 * sooner */
		most = slot->used < (uint64_t)slot->taken[cpu] * users ? slot->used
								       : slot->taken[cpu] * users;
		at = within + take < FULL ? within + take : FULL;
		if (most > at)
			at = most;
		if ((double)number * SLOT + at / UNIT > end)
			end = (double)number * SLOT + at / UNIT;
		break;
	}
	unlock(&q->lock);
	return end;
}

/*
 * How long a single request waits because others use the node: what a queue of random arrivals and
 * fixed service times would take (M/D/1), but never longer than all that others have in flight.
 */
static double crowded(struct model *m, int node, unsigned int cpu, double t)
{
	struct queue *q = &m->queues[node];
	double busy = 0, flights = 0, own, wait;

	lock(&q->lock);
	own = q->use[cpu];
	for (unsigned int i = 0; i < q->cpus; i++) {
		double apart = t - q->last[i];

		if (i == cpu || !(q->use[i] > 0) || apart > RECENTLY || apart < -RECENTLY)
			continue;
		busy += q->use[i];
		flights += m->config.parallelism[i];
	}
	unlock(&q->lock);
	if (!flights)
		return 0;
	if (busy > 1 - own) /* they take what we leave, whatever they took just now */
		busy = 1 - own;
	if (busy < 0)
		busy = 0;
	if (busy > BUSIEST)
		busy = BUSIEST;
	wait = busy / (2 * (1 - busy));
	return (wait < flights ? wait : flights) * m->service[node][0];
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
	count(&c->counters.bytes_written[node], m->config.cache_line);
	return serve(m, node, (unsigned int)(c - m->cpus), c->clock, m->service[node][1]);
}

/* A line goes to its node: nobody waits for that unless too many do. */
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

/* A line comes from `node`. */
static void fetch(struct model *m, struct cpu *c, unsigned int cpu, int node)
{
	double service = m->service[node][0];
	double overlap = c->serial ? 1 : m->config.parallelism[cpu];
	double queue = serve(m, node, cpu, c->clock, service) - service - c->clock;
	double latency = m->config.node[node].read_latency / overlap;
	double crowd = crowded(m, node, cpu, c->clock) / overlap;

	/* Who is bound by the bandwidth waits in the queue already */
	if (latency + crowd > service)
		queue += latency > service ? crowd : latency + crowd - service;
	if (latency < service)
		latency = service;
	c->clock += latency + queue;
	spend(&c->counters.memory, latency + queue);
	spend(&c->counters.queue, queue);
	count(&c->counters.bytes_read[node], m->config.cache_line);
}

/* Memory mode: where node 0 keeps `line`, if it does. */
static _Atomic uint64_t *near_of(struct model *m, uint64_t line)
{
	return &m->near[line % (m->config.split >> m->line_bits)];
}

/* Memory mode: all memory is on node 1, and node 0 keeps the lines used last. */
static void fetch_through_near(struct model *m, struct cpu *c, unsigned int cpu, uint64_t line)
{
	_Atomic uint64_t *near = near_of(m, line);

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

static void wait(struct cpu *c, double ns)
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
	else if (c->serial) /* the next one waits until it has arrived */
		wait(c, m->config.node[node].write_latency);
	/* What is written is taken to be written whole: nothing is fetched */
}

static void evict(struct model *m, struct cpu *c, uint64_t line)
{
	uint64_t clean = (line + 1) << 1, held = clean;

	if (!m->near) {
		write_back(m, c, line);
		return;
	}
	/* Into node 0 if it has the line still, else to node 1 */
	if (atomic_compare_exchange_strong(near_of(m, line), &held, clean | 1) ||
	    held == (clean | 1))
		write_line(m, c, 0);
	else
		write_line(m, c, 1);
}

/*
 * The first way of a line's set. Sets are chosen by a hash, as in processors whose last-level cache
 * is in slices: so it makes little difference where in memory a page happens to be.
 */
static struct line *set_of(const struct model *m, const struct cache *cache, uint64_t line)
{
	uint64_t hash = line * 0x9e3779b97f4a7c15ULL;
	uint64_t set = (uint64_t)((unsigned __int128)hash * cache->sets >> 64);

	return &cache->lines[set * m->config.cache_ways];
}

/* The way a line is in, or NULL. */
static struct line *find_line(struct line *set, uint32_t ways, uint64_t line)
{
	for (struct line *l = set; l < set + ways; l++)
		if (l->tag == line + 1)
			return l;
	return NULL;
}

/* The way whose turn it is: a free one, or the one that was not used for longest. */
static struct line *oldest_of(struct line *set, uint32_t ways, uint32_t tick)
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

/* Look a line up, and put it there if it was `missing`; `victim` is a dirty line + 1 that left. */
static struct line *look_up(struct model *m, struct cache *cache, uint64_t line, bool *missing,
			    uint64_t *victim)
{
	uint32_t ways = m->config.cache_ways;
	struct line *set = set_of(m, cache, line), *l = find_line(set, ways, line);

	*missing = !l;
	if (l)
		return l;
	l = oldest_of(set, ways, cache->tick);
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

/* An access to one line; returns whether it missed. */
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
	c->again[key % AGAIN].key = key;
	c->again[key % AGAIN].tag = line + 1;
	c->again[key % AGAIN].line = l;
}

bool model_again(struct model *m, unsigned int cpu, uint64_t key, bool store)
{
	struct cpu *c = &m->cpus[cpu];
	struct line *l = c->again[key % AGAIN].line;

	if (c->again[key % AGAIN].key != key || l->tag != c->again[key % AGAIN].tag)
		return false;
	use(c->cache, l, store);
	count(&c->counters.accesses, 1);
	return true;
}

void model_forget(struct model *m, unsigned int cpu)
{
	memset(m->cpus[cpu].again, 0xff, sizeof(m->cpus[cpu].again)); /* all bits set is no key */
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
	if (__builtin_expect(!cache->lines, 0) && !allocate_lines(m, cache)) /* its own: no race */
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
