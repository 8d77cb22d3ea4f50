/* SPDX-License-Identifier: Apache-2.0 */
#include "migration_cores.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>

namespace sentinel
{

int migration_cores()
{
	return std::max(1, int(sysconf(_SC_NPROCESSORS_ONLN)) - 1);
}

void run_on_migration_core(int number)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(size_t(1 + number) % CPU_SETSIZE, &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus) < 0)
		leave_cpu_0(); /* this CPU is offline, or there is only CPU 0 */
}

/*
 * Training binds itself to CPU 0, and threads inherit that. So ask for every other CPU; the kernel
 * ignores those that do not exist.
 */
void leave_cpu_0()
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	for (int cpu = 1; cpu < CPU_SETSIZE; cpu++)
		CPU_SET(cpu, &cpus);
	(void)sched_setaffinity(0, sizeof(cpus), &cpus); /* fails if CPU 0 is the only one */
}

} // namespace sentinel
