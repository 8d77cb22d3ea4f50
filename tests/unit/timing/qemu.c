// SPDX-License-Identifier: GPL-2.0-or-later
#include "qemu.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "markers.h"
#include "qemu_plugin.h"

#define CALLBACKS 4   /* per instruction */
#define BLOCK	  512 /* instructions */
#define MAPPINGS  64
#define PAGE	  4096
#define CODE	  0x400000		/* user mode */
#define KERNEL	  0xffffffff81000000ULL /* kernel mode */
#define RESET	  0xfffffff0
#define ARGUMENTS 0xffffffff82000000ULL /* aligned to MARKER_ARGUMENTS */

struct callback {
	exec_cb cb;
	void *data;
};

struct qemu_plugin_insn {
	uint8_t bytes[16];
	size_t size;
	struct callback exec[CALLBACKS];
	mem_cb mem;
	void *mem_data;
	uint64_t address;	    /* of the memory access */
	qemu_plugin_meminfo_t info; /* 0: no access */
};

struct qemu_plugin_tb {
	uint64_t address;
	size_t n;
	struct callback exec[CALLBACKS];
	struct qemu_plugin_insn insns[BLOCK];
};

struct qemu_plugin_hwaddr {
	uint64_t physical;
};

int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv);

static vcpu_cb vcpu_init, vcpu_idle, vcpu_resume;
static tb_cb translate;
static _Atomic int64_t clock_ns = -1;
static struct {
	uint64_t address, physical;
} mappings[MAPPINGS];
static unsigned int mapped;

/* ---------------------------------------------------------------- called by the plugin */

void qemu_plugin_register_vcpu_init_cb(qemu_plugin_id_t id, vcpu_cb cb)
{
	(void)id;
	vcpu_init = cb;
}

void qemu_plugin_register_vcpu_idle_cb(qemu_plugin_id_t id, vcpu_cb cb)
{
	(void)id;
	vcpu_idle = cb;
}

void qemu_plugin_register_vcpu_resume_cb(qemu_plugin_id_t id, vcpu_cb cb)
{
	(void)id;
	vcpu_resume = cb;
}

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, tb_cb cb)
{
	(void)id;
	translate = cb;
}

static void add(struct callback *to, exec_cb cb, void *data)
{
	for (int i = 0; i < CALLBACKS; i++)
		if (!to[i].cb) {
			to[i] = (struct callback){cb, data};
			return;
		}
	abort();
}

void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, exec_cb cb,
					  enum qemu_plugin_cb_flags flags, void *data)
{
	(void)flags;
	add(tb->exec, cb, data);
}

void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn, exec_cb cb,
					    enum qemu_plugin_cb_flags flags, void *data)
{
	(void)flags;
	add(insn->exec, cb, data);
}

void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *insn, mem_cb cb,
				      enum qemu_plugin_cb_flags flags, enum qemu_plugin_mem_rw rw,
				      void *data)
{
	(void)flags;
	(void)rw;
	insn->mem = cb;
	insn->mem_data = data;
}

/* Translated code is not kept, so there is nothing to flush. */
void qemu_plugin_reset(qemu_plugin_id_t id, simple_cb cb)
{
	(void)id;
	(void)cb;
}

uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb)
{
	return tb->address;
}

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb)
{
	return tb->n;
}

struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t i)
{
	return (struct qemu_plugin_insn *)&tb->insns[i];
}

size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn)
{
	return insn->size;
}

const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn)
{
	return insn->bytes;
}

bool qemu_plugin_mem_is_store(qemu_plugin_meminfo_t info)
{
	return info >> MEM_RW_SHIFT & QEMU_PLUGIN_MEM_W;
}

unsigned int qemu_plugin_mem_size_shift(qemu_plugin_meminfo_t info)
{
	return info & 0xff;
}

struct qemu_plugin_hwaddr *qemu_plugin_get_hwaddr(qemu_plugin_meminfo_t info, uint64_t address)
{
	static _Thread_local struct qemu_plugin_hwaddr hw;
	uint64_t page = address & ~(uint64_t)(PAGE - 1);

	(void)info;
	hw.physical = address;
	for (unsigned int i = 0; i < mapped; i++)
		if (mappings[i].address == page)
			hw.physical = mappings[i].physical + address % PAGE;
	return &hw;
}

bool qemu_plugin_hwaddr_is_io(const struct qemu_plugin_hwaddr *address)
{
	(void)address;
	return false;
}

uint64_t qemu_plugin_hwaddr_phys_addr(const struct qemu_plugin_hwaddr *address)
{
	return address->physical;
}

int64_t cpu_get_clock(void)
{
	int64_t ns = clock_ns;
	struct timespec t;

	if (ns >= 0)
		return ns;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* ---------------------------------------------------------------- called by tests */

int qemu_start(const char *config, unsigned int cpus)
{
	char argument[4096] = "config=", *argv[] = {argument};
	int failed;

	strncat(argument, config, sizeof(argument) - 8);
	failed = qemu_plugin_install(1, NULL, 1, argv);
	for (unsigned int cpu = 0; !failed && cpu < cpus; cpu++)
		vcpu_init(1, cpu);
	return failed;
}

void qemu_map(uint64_t address, uint64_t physical)
{
	if (mapped == MAPPINGS)
		abort();
	mappings[mapped].address = address;
	mappings[mapped++].physical = physical;
}

void qemu_set_clock(int64_t ns)
{
	clock_ns = ns;
}

static void call(const struct callback *callbacks, unsigned int cpu)
{
	for (int i = 0; i < CALLBACKS && callbacks[i].cb; i++)
		callbacks[i].cb(cpu, callbacks[i].data);
}

/* Translate and execute a block. Instructions without bytes are NOPs. */
static void run(unsigned int cpu, struct qemu_plugin_tb *tb)
{
	for (size_t i = 0; i < tb->n; i++)
		if (!tb->insns[i].size) {
			tb->insns[i].bytes[0] = 0x90;
			tb->insns[i].size = 1;
		}
	translate(1, tb);
	call(tb->exec, cpu);
	for (size_t i = 0; i < tb->n; i++) {
		struct qemu_plugin_insn *insn = &tb->insns[i];

		call(insn->exec, cpu);
		if (insn->mem && insn->info)
			insn->mem(cpu, insn->info, insn->address, insn->mem_data);
	}
}

static _Thread_local struct qemu_plugin_tb the_block;

static struct qemu_plugin_tb *block(uint64_t address, size_t n)
{
	if (n > BLOCK)
		abort();
	memset(the_block.exec, 0, sizeof(the_block.exec));
	memset(the_block.insns, 0, n * sizeof(*the_block.insns));
	the_block.address = address;
	the_block.n = n;
	return &the_block;
}

static void load(struct qemu_plugin_insn *insn, uint64_t address, unsigned int size_shift,
		 unsigned int rw)
{
	insn->address = address;
	insn->info = rw << MEM_RW_SHIFT | size_shift;
}

void qemu_execute(unsigned int cpu, unsigned int n)
{
	for (; n > BLOCK; n -= BLOCK)
		run(cpu, block(CODE, BLOCK));
	run(cpu, block(CODE, n));
}

void qemu_access(unsigned int cpu, uint64_t address, unsigned int size_shift, unsigned int rw)
{
	struct qemu_plugin_tb *tb = block(CODE, 1);

	load(&tb->insns[0], address, size_shift, rw);
	run(cpu, tb);
}

static _Thread_local size_t added;

void qemu_add(const uint8_t *bytes, unsigned int size, uint64_t address, unsigned int size_shift,
	      unsigned int rw)
{
	struct qemu_plugin_tb *tb = added ? &the_block : block(CODE, BLOCK);
	struct qemu_plugin_insn *insn = &tb->insns[added++];

	memcpy(insn->bytes, bytes, size);
	insn->size = size;
	if (rw)
		load(insn, address, size_shift, rw);
}

void qemu_run(unsigned int cpu, bool kernel)
{
	the_block.n = added;
	the_block.address = kernel ? KERNEL : CODE;
	added = 0;
	run(cpu, &the_block);
}

static void put_marker(struct qemu_plugin_insn *insn, unsigned int number)
{
	memcpy(insn->bytes, (const uint8_t[])MARKER_OPCODE, 4);
	insn->bytes[4] = (uint8_t)number;
	insn->bytes[5] = (uint8_t)(number >> 8);
	memcpy(insn->bytes + 6, (const uint8_t[])MARKER_TAG, 2);
	insn->size = 8;
}

void qemu_marker(unsigned int cpu, unsigned int number)
{
	struct qemu_plugin_tb *tb = block(CODE, 1);

	put_marker(&tb->insns[0], number);
	run(cpu, tb);
}

void qemu_kernel_marker(unsigned int cpu, unsigned int number, uint32_t argument)
{
	struct qemu_plugin_tb *tb = block(KERNEL, 3);

	put_marker(&tb->insns[0], number);
	load(&tb->insns[1], ARGUMENTS + argument % MARKER_ARGUMENTS, 0, QEMU_PLUGIN_MEM_R);
	load(&tb->insns[2], ARGUMENTS + argument / MARKER_ARGUMENTS, 0, QEMU_PLUGIN_MEM_R);
	run(cpu, tb);
}

void qemu_halt(unsigned int cpu)
{
	struct qemu_plugin_tb *tb = block(KERNEL, 1);

	tb->insns[0].bytes[0] = 0xf4;
	tb->insns[0].size = 1;
	run(cpu, tb);
	vcpu_idle(1, cpu);
}

void qemu_pause(unsigned int cpu)
{
	vcpu_idle(1, cpu);
}

void qemu_resume(unsigned int cpu)
{
	vcpu_resume(1, cpu);
}

void qemu_reset(unsigned int cpu)
{
	run(cpu, block(RESET, 1));
}
