/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A lock for sections of a few instructions. */
#ifndef SENTINEL_TIMING_SPINLOCK_H
#define SENTINEL_TIMING_SPINLOCK_H

#include <stdatomic.h>

static inline void lock(atomic_flag *flag)
{
	while (atomic_flag_test_and_set_explicit(flag, memory_order_acquire))
		;
}

static inline void unlock(atomic_flag *flag)
{
	atomic_flag_clear_explicit(flag, memory_order_release);
}

#endif
