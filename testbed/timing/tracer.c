// SPDX-License-Identifier: GPL-2.0-or-later
#include "tracer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#define LINE	   64	 /* bytes */
#define FILTER	   1024	 /* entries: 64 KiB of lines */
#define FILTER_AGE 4096	 /* words */
#define BUFFER	   65536 /* words */
#define LEVEL	   "1"	 /* of compression: the vCPU waits for it */
#define SOURCES	   1024	 /* a power of two, more than a word can go back */
#define COUNT_MAX  ((1ULL << TRACE_COUNT_BITS) - 1) /* instructions in a word */

bool tracing;

static gzFile file;
static char path[OPTIONS_PATH + 32];
static bool failed;
static unsigned int files; /* traces so far */
static uint64_t words;	   /* in this trace */
static uint64_t counted;   /* instructions of the vCPU at the last word */
static bool paused, fenced;
static uint64_t accessed;	 /* words before the last access */
static double arrivals[SOURCES]; /* of the last words */
static uint64_t paused_at;	 /* instructions of the vCPU */
static uint64_t buffer[BUFFER];
static struct {
	uint64_t line, word;
	bool written;
} filter[FILTER];

static void flush(void)
{
	unsigned int size = (unsigned int)(words % BUFFER ? words % BUFFER : BUFFER) * 8;

	if (!failed && gzwrite(file, buffer, size) != (int)size) {
		fprintf(stderr, "timing: cannot write %s: %s\n", path, strerror(errno));
		failed = true;
	}
}

/* The number of words to go back to the one whose data arrive at `ready`; 0: none of the last. */
static uint64_t source_of(double ready)
{
	if (fenced)
		return TRACE_FENCE;
	for (uint64_t n = 1; ready > 0 && n < TRACE_FENCE && n <= words; n++)
		if (arrivals[(words - n) % SOURCES] == ready)
			return n;
	return 0;
}

static void append_word(uint64_t word)
{
	arrivals[words % SOURCES] = 0;
	buffer[words++ % BUFFER] = word;
	if (words % BUFFER == 0)
		flush();
}

static void append(uint64_t line, bool node, uint64_t kind, double ready)
{
	uint64_t count = (paused ? paused_at : vcpus[0].executed) - counted;
	uint64_t source;

	counted += count;
	if (count > COUNT_MAX) {
		append_word(TRACE_LINE_OF(count) | (uint64_t)TRACE_TIME << TRACE_KIND_SHIFT);
		count = 0;
	}
	source = kind == TRACE_EVENT ? 0 : source_of(ready);
	if (source == TRACE_FENCE)
		fenced = false;
	append_word(TRACE_LINE_OF(line) | (uint64_t)node << TRACE_NODE_SHIFT |
		    count << TRACE_COUNT_SHIFT | source << TRACE_SOURCE_SHIFT |
		    kind << TRACE_KIND_SHIFT);
}

void trace_begin(void)
{
	if (tracing)
		trace_end();
	snprintf(path, sizeof(path), "%.*s/trace-%u.gz",
		 (int)(strrchr(options.log_path, '/') - options.log_path), options.log_path,
		 files++);
	file = gzopen(path, "wbe" LEVEL);
	if (!file) {
		fprintf(stderr, "timing: cannot write %s: %s\n", path, strerror(errno));
		return;
	}
	memset(filter, 0xff, sizeof(filter)); /* no line */
	failed = paused = fenced = false;
	words = accessed = 0;
	counted = vcpus[0].executed;
	tracing = true;
}

const char *trace_end(void)
{
	if (!tracing)
		return NULL;
	tracing = false;
	if (words % BUFFER)
		flush();
	if (gzclose(file) != Z_OK && !failed) {
		fprintf(stderr, "timing: cannot write %s: %s\n", path, strerror(errno));
		failed = true;
	}
	if (failed)
		unlink(path);
	return failed ? NULL : strrchr(path, '/') + 1;
}

void trace_pause(bool pause)
{
	if (pause && !paused)
		paused_at = vcpus[0].executed;
	else if (!pause && paused)
		counted += vcpus[0].executed - paused_at;
	paused = pause;
}

void trace_event(void)
{
	if (tracing)
		append(0, false, TRACE_EVENT, 0);
}

/* Whether the trace needs this access; then it counts as traced. */
static bool is_new(uint64_t line, bool write)
{
	unsigned int i = line % FILTER;
	bool same = filter[i].line == line && words - filter[i].word < FILTER_AGE;

	if (same && (filter[i].written || !write))
		return false;
	filter[i].line = line;
	filter[i].word = words;
	filter[i].written = write;
	return true;
}

void trace_access(qemu_plugin_meminfo_t info, uint64_t address, struct kind kind, double ready)
{
	uint64_t last = (address + kind.last) / LINE;

	accessed = words;
	if (paused)
		return;
	for (uint64_t line = address / LINE; line <= last; line++, address = line * LINE) {
		bool read = kind.read && is_new(line, false);
		bool write = kind.write && is_new(line, true);
		struct qemu_plugin_hwaddr *hw;
		bool node;

		if (!read && !write)
			continue;
		hw = qemu_plugin_get_hwaddr(info, address);
		if (!hw || qemu_plugin_hwaddr_is_io(hw))
			continue;
		node = qemu_plugin_hwaddr_phys_addr(hw) >= options.model.split;
		if (read)
			append(line, node, TRACE_READ, ready);
		if (write)
			append(line, node, TRACE_WRITE, ready);
	}
}

void trace_arrival(double arrival)
{
	for (; accessed < words; accessed++)
		arrivals[accessed % SOURCES] = arrival;
}

void trace_fence(void)
{
	fenced |= !paused;
}
