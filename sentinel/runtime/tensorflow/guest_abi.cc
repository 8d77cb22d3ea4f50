/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Symbols that Debian 12's headers (gcc 12, glibc 2.36) refer to and that the guest's Debian 11
 * libraries lack.
 */
#include <cstdlib>

extern "C" {
extern __attribute__((visibility("hidden"))) char __libc_single_threaded;
char __libc_single_threaded = 0; /* TensorFlow always has threads */

/* As in the static part of Debian 11's glibc. */
extern int __register_atfork(void (*prepare)(), void (*parent)(), void (*child)(), void *dso);
extern __attribute__((visibility("hidden"))) void *__dso_handle;
__attribute__((visibility("hidden"))) int pthread_atfork(void (*prepare)(), void (*parent)(),
							 void (*child)()) noexcept
{
	return __register_atfork(prepare, parent, child, &__dso_handle);
}
}

namespace std
{
__attribute__((visibility("hidden"))) void __throw_bad_array_new_length()
{
	abort();
}
} // namespace std
