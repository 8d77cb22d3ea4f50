// SPDX-License-Identifier: GPL-2.0-or-later
/* The memory behind the cache: misses and write-backs, their time and their traffic. */
#include "model_state.h"

static int node_of(const struct model *m, uint64_t address)
{
	return address >= m->config.split;
}

/* Write a line to `node`. Returns when the write completes. */
static double write_line(struct model *m, struct cpu *c, int node)
{
	count(&c->counters.bytes_written[node], m->config.cache_line);
	return bandwidth_serve(&m->queues[node], (unsigned int)(c - m->cpus), c->clock,
			       m->service[node][1]);
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

static void delay(struct cpu *c, double ns)
{
	c->clock += ns;
	spend(&c->counters.memory, ns);
}

static double larger(double a, double b)
{
	return a > b ? a : b;
}

/*
 * Read a line from `node`. Returns when it arrives.
 *
 * While a miss waits for its address it has its place among the misses in flight. So by Little's
 * law it costs this time / `parallelism`, too, and the vCPU gets ahead of a chain of dependent
 * misses by at most `parallelism` of them.
 */
static double fetch(struct model *m, struct cpu *c, unsigned int cpu, int node)
{
	double service = m->service[node][0], latency = m->config.node[node].read_latency;
	double overlap = c->serial ? 1 : m->config.parallelism[cpu];
	double address = larger(c->issue_after - c->clock, 0); /* ns until it is known */
	double queue =
		bandwidth_serve(&m->queues[node], cpu, c->clock, service) - service - c->clock;
	double wait =
		bandwidth_wait(&m->queues[node], cpu, c->clock, m->config.parallelism) * service;
	double arrival = c->clock + queue + address + latency + wait;
	/* A bandwidth-bound vCPU already waits in the queue */
	double independent = larger((latency + wait) / overlap, service);
	double ns = larger((address + latency + wait) / overlap, service);

	if (address > 0)
		c->awaited = larger(c->awaited, arrival);
	c->clock += ns + queue;
	spend(&c->waited, ns - independent);
	spend(&c->counters.memory, ns + queue);
	spend(&c->counters.queue, queue + independent - larger(latency / overlap, service));
	count(&c->counters.bytes_read[node], m->config.cache_line);
	return arrival;
}

/* Memory mode: whether a line of `node` is accessed through the cache in node 0. */
static bool is_far(const struct model *m, int node)
{
	return m->near && (node || !m->config.near_size);
}

/* Memory mode: the entry of the cache to which `line` maps. */
static _Atomic uint64_t *near_entry(struct model *m, uint64_t line)
{
	return &m->near[line % m->near_lines];
}

/* Memory mode: read a line of node 1 through node 0, its direct-mapped cache. */
static double fetch_through_near(struct model *m, struct cpu *c, unsigned int cpu, uint64_t line)
{
	_Atomic uint64_t *near = near_entry(m, line);
	double arrival;

	if (*near >> 1 == line + 1) {
		count(&c->counters.hits_near, 1);
		return fetch(m, c, cpu, 0);
	}
	arrival = fetch(m, c, cpu, 1);
	write_line(m, c, 0);
	if (atomic_exchange(near, (line + 1) << 1) & 1)
		write_line(m, c, 1);
	return arrival;
}

double memory_miss(struct model *m, unsigned int cpu, uint64_t line, bool store)
{
	struct cpu *c = &m->cpus[cpu];
	int node = node_of(m, line << m->line_bits);

	count(&c->counters.misses[node], 1);
	if (is_far(m, node))
		return fetch_through_near(m, c, cpu, line);
	if (!store)
		return fetch(m, c, cpu, node);
	if (c->serial) /* the next miss depends on this write */
		delay(c, m->config.node[node].write_latency);
	/* Other write misses cost nothing: lines are assumed to be written completely */
	return 0;
}

void memory_evict(struct model *m, unsigned int cpu, uint64_t line)
{
	struct cpu *c = &m->cpus[cpu];
	uint64_t clean = (line + 1) << 1, entry = clean;

	if (!is_far(m, node_of(m, line << m->line_bits))) {
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
