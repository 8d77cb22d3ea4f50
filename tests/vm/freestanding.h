/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The begin of a 32-bit program that QEMU starts without an operating system (-kernel): it has SSE,
 * a stack below 2 MiB, and calls start(). Node 1 starts at 64 MiB of physical memory.
 *
 *	gcc -m32 -ffreestanding -nostdlib -static -fno-pie -no-pie -Wl,-Ttext=0x100000
 */
#ifndef FREESTANDING_H
#define FREESTANDING_H

#include <stdint.h>

#define LINE 64
#define MIB  (1 << 20)

__asm__(".balign 4\n"
	".long 0x1badb002, 0, -0x1badb002\n" /* multiboot */
	".globl _start\n"
	"_start: movl $0x200000, %esp\n"
	"movl %cr0, %eax; andl $~4, %eax; orl $2, %eax; movl %eax, %cr0\n" /* SSE */
	"movl %cr4, %eax; orl $0x600, %eax; movl %eax, %cr4\n"
	"call start\n");

/* A marker of the timing model. */
#define MARK(number) __asm__ volatile("nopl 0x534e0000+%c0(%%eax,%%eax,1)" ::"i"(number) : "memory")

void start(void);

#endif
