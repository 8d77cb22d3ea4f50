/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What headers of Debian 12 (gcc 12, glibc 2.36) refer to and libraries of Debian 11 do not have.
 */
#include <cstdlib>

extern "C" {
extern __attribute__((visibility("hidden"))) char __libc_single_threaded;
char __libc_single_threaded = 0; /* it never is: TensorFlow has threads */

/* As it is in the part of Debian 11's library that is linked statically. */
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
