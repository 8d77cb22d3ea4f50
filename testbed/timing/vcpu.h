/* SPDX-License-Identifier: GPL-2.0-or-later */
/* State of the plugin that all its parts share: the options, the model, and the vCPUs. */
#ifndef SENTINEL_TIMING_VCPU_H
#define SENTINEL_TIMING_VCPU_H

#include <stdatomic.h>

#include "dependence.h"
#include "markers.h"
#include "model.h"
#include "options.h"
#include "qemu_plugin.h"

#define KINDS		512
#define NO_PROCESS	-2
#define UNKNOWN_PROCESS -1 /* the kernel has not named the process yet */
#define COLD		__attribute__((noinline))

/* A kind of memory access, decoded from QEMU's meminfo; ~0 is never valid */
struct kind {
	qemu_plugin_meminfo_t info;
	uint8_t last; /* size in bytes - 1 */
	bool read, write;
};

struct vcpu {
	/* Written by any thread */
	atomic_bool present, busy;
	atomic_bool stale;	   /* mappings of virtual addresses may have changed */
	atomic_int serial_process; /* the process whose misses are serial */
	atomic_int migrates_for;   /* the process with a region that it runs as a helper; 0: none */
	/* Written by the vCPU's thread, read by any */
	_Atomic uint64_t held;		     /* number of sleeps */
	_Atomic uint64_t pages[MODEL_NODES]; /* migrated to each node */
	/* Used by the vCPU's thread only */
	unsigned int start, machine; /* the last values of `starts` and `machines` it has seen */
	uint32_t since_sync;	     /* instructions since the last synchronisation */
	uint32_t pending;	     /* instructions not reported to the model yet */
	uint64_t executed;	     /* instructions of all regions */
	uint32_t since_batch;	     /* instructions since the last full batch */
	uint32_t shortcuts;	     /* accesses by shortcut since the last forget() */
	uint32_t argument;	     /* lower half of a marker's argument */
	int process;		     /* the process that it runs */
	bool serial;		     /* process == serial_process */
	bool halted;		     /* the last instruction was HLT or MWAIT */
	double dilation;	     /* 0: synchronised */
	double checked_at;	     /* model clock at the last synchronisation or pace check */
	double sample_real, sample_model; /* start of the current sample of the host's speed */
	double sample_held;		  /* real ns held in this sample */
	int followed;			  /* the process that `dependence` is of */
	struct dependence dependence;
	struct kind kinds[KINDS]; /* by kind_index() */
} __attribute__((aligned(128)));

extern struct options options;
extern struct model *model;
extern volatile struct clock_page *clock_page; /* NULL: none */
extern atomic_bool active;		       /* a region is open */
extern atomic_bool instrumented;	       /* new translations have callbacks */
extern struct vcpu vcpus[MODEL_CPUS];
extern atomic_uint n_vcpus;

static inline bool is_modelled(unsigned int cpu)
{
	return cpu < MODEL_CPUS;
}

static inline void increment(_Atomic uint64_t *counter)
{
	atomic_store_explicit(counter, *counter + 1, memory_order_relaxed);
}

/* Write the vCPU's clock to the clock page. */
static inline void publish(unsigned int cpu)
{
	if (clock_page)
		clock_page->ns[cpu] = (uint64_t)model_clock(model, cpu);
}

#endif
