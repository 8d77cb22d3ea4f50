// SPDX-License-Identifier: GPL-2.0-or-later
#include "accesses.h"

#include "oracle.h"
#include "pacing.h"
#include "tracer.h"

#define SHORTCUT_LIMIT 4096 /* accesses by shortcut before all are dropped */
#define USER_END       (1ULL << 47)

unsigned int line_bits;
struct oracle *oracle;
atomic_int observed = NO_PROCESS;

/* Drop all shortcuts: mappings of virtual addresses may have changed. */
void forget(unsigned int cpu)
{
	vcpus[cpu].stale = false;
	model_forget(model, cpu);
	vcpus[cpu].shortcuts = 0;
}

static uint64_t line_of(uint64_t address)
{
	return address >> line_bits;
}

/* Returns true if the oracle counts the vCPU's access to `address`. */
static bool is_observed(const struct vcpu *v, uint64_t address)
{
	return v->process >= 0 && v->process == observed && address < USER_END;
}

/* Hash of `info`. Loads and stores of one size differ only in bit 16, which must have effect. */
static unsigned int kind_index(qemu_plugin_meminfo_t info)
{
	return (info ^ info >> 8) % KINDS;
}

/* Decode `info`, and cache the result. */
static struct kind decode_kind(struct vcpu *v, qemu_plugin_meminfo_t info)
{
	struct kind *kind = &v->kinds[kind_index(info)];

	kind->info = info;
	kind->read = info >> MEM_RW_SHIFT & QEMU_PLUGIN_MEM_R;
	kind->write = info >> MEM_RW_SHIFT & QEMU_PLUGIN_MEM_W;
	kind->last = (1U << qemu_plugin_mem_size_shift(info)) - 1;
	return *kind;
}

static void count_observed(uint64_t address, struct kind kind, unsigned int misses, int node)
{
	if (kind.read)
		oracle_count(oracle, address, false, misses, node);
	if (kind.write)
		oracle_count(oracle, address, true, kind.read ? 0 : misses, node);
}

/*
 * Account for the bytes from `first` to `last` of an access, which are in one page. The write of a
 * read-modify-write hits the cache. Returns when the data that it reads arrive.
 */
static double access_page(unsigned int cpu, struct kind kind, uint64_t first, uint64_t last)
{
	struct qemu_plugin_hwaddr *hw = qemu_plugin_get_hwaddr(kind.info, first);
	unsigned int size = (unsigned int)(last - first) + 1, misses = 0;
	uint64_t physical;
	double arrival = 0;

	if (!hw || qemu_plugin_hwaddr_is_io(hw))
		return 0;
	flush_pending(cpu);
	physical = qemu_plugin_hwaddr_phys_addr(hw);
	if (kind.read) {
		misses += model_access(model, cpu, physical, size, false);
		arrival = model_arrival(model, cpu);
	}
	if (kind.write)
		misses += model_access(model, cpu, physical, size, true);
	if (line_of(first) == line_of(last))
		model_remember(model, cpu, physical, line_of(first));
	if (is_observed(&vcpus[cpu], first))
		count_observed(first, kind, misses, physical >= options.model.split);
	return arrival;
}

/* Follow the values that an access reads or writes. `arrival` is that of its lines. */
static void follow_access(struct vcpu *v, struct kind kind, uint64_t word, uint64_t address,
			  double arrival)
{
	if (kind.read)
		dependence_read(&v->dependence, word, address, arrival);
	if (kind.write)
		dependence_write(&v->dependence, word, address);
}

/* Account for an access without a shortcut. */
static COLD void access_memory(unsigned int cpu, qemu_plugin_meminfo_t info, uint64_t address,
			       uint64_t word)
{
	struct vcpu *v = &vcpus[cpu];
	struct dependence *d = &v->dependence;
	struct kind kind = decode_kind(v, info);
	uint64_t last = address + kind.last, page = last / MODEL_PAGE * MODEL_PAGE;
	bool kernel = word & FLOW_KERNEL;
	double arrival;

	if (v->stale)
		forget(cpu);
	if (kernel && v->serial) /* misses in interrupts are not serial */
		model_serial(model, cpu, false);
	/* A store waits for its address in the store buffer */
	model_issue_after(model, cpu,
			  d->waiting && !(word & FLOW_STORE) ? dependence_ready(d, word) : 0);
	if (address / MODEL_PAGE == last / MODEL_PAGE) {
		arrival = access_page(cpu, kind, address, last);
	} else { /* the pages may not be physically contiguous */
		double rest;

		arrival = access_page(cpu, kind, address, page - 1);
		rest = access_page(cpu, kind, page, last);
		arrival = rest > arrival ? rest : arrival;
	}
	if (kernel && v->serial)
		model_serial(model, cpu, true);
	if (!kernel && model_awaits(model, cpu, arrival))
		dependence_await(d, arrival);
	if (d->waiting)
		follow_access(v, kind, word, address, arrival);
	if (tracing && !cpu)
		trace_arrival(arrival);
}

/* Rare work after an access by shortcut: drop all shortcuts at the limit, count for the oracle. */
static COLD void after_shortcut(unsigned int cpu, uint64_t address, struct kind kind)
{
	if (vcpus[cpu].shortcuts >= SHORTCUT_LIMIT)
		forget(cpu);
	if (is_observed(&vcpus[cpu], address))
		count_observed(address, kind, 0, 0);
}

/* The hot path of the plugin: no calls, few instructions. */
void on_access(unsigned int cpu, qemu_plugin_meminfo_t info, uint64_t address, void *data)
{
	struct vcpu *v = &vcpus[cpu];
	struct kind kind = v->kinds[kind_index(info)];
	uint64_t line = line_of(address), word = (uintptr_t)data;

	if (!active)
		return;
	if (tracing && !cpu)
		trace_access(info, address, decode_kind(v, info),
			     v->dependence.waiting && !(word & FLOW_STORE)
				     ? dependence_ready(&v->dependence, word)
				     : 0);
	if (kind.info != info || line != line_of(address + kind.last) ||
	    atomic_load_explicit(&v->stale, memory_order_relaxed) ||
	    !model_again(model, cpu, line, !kind.read)) {
		access_memory(cpu, info, address, word);
		return;
	}
	if (kind.read && kind.write)
		model_again(model, cpu, line, true);
	if (v->dependence.waiting)
		follow_access(v, kind, word, address, model_arrival_of(model, cpu, line));
	if (++v->shortcuts >= SHORTCUT_LIMIT || observed >= 0)
		after_shortcut(cpu, address, kind);
}

void on_fence(unsigned int cpu, void *data)
{
	(void)data;
	if (!active || !is_modelled(cpu))
		return;
	model_drain(model, cpu);
	if (tracing && !cpu)
		trace_fence();
}

void follow_block(unsigned int cpu, const struct block *block)
{
	struct vcpu *v = &vcpus[cpu];
	struct dependence *d = &v->dependence;

	/* Interrupts, and most system calls, leave the registers as they are */
	if (block->kernel)
		return;
	if (v->process != v->followed)
		dependence_clear(d);
	v->followed = v->process;
	if (d->waiting) {
		dependence_change(d);
		d->waiting = model_awaits(model, cpu, d->latest);
	}
	d->block = block;
}
