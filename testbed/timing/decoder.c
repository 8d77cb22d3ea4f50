// SPDX-License-Identifier: GPL-2.0-or-later
#include "decoder.h"

#include <Zydis/Zydis.h>

#define READ  (ZYDIS_OPERAND_ACTION_READ | ZYDIS_OPERAND_ACTION_CONDREAD)
#define WRITE (ZYDIS_OPERAND_ACTION_WRITE | ZYDIS_OPERAND_ACTION_CONDWRITE)

/* Encodings of registers */
#define RCX	      1
#define STACK_POINTER 4
#define RSI	      6
#define RDI	      7

/* Returns the mask of a register, or 0 if it is not tracked. */
static uint64_t mask_of(ZydisMachineMode mode, ZydisRegister reg)
{
	ZydisRegister whole = ZydisRegisterGetLargestEnclosing(mode, reg);
	unsigned int id = (unsigned int)ZydisRegisterGetId(whole);

	if (ZydisRegisterGetClass(reg) == ZYDIS_REGCLASS_FLAGS)
		return 1ULL << DECODER_FLAGS;
	switch (ZydisRegisterGetClass(whole)) {
	case ZYDIS_REGCLASS_GPR32:
	case ZYDIS_REGCLASS_GPR64:
		return id == STACK_POINTER ? 0 : 1ULL << id;
	case ZYDIS_REGCLASS_XMM:
	case ZYDIS_REGCLASS_YMM:
	case ZYDIS_REGCLASS_ZMM:
		return 1ULL << (DECODER_VECTOR + id);
	default:
		return 0;
	}
}

static void add_register(struct instruction *to, const ZydisDecodedOperand *operand, uint64_t mask)
{
	bool narrow = operand->size < 32 && mask < 1ULL << DECODER_GENERAL;

	if (operand->actions & READ)
		to->reads |= mask;
	if (operand->actions & WRITE)
		to->writes |= mask;
	if (operand->actions & WRITE &&
	    (narrow || !(operand->actions & ZYDIS_OPERAND_ACTION_WRITE)))
		to->keeps |= mask;
}

static void add_memory(struct instruction *to, const ZydisDecodedOperand *operand,
		       ZydisMachineMode mode)
{
	uint64_t registers = mask_of(mode, operand->mem.base) | mask_of(mode, operand->mem.index);

	if (operand->mem.type == ZYDIS_MEMOP_TYPE_AGEN) { /* LEA */
		to->reads |= registers;
		return;
	}
	if (!(operand->actions & (READ | WRITE)))
		return;
	to->address |= registers;
	to->loads |= operand->actions & READ;
	to->stores |= operand->actions & WRITE;
}

/* Returns true if the result is 0 whatever the operands are. */
static bool is_zero(const ZydisDecodedInstruction *insn, const ZydisDecodedOperand *operands)
{
	const ZydisDecodedOperand *last;

	switch (insn->mnemonic) {
	case ZYDIS_MNEMONIC_XOR:
	case ZYDIS_MNEMONIC_SUB:
	case ZYDIS_MNEMONIC_PXOR:
	case ZYDIS_MNEMONIC_XORPS:
	case ZYDIS_MNEMONIC_XORPD:
	case ZYDIS_MNEMONIC_VPXOR:
	case ZYDIS_MNEMONIC_VXORPS:
	case ZYDIS_MNEMONIC_VXORPD:
		last = &operands[insn->operand_count_visible - 1];
		return last[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		       last[-1].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		       last[0].reg.value == last[-1].reg.value;
	default:
		return false;
	}
}

static bool is_fence(const ZydisDecodedInstruction *insn)
{
	switch (insn->mnemonic) {
	case ZYDIS_MNEMONIC_LFENCE:
	case ZYDIS_MNEMONIC_MFENCE:
	case ZYDIS_MNEMONIC_RDTSC:
	case ZYDIS_MNEMONIC_RDTSCP:
	case ZYDIS_MNEMONIC_CPUID:
	case ZYDIS_MNEMONIC_SERIALIZE:
		return true;
	default:
		return false;
	}
}

/* The pointers and the counter of string instructions advance by constants. */
static bool advances(const ZydisDecodedInstruction *insn, uint64_t mask)
{
	return insn->meta.category == ZYDIS_CATEGORY_STRINGOP &&
	       mask & (1ULL << RCX | 1ULL << RSI | 1ULL << RDI);
}

static void summarise(struct instruction *to, const ZydisDecodedInstruction *insn,
		      const ZydisDecodedOperand *operands)
{
	for (unsigned int i = 0; i < insn->operand_count; i++) {
		const ZydisDecodedOperand *operand = &operands[i];
		uint64_t mask = 0;

		if (operand->type == ZYDIS_OPERAND_TYPE_REGISTER)
			mask = mask_of(insn->machine_mode, operand->reg.value);
		if (operand->type == ZYDIS_OPERAND_TYPE_MEMORY)
			add_memory(to, operand, insn->machine_mode);
		else if (!advances(insn, mask))
			add_register(to, operand, mask);
	}
	if (is_zero(insn, operands))
		to->reads = 0;
	to->fence = is_fence(insn);
}

/*
 * QEMU does not tell in which mode the processor is. 64-bit code decoded as such has the right
 * length; 32-bit code mostly has the same meaning in both modes, except where the lengths differ.
 */
bool decode(const uint8_t *bytes, size_t size, struct instruction *to)
{
	static const struct {
		ZydisMachineMode mode;
		ZydisStackWidth stack;
	} modes[] = {
		{ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64},
		{ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32},
	};

	*to = (struct instruction){0};
	for (int i = 0; i < 2; i++) {
		ZydisDecoder decoder;
		ZydisDecodedInstruction insn;
		ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];

		if (ZYAN_SUCCESS(ZydisDecoderInit(&decoder, modes[i].mode, modes[i].stack)) &&
		    ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, bytes, size, &insn, operands)) &&
		    insn.length == size) {
			summarise(to, &insn, operands);
			return true;
		}
	}
	return false;
}
