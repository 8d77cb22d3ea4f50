// SPDX-License-Identifier: GPL-2.0-or-later
#include "translation.h"

#include <stdlib.h>
#include <string.h>

#include "accesses.h"
#include "marker_callbacks.h"
#include "pacing.h"
#include "regions.h"

#define RESET_VECTOR	0xfffffff0
#define KERNEL_START	(1ULL << 47)
#define MAX_INSTRUCTION 16 /* bytes */

/* The first instruction after a reset */
static void on_reset(unsigned int cpu, void *data)
{
	(void)data;
	if (!is_modelled(cpu))
		return;
	reset_machine(cpu);
}

static void on_halt(unsigned int cpu, void *data)
{
	(void)data;
	if (is_modelled(cpu))
		vcpus[cpu].halted = true;
}

/* Copy the bytes of an instruction of at most `size` bytes. Returns its size; 0 on failure. */
static size_t copy_bytes(const struct qemu_plugin_insn *insn, uint8_t *bytes, size_t size)
{
	size_t n = qemu_plugin_insn_size(insn);

	if (n > size)
		return 0;
#if API < 3
	memcpy(bytes, qemu_plugin_insn_data(insn), n);
	return n;
#else
	return qemu_plugin_insn_data(insn, bytes, n) == n ? n : 0;
#endif
}

/* Read the instruction's bytes if it has exactly `size`. Returns false otherwise. */
static bool read_bytes(const struct qemu_plugin_insn *insn, uint8_t *bytes, size_t size)
{
	return qemu_plugin_insn_size(insn) == size && copy_bytes(insn, bytes, size);
}

/* Returns true for HLT and MWAIT. */
static bool is_halt(const struct qemu_plugin_insn *insn)
{
	uint8_t bytes[3];

	return (read_bytes(insn, bytes, 1) && bytes[0] == 0xf4) ||
	       (read_bytes(insn, bytes, 3) &&
		!memcmp(bytes, (const uint8_t[]){0x0f, 0x01, 0xc9}, 3));
}

/* Returns the number of a marker, or -1 for other instructions. */
static int marker_number(const struct qemu_plugin_insn *insn)
{
	uint8_t bytes[8];

	if (!read_bytes(insn, bytes, sizeof(bytes)))
		return -1;
	if (memcmp(bytes, (const uint8_t[])MARKER_OPCODE, 4) ||
	    memcmp(bytes + 6, (const uint8_t[])MARKER_TAG, 2))
		return -1;
	return bytes[4] | bytes[5] << 8;
}

/* Analyse the block's dependences, and register callbacks for fences. */
static void analyse(struct qemu_plugin_tb *tb, size_t n, struct flow *flow)
{
	struct instruction instructions[FLOW_BLOCK];

	for (size_t i = 0; i < n; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		uint8_t bytes[MAX_INSTRUCTION];

		decode(bytes, copy_bytes(insn, bytes, sizeof(bytes)), &instructions[i]);
		if (instructions[i].fence)
			qemu_plugin_register_vcpu_insn_exec_cb(insn, on_fence,
							       QEMU_PLUGIN_CB_NO_REGS, NULL);
	}
	flow_analyse(flow, instructions, n);
}

/* Register the callback for a block and return the words of its instructions in `flow`. */
static void instrument_block(struct qemu_plugin_tb *tb, size_t n, struct flow *flow)
{
	bool kernel = qemu_plugin_tb_vaddr(tb) >= KERNEL_START;
	const struct block *block;

	flow->n_changes = 0;
	for (size_t i = 0; i < n; i++)
		flow->words[i] = kernel ? FLOW_KERNEL : 0;
	if (!kernel)
		analyse(tb, n, flow);
	block = dependence_block((uint32_t)n, kernel, flow);
	if (!block)
		abort();
	qemu_plugin_register_vcpu_tb_exec_cb(tb, on_block, QEMU_PLUGIN_CB_NO_REGS, (void *)block);
}

void on_translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	size_t n = qemu_plugin_tb_n_insns(tb);
	bool instrument = instrumented;
	struct flow flow;
	int marker = -1, before = -1, earlier;

	(void)id;
	if (qemu_plugin_tb_vaddr(tb) == RESET_VECTOR)
		qemu_plugin_register_vcpu_tb_exec_cb(tb, on_reset, QEMU_PLUGIN_CB_NO_REGS, NULL);
	if (instrument)
		instrument_block(tb, n, &flow);
	for (size_t i = 0; i < n; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);

		earlier = before;
		before = marker;
		marker = marker_number(insn);
		if (is_halt(insn))
			qemu_plugin_register_vcpu_insn_exec_cb(insn, on_halt,
							       QEMU_PLUGIN_CB_NO_REGS, NULL);
		if (marker >= 0)
			qemu_plugin_register_vcpu_insn_exec_cb(
				insn, on_marker, QEMU_PLUGIN_CB_NO_REGS, (void *)(uintptr_t)marker);
		if (has_argument(before))
			qemu_plugin_register_vcpu_mem_cb(insn, on_argument_low,
							 QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_MEM_RW,
							 /* QEMU 7.2 has no _R */ NULL);
		else if (has_argument(earlier))
			qemu_plugin_register_vcpu_mem_cb(insn, on_argument, QEMU_PLUGIN_CB_NO_REGS,
							 QEMU_PLUGIN_MEM_RW,
							 (void *)(uintptr_t)earlier);
		else if (instrument)
			qemu_plugin_register_vcpu_mem_cb(insn, on_access, QEMU_PLUGIN_CB_NO_REGS,
							 QEMU_PLUGIN_MEM_RW,
							 (void *)(uintptr_t)flow.words[i]);
	}
}
