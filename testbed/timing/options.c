// SPDX-License-Identifier: GPL-2.0-or-later
#include "options.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
	snprintf(to, OPTIONS_PATH, "%s", value);
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
	size_t offset; /* in struct options */
	void (*set)(void *to, const char *value);
} table[] = {
	{"node0.read_latency", offsetof(struct options, model.node[0].read_latency), set_number},
	{"node0.write_latency", offsetof(struct options, model.node[0].write_latency), set_number},
	{"node0.read_bandwidth", offsetof(struct options, model.node[0].read_bandwidth),
	 set_number},
	{"node0.write_bandwidth", offsetof(struct options, model.node[0].write_bandwidth),
	 set_number},
	{"node1.read_latency", offsetof(struct options, model.node[1].read_latency), set_number},
	{"node1.write_latency", offsetof(struct options, model.node[1].write_latency), set_number},
	{"node1.read_bandwidth", offsetof(struct options, model.node[1].read_bandwidth),
	 set_number},
	{"node1.write_bandwidth", offsetof(struct options, model.node[1].write_bandwidth),
	 set_number},
	{"split", offsetof(struct options, model.split), set_u64},
	{"end", offsetof(struct options, model.end), set_u64},
	{"hole.start", offsetof(struct options, model.hole[0]), set_u64},
	{"hole.end", offsetof(struct options, model.hole[1]), set_u64},
	{"cache.size", offsetof(struct options, model.cache_size), set_u64},
	{"cache.ways", offsetof(struct options, model.cache_ways), set_u32},
	{"cache.line", offsetof(struct options, model.cache_line), set_u32},
	{"cache.shared", offsetof(struct options, model.cache_shared), set_u32},
	{"memory_mode", offsetof(struct options, model.memory_mode), set_u32},
	{"write_buffer", offsetof(struct options, model.write_buffer), set_number},
	{"instruction", offsetof(struct options, model.instruction), set_cpus},
	{"parallelism", offsetof(struct options, model.parallelism), set_cpus},
	{"remap", offsetof(struct options, model.remap), set_number},
	{"remap_page", offsetof(struct options, model.remap_page), set_number},
	{"shootdown", offsetof(struct options, model.shootdown), set_number},
	{"cores", offsetof(struct options, model.cores), set_number},
	{"page", offsetof(struct options, page_ns), set_number},
	{"window", offsetof(struct options, window), set_number},
	{"log", offsetof(struct options, log_path), set_path},
	{"clock", offsetof(struct options, clock_path), set_path},
};

bool options_read(struct options *options, const char *path)
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
		for (i = 0; i < sizeof(table) / sizeof(*table); i++)
			if (!strcmp(line, table[i].name))
				break;
		if (i == sizeof(table) / sizeof(*table)) {
			fprintf(stderr, "timing: %s: unknown option %s\n", path, line);
			fclose(file);
			return false;
		}
		table[i].set((char *)options + table[i].offset, value);
	}
	fclose(file);
	return true;
}
