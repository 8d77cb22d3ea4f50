// SPDX-License-Identifier: Apache-2.0
#include "sentinel_markers.h"

#include "probe.h"

void measure_read_latency(int node, size_t size, size_t steps)
{
	struct times start, elapsed;
	void *at = memory[node];

	link_lines(memory[node], size);
	begin();
	clear_cache(node);
	sentinel_mark(SENTINEL_SERIAL_BEGIN);
	if (size <= 4 * cache) /* warm up the cache */
		at = chase(at, size / LINE);
	start = now();
	at = chase(at, steps);
	elapsed = since(start);
	sentinel_mark(SENTINEL_SERIAL_END);
	end("read_latency", node, size, elapsed, (double)steps, at ? "" : "?");
}

void measure_chase(int node, size_t steps)
{
	struct times start, elapsed;
	void *at = memory[node];

	begin();
	clear_cache(node);
	start = now();
	at = chase(at, steps);
	elapsed = since(start);
	end("chase", node, stream, elapsed, (double)steps, at ? "" : "?");
}

void measure_write_latency(int node, size_t steps)
{
	size_t lines = stream / LINE, power = 1;
	struct times start, elapsed;

	while (2 * power <= lines)
		power *= 2;
	begin();
	clear_cache(node);
	sentinel_mark(SENTINEL_SERIAL_BEGIN);
	scatter(memory[node], power, 0, 100);
	start = now();
	scatter(memory[node], power, 100, steps);
	elapsed = since(start);
	sentinel_mark(SENTINEL_SERIAL_END);
	end("write_latency", node, power * LINE, elapsed, (double)steps, "");
}

void measure_read(int node)
{
	struct times start, elapsed;

	begin();
	clear_cache(node);
	start = now();
	read_lines(memory[node], stream);
	elapsed = since(start);
	end("read", node, stream, elapsed, 1, "");
}

void measure_write(int node)
{
	struct times start, elapsed;

	begin();
	write_lines(more[node], 2 * cache); /* then each store evicts a dirty line */
	start = now();
	write_lines(memory[node], stream);
	elapsed = since(start);
	end("write", node, stream, elapsed, 1, "");
}

void measure_copy(int from, int to)
{
	struct times start, elapsed;
	char fields[32];

	snprintf(fields, sizeof(fields), ", \"to\": %d", to);
	begin();
	copy_lines(more[to] + stream - 4 * cache, memory[from] + stream - 4 * cache, 4 * cache);
	start = now();
	copy_lines(more[to], memory[from], stream - 4 * cache);
	elapsed = since(start);
	end("copy", from, stream - 4 * cache, elapsed, 1, fields);
}
