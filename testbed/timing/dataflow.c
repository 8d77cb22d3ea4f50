// SPDX-License-Identifier: GPL-2.0-or-later
#include "dataflow.h"

#define REGISTER(r)   (1ULL << ((r) + 1)) /* the value of a general register at the begin */
#define LOADS	      (~0ULL << (DECODER_GENERAL + 1)) /* the values of loads */
#define NUMBER(value) ((unsigned int)__builtin_ctzll(value))

/* Sets of values are masks, with a bit for each number. */
struct state {
	struct flow *flow;
	uint64_t values[DECODER_REGISTERS]; /* those that each register is computed from */
	size_t load[FLOW_VALUES];	    /* the instruction that loads a value */
	bool used[FLOW_BLOCK];		    /* the value that the instruction loads has a use */
};

/* Returns the values that some registers are computed from. */
static uint64_t values_of(const struct state *s, uint64_t registers)
{
	uint64_t values = 0;

	for (; registers; registers &= registers - 1)
		values |= s->values[NUMBER(registers)];
	return values;
}

/*
 * Returns a word with the sources `values`, and marks them as used. If they are too many, loads of
 * the block are taken rather than registers, because their data arrive later.
 */
static uint64_t use_values(struct state *s, uint64_t values)
{
	uint64_t word = 0;

	for (int i = 0; values && i < FLOW_SOURCES; i++) {
		unsigned int number = 63 - (unsigned int)__builtin_clzll(values);

		values &= ~(1ULL << number);
		word = word << FLOW_BITS | number;
		if (1ULL << number & LOADS)
			s->used[s->load[number]] = true;
	}
	return word;
}

/* Returns a value that no register holds, for what instruction `i` loads; 0 if there is none. */
static uint64_t new_value(struct state *s, size_t i)
{
	uint64_t held = values_of(s, (1ULL << DECODER_REGISTERS) - 1), value = LOADS & ~held;

	if (!value)
		return 0;
	value &= ~(value - 1);
	s->load[NUMBER(value)] = i;
	return value;
}

static void execute(struct state *s, const struct instruction *insn, size_t i)
{
	uint64_t *word = &s->flow->words[i], result = values_of(s, insn->reads);

	*word = 0;
	if (insn->loads) {
		uint64_t value;

		*word = use_values(s, values_of(s, insn->address));
		value = insn->writes ? new_value(s, i) : 0;
		if (value)
			*word |= (uint64_t)NUMBER(value) << FLOW_SOURCE_BITS;
		result |= value;
	} else if (insn->stores) {
		*word = use_values(s, result) | FLOW_STORE;
	}
	for (uint64_t left = insn->writes; left; left &= left - 1) {
		unsigned int reg = NUMBER(left);

		s->values[reg] = insn->keeps >> reg & 1 ? s->values[reg] | result : result;
	}
}

void flow_analyse(struct flow *flow, const struct instruction *instructions, size_t n)
{
	struct state s = {.flow = flow};

	for (unsigned int reg = 0; reg < DECODER_GENERAL; reg++)
		s.values[reg] = REGISTER(reg);
	for (size_t i = 0; i < n; i++)
		execute(&s, &instructions[i], i);
	flow->n_changes = 0;
	for (uint64_t reg = 0; reg < DECODER_GENERAL; reg++)
		if (s.values[reg] != REGISTER(reg))
			flow->changes[flow->n_changes++] =
				(reg + 1) << FLOW_SOURCE_BITS | use_values(&s, s.values[reg]);
	/* Loads whose values have no use need no target */
	for (size_t i = 0; i < n; i++)
		if (!s.used[i])
			flow->words[i] &= ~((uint64_t)(FLOW_VALUES - 1) << FLOW_SOURCE_BITS);
}
