/* SPDX-License-Identifier: Apache-2.0 */
/* The C interface for sentinel/guest/bindings/runtime.py. Callable from any thread. */
#ifndef SENTINEL_RUNTIME_C_API_H
#define SENTINEL_RUNTIME_C_API_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

/*
 * 1: registered with the framework. 0: too late, the framework has allocated memory already, so
 * nothing is registered and the rest of this interface is of no use.
 */
int sentinel_registered(void);

/* Devices that the framework has created; 0 before the first session. */
int sentinel_devices(void);

/*
 * Begin and end a training step: the operations of the first session run that this thread starts in
 * between. Begin returns the step's number, or 0 if another step is open and this one is only
 * served. Steps of one `kind`, a number of the caller's choice, have a profile and a plan; the step
 * runs with the plan of `plan_kind`. `completed`: the run did not fail.
 */
uint64_t sentinel_step_begin(int kind, int plan_kind);
void sentinel_step_end(uint64_t step, int completed);

/*
 * The open step is an execution that another thread starts, on behalf of a server. Its graph has an
 * operation of this name.
 */
void sentinel_step_awaits(uint64_t step, const char *operation);

/*
 * Profile the kind's next two steps, after one that is `traced`. 0, or -1 with the reason on
 * stderr.
 */
int sentinel_profile_begin(int kind, int traced);
/* Steps that are still to be profiled. */
int sentinel_profile_left(int kind);
/* The profile as JSON, or NULL if no step was recorded. Free it with sentinel_free(). */
char *sentinel_profile_end(int kind);

/*
 * Execute this plan (JSON) in the kind's steps, from the next one on. On failure return -1, write
 * one line to `error` (at most `size` bytes) and change nothing.
 */
int sentinel_plan_begin(int kind, const char *text, size_t length, char *error, size_t size);
/* End the kind's plan, at the end of an open step. Its tensors move to node 1. */
void sentinel_plan_end(int kind);

/* From now on all tensors outside plans are on node 1. Call it between steps. */
void sentinel_leave_fast_memory(void);

/*
 * Without a plan: limit the memory that tensors have used so far to `budget` bytes of fast memory.
 * The pages touched first get it, or with `interleave` every other page until it is used up. Call
 * it between steps, after one that has used all memory of a step. -1 if there is no node 1.
 */
int sentinel_limit(int interleave, size_t budget);

/* Whether the plan no longer fits the kind's steps, so that they should be profiled again. */
int sentinel_reprofile(int kind);

/*
 * Statistics as JSON; free them with sentinel_free(). Queries the node of every page, so do not
 * call it in every step.
 */
char *sentinel_statistics(void);
void sentinel_free(char *text);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
