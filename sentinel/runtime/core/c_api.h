/* SPDX-License-Identifier: Apache-2.0 */
/* The plain C interface, for sentinel/guest/bindings/runtime.py. All of it may be called from any thread. */
#ifndef SENTINEL_RUNTIME_C_API_H
#define SENTINEL_RUNTIME_C_API_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

/*
 * 1: registered with TensorFlow. 0: too late, TensorFlow has allocated already; nothing was
 * registered, and the rest of this interface does nothing useful.
 */
int sentinel_registered(void);

/* How many devices TensorFlow has made of ours: 0 means that it has not made a session yet. */
int sentinel_devices(void);

/*
 * Around what is one step of training: its operations are those of the first session run that this
 * thread starts in between. Returns the step's number; 0 if it is only served, for another one is
 * open. `completed`: the run has not failed.
 */
uint64_t sentinel_step_begin(void);
void sentinel_step_end(uint64_t step, int completed);

/* Record the next two steps. 0, or -1 if that cannot be; a line on stderr says why. */
int sentinel_profile_begin(void);
/* How many of them are still to come. */
int sentinel_profile_left(void);
/* The profile as JSON, to be freed by sentinel_free(), or NULL if no step ran since. */
char *sentinel_profile_end(void);

/*
 * Carry out this plan (JSON) from the next step on. 0, or -1 with one line of why not in `error`,
 * of `size` bytes; then nothing has changed.
 */
int sentinel_plan_begin(const char *text, size_t length, char *error, size_t size);
/* Go on without a plan, within its budget; from the end of the step if one is open. */
void sentinel_plan_end(void);

/*
 * Without a plan, let the memory that tensors have used so far take `budget` bytes of fast memory
 * at most: what was used first, or with `interleave` every other page until they are used up.
 * Between steps, after one that has used all that a step uses. -1 if there is no node 1.
 */
int sentinel_limit(int interleave, size_t budget);

/* Whether the plan no longer fits what is trained. */
int sentinel_reprofile(void);

/* Statistics as JSON, to be freed by sentinel_free(). Looks up where all pages are: not for each
 * step where time matters. */
char *sentinel_statistics(void);
void sentinel_free(char *text);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
