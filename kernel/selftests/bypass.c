// SPDX-License-Identifier: GPL-2.0-only
/* Accesses to profiled pages that bypass the page table, userfaultfd, and core dumps */
#define _GNU_SOURCE
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/uio.h>

#include "guest.h"

/* Kernel accesses that bypass the page table are not counted. */
static void page_references(void)
{
	byte *memory = pages(4), *other = pages(4);
	struct profile p = profile(PAGE_PROFILE_EPOCH, 0, memory, 4);
	struct iovec local = {(void *)other, 4 * PAGE}, remote = {(void *)memory, 4 * PAGE};
	int fd, ends[2];

	is(process_vm_readv(getpid(), &local, 1, &remote, 1, 0), 4 * PAGE,
	   "GUP: process_vm_readv() of profiled pages");
	ok(intact(other, 4), "GUP: process_vm_readv() reads the data");
	memset((void *)other, 0x55, 4 * PAGE);
	is(process_vm_writev(getpid(), &local, 1, &remote, 1, 0), 4 * PAGE,
	   "GUP: process_vm_writev() to profiled pages");
	all_have(&p, 0, 0, "GUP: accesses do not count");
	ok(memory[0] == 0x55 && memory[4 * PAGE - 1] == 0x55,
	   "GUP: process_vm_writev() writes the data");
	fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	ok(pwrite(fd, "\x66", 1, (off_t)(uintptr_t)(memory + PAGE)) == 1 && memory[PAGE] == 0x66,
	   "/proc/self/mem: write");
	memset((void *)other, 0, PAGE);
	ok(pread(fd, (void *)other, PAGE, (off_t)(uintptr_t)(memory + PAGE)) == (ssize_t)PAGE &&
		   other[0] == 0x66 && other[1] == 0x55,
	   "/proc/self/mem: read");
	close(fd);
	if (pipe(ends))
		die("pipe");
	is(vmsplice(ends[1], &(struct iovec){(void *)memory, PAGE}, 1, 0), PAGE,
	   "GUP: vmsplice() of a profiled page");
	ok(read(ends[0], (void *)other, PAGE) == (ssize_t)PAGE && other[1] == 0x55,
	   "GUP: the pipe has the data");
	close(ends[0]);
	close(ends[1]);
	fd = open("/var/tmp/direct", O_RDWR | O_CREAT | O_TRUNC | O_DIRECT | O_CLOEXEC, 0600);
	if (fd < 0) {
		skip("O_DIRECT", strerror(errno));
	} else {
		memset((void *)memory, 0x77, 4 * PAGE);
		page_profile_rearm(p.fd);
		is(pwrite(fd, (void *)memory, 4 * PAGE, 0), 4 * PAGE,
		   "O_DIRECT: write from profiled pages");
		memset((void *)memory, 0, 4 * PAGE);
		is(pread(fd, (void *)memory, 4 * PAGE, 0), 4 * PAGE,
		   "O_DIRECT: read into profiled pages");
		ok(memory[0] == 0x77 && memory[4 * PAGE - 1] == 0x77, "O_DIRECT: the data arrived");
		close(fd);
		unlink("/var/tmp/direct");
	}
	is(mlock((void *)memory, 4 * PAGE), 0, "mlock: of profiled pages");
	page_profile_rearm(p.fd);
	page_profile_reset(p.fd);
	read_each(memory, 4);
	all_have(&p, 1, 0, "mlock: reads of locked pages count");
	munlock((void *)memory, 4 * PAGE);
	finish(&p);
}

static void *feed(void *argument)
{
	int fd = *(int *)argument;
	static unsigned char content[PAGE] __attribute__((aligned(4096)));
	struct uffd_msg message;

	memset(content, 0x42, PAGE);
	for (int i = 0; i < 4 && read(fd, &message, sizeof(message)) == sizeof(message); i++) {
		struct uffdio_copy copy = {.dst = message.arg.pagefault.address & ~(PAGE - 1),
					   .len = PAGE};

		copy.src = (uintptr_t)content;
		ioctl(fd, UFFDIO_COPY, &copy);
	}
	return NULL;
}

static void user_faults(void)
{
	byte *memory =
		mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register range = {.range = {(uintptr_t)memory, 4 * PAGE},
					.mode = UFFDIO_REGISTER_MODE_MISSING};
	pthread_t thread;
	struct profile p;

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &range)) {
		skip("userfaultfd", strerror(errno));
		return;
	}
	p = profile(PAGE_PROFILE_EPOCH, 0, memory, 4);
	pthread_create(&thread, NULL, feed, &fd);
	read_each(memory, 4);
	pthread_join(thread, NULL);
	all_have(&p, 1, 0, "userfaultfd: accesses to installed pages count");
	ok(memory[0] == 0x42 && memory[3 * PAGE] == 0x42, "userfaultfd: data are correct");
	finish(&p);
	close(fd);
	munmap((void *)memory, 4 * PAGE);
}

static void dump(void *argument)
{
	byte *memory = pages(16);
	struct profile p = profile(PAGE_PROFILE_EPOCH, 0, memory, 16);

	memset((void *)(memory + 3 * PAGE), 0, PAGE);
	strcpy((char *)(memory + 3 * PAGE), "the dumped words");
	page_profile_rearm(p.fd);
	abort();
}

static void core_dump(void)
{
	char pattern[200] = "";
	FILE *f = fopen("/proc/sys/kernel/core_pattern", "re");
	int status;

	if (!f || !fgets(pattern, sizeof(pattern), f))
		die("core_pattern");
	fclose(f);
	put("/proc/sys/kernel/core_pattern", "/var/tmp/core");
	setrlimit(RLIMIT_CORE, &(struct rlimit){RLIM_INFINITY, RLIM_INFINITY});
	status = in_child(dump, NULL);
	ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "core dump: of a profiled process");
	ok(WCOREDUMP(status) && system("grep -q 'the dumped words' /var/tmp/core*") == 0,
	   "core dump: it contains the data of marked pages");
	put("/proc/sys/kernel/core_pattern", pattern);
	system("rm -f /var/tmp/core*");
}

int main(void)
{
	page_references();
	user_faults();
	core_dump();
	return done();
}
