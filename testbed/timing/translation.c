// SPDX-License-Identifier: GPL-2.0-or-later
#include "translation.h"

#include <string.h>

#include "accesses.h"
#include "marker_callbacks.h"
#include "pacing.h"
#include "regions.h"

#define RESET_VECTOR 0xfffffff0
#define KERNEL_START (1ULL << 47)

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

/* Read the instruction's bytes if it has exactly `size`. Returns false otherwise. */
static bool read_bytes(const struct qemu_plugin_insn *insn, uint8_t *bytes, size_t size)
{
	if (qemu_plugin_insn_size(insn) != size)
		return false;
#if API < 3
	memcpy(bytes, qemu_plugin_insn_data(insn), size);
	return true;
#else
	return qemu_plugin_insn_data(insn, bytes, size) == size;
#endif
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

void on_translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	size_t n = qemu_plugin_tb_n_insns(tb);
	bool instrument = instrumented, kernel = qemu_plugin_tb_vaddr(tb) >= KERNEL_START;
	int marker = -1, before = -1, earlier;

	(void)id;
	if (qemu_plugin_tb_vaddr(tb) == RESET_VECTOR)
		qemu_plugin_register_vcpu_tb_exec_cb(tb, on_reset, QEMU_PLUGIN_CB_NO_REGS, NULL);
	if (instrument)
		qemu_plugin_register_vcpu_tb_exec_cb(tb, on_block, QEMU_PLUGIN_CB_NO_REGS,
						     (void *)n);
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
							 (void *)(uintptr_t)kernel);
	}
}
