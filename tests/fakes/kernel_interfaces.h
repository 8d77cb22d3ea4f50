/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Declarations of the kernel interfaces that the page-access profiler uses, for type checking.
 * Every header that the profiler includes is replaced by this one. LINUX is the version, 409 or
 * 601.
 */
#ifndef KERNEL_INTERFACES_H
#define KERNEL_INTERFACES_H

/* ---------------------------------------------------------------- the language */

typedef _Bool bool;
#define true  1
#define false 0
#define NULL  ((void *)0)
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int __s32;
typedef u32 __u32;
typedef u64 __u64;
typedef unsigned long size_t;
typedef long ssize_t;
typedef long long loff_t;
typedef unsigned int gfp_t;
typedef unsigned short umode_t;
typedef int pid_t;
typedef u64 phys_addr_t;
typedef unsigned long pgoff_t;

#define offsetof(type, member)		    __builtin_offsetof(type, member)
#define container_of(pointer, type, member) ((type *)((char *)(pointer) - offsetof(type, member)))
#define BIT(n)				    (1UL << (n))
#define GENMASK_ULL(high, low)		    ((~0ULL << (low)) & (~0ULL >> (63 - (high))))
#define BITS_TO_LONGS(n)		    (((n) + 63) / 64)
#define BUILD_BUG_ON(condition)		    _Static_assert(!(condition), #condition)
bool WARN_ON_ONCE(bool condition);
#define max(a, b)	  ((a) > (b) ? (a) : (b))
#define min(a, b)	  ((a) < (b) ? (a) : (b))
#define max_t(type, a, b) max((type)(a), (type)(b))
#define min_t(type, a, b) min((type)(a), (type)(b))
#define swap(a, b)                                                                                 \
	({                                                                                         \
		__typeof__(a) first = (a);                                                         \
		(a) = (b);                                                                         \
		(b) = first;                                                                       \
	})
#define likely(x)   (x)
#define unlikely(x) (x)
#define ilog2(n)    (63 - __builtin_clzl(n))
#define __init
#define __rcu
#define __user
#define __read_mostly
#define THIS_MODULE ((void *)0)
#define late_initcall(function)                                                                    \
	static int (*const initcall)(void) __attribute__((unused)) = function

#define READ_ONCE(x)			  (*(const volatile __typeof__(x) *)&(x))
#define WRITE_ONCE(x, value)		  (*(volatile __typeof__(x) *)&(x) = (value))
#define smp_load_acquire(pointer)	  READ_ONCE(*(pointer))
#define smp_store_release(pointer, value) WRITE_ONCE(*(pointer), value)
#define xchg(pointer, value)		  __atomic_exchange_n(pointer, value, __ATOMIC_SEQ_CST)
#define cmpxchg(pointer, old, new)	  __sync_val_compare_and_swap(pointer, old, new)
void cpu_relax(void);
int cond_resched(void);

typedef struct {
	int counter;
} atomic_t;
typedef struct {
	long counter;
} atomic_long_t;
void atomic_inc(atomic_t *v);
void atomic_long_inc(atomic_long_t *v);
void atomic_long_add(long n, atomic_long_t *v);
void atomic_long_sub(long n, atomic_long_t *v);
void atomic_long_set(atomic_long_t *v, long n);
long atomic_long_read(const atomic_long_t *v);
long atomic_long_add_return(long n, atomic_long_t *v);
long atomic_long_inc_return(atomic_long_t *v);

void *memcpy(void *to, const void *from, size_t n);
void *memset(void *to, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);
void clear_bit(long n, volatile unsigned long *map);
bool test_and_set_bit(long n, volatile unsigned long *map);
unsigned long find_next_bit(const unsigned long *map, unsigned long size, unsigned long from);
void bitmap_zero(unsigned long *map, unsigned int bits);

#define ERR_PTR(error)	  ((void *)(long)(error))
#define PTR_ERR(pointer)  ((long)(pointer))
#define IS_ERR(pointer)	  ((unsigned long)(pointer) >= (unsigned long)-4095)
#define IS_ERR_OR_NULL(p) (!(p) || IS_ERR(p))
enum {
	EPERM = 1,
	ESRCH = 3,
	EINTR = 4,
	ENXIO = 6,
	ENOMEM = 12,
	EACCES = 13,
	EFAULT = 14,
	EBUSY = 16,
	EEXIST = 17,
	ENODEV = 19,
	EINVAL = 22,
	ENOTTY = 25,
	ENOSPC = 28,
	ENOENT = 2
};
int printk(const char *format, ...) __attribute__((format(printf, 1, 2)));
#define pr_err(format, ...)  printk(pr_fmt(format), ##__VA_ARGS__)
#define pr_info(format, ...) printk(pr_fmt(format), ##__VA_ARGS__)

/* ---------------------------------------------------------------- locks, lists, references */

typedef struct {
	int taken;
} spinlock_t, raw_spinlock_t;
struct mutex {
	int taken;
};
struct rw_semaphore {
	int taken;
};
#define DEFINE_SPINLOCK(name) spinlock_t name
void spin_lock(spinlock_t *lock);
int spin_trylock(spinlock_t *lock);
void spin_unlock(spinlock_t *lock);
void raw_spin_lock_init(raw_spinlock_t *lock);
void raw_spin_lock(raw_spinlock_t *lock);
void raw_spin_unlock(raw_spinlock_t *lock);
#define raw_spin_lock_irqsave(lock, flags)	((flags) = 0, raw_spin_lock(lock))
#define raw_spin_unlock_irqrestore(lock, flags) ((void)(flags), raw_spin_unlock(lock))
#define local_irq_save(flags)			((void)((flags) = 0))
#define local_irq_restore(flags)		((void)(flags))
void local_irq_enable(void);
void mutex_init(struct mutex *lock);
void mutex_lock(struct mutex *lock);
int mutex_lock_killable(struct mutex *lock);
void mutex_unlock(struct mutex *lock);
#define lockdep_is_held(lock) ((lock)->taken)

struct rcu_head {
	void *next;
};
void rcu_read_lock(void);
void rcu_read_unlock(void);
void synchronize_rcu(void);
#define rcu_dereference(p)		    READ_ONCE(p)
#define rcu_dereference_check(p, condition) ((void)(condition), READ_ONCE(p))
#define rcu_assign_pointer(p, value)	    WRITE_ONCE(p, value)
#define RCU_INIT_POINTER(p, value)	    WRITE_ONCE(p, value)
#define kfree_rcu(p, member)		    ((void)(p)->member.next, kfree(p))

struct hlist_node {
	struct hlist_node *next;
};
#define DEFINE_HASHTABLE(name, bits)   struct hlist_node *name[1 << (bits)]
#define hash_add(table, node, key)     ((void)(key), (table)[0] = (node))
#define hash_add_rcu(table, node, key) hash_add(table, node, key)
void hash_del(struct hlist_node *node);
void hash_del_rcu(struct hlist_node *node);
u32 hash_ptr(const void *pointer, unsigned int bits);
#define hash_for_each_possible(table, at, member, key)                                             \
	for ((void)(key), at = container_of((table)[0], __typeof__(*at), member); at;              \
	     at = container_of(at->member.next, __typeof__(*at), member))
#define hash_for_each_possible_rcu(table, at, member, key)                                         \
	hash_for_each_possible(table, at, member, key)

struct kref {
	int refs;
};
void kref_init(struct kref *kref);
int __attribute__((warn_unused_result)) kref_get_unless_zero(struct kref *kref);
int kref_put(struct kref *kref, void (*release)(struct kref *kref));

/* ---------------------------------------------------------------- processes and users */

typedef struct {
	u32 val;
} kuid_t;
#define CAP_SYS_ADMIN	 21
#define CAP_SYS_RESOURCE 24
bool capable(int capability);
kuid_t current_uid(void);
bool uid_eq(kuid_t a, kuid_t b);
u32 __kuid_val(kuid_t uid);

struct mm_struct;
struct pid;
struct task_struct {
	struct mm_struct *mm;
	int exit_state;
#if LINUX < 514
	volatile long state;
#else
	unsigned int __state;
#endif
};
extern struct task_struct *current;
#define TASK_INTERRUPTIBLE 1
enum pid_type { PIDTYPE_PID };
struct pid *task_pid(struct task_struct *task);
struct task_struct *pid_task(struct pid *pid, enum pid_type type);
struct pid *get_pid(struct pid *pid);
void put_pid(struct pid *pid);
struct task_struct *find_task_by_vpid(pid_t pid);
void get_task_struct(struct task_struct *task);
void put_task_struct(struct task_struct *task);
#define PTRACE_MODE_ATTACH_REALCREDS 18
struct mm_struct *mm_access(struct task_struct *task, unsigned int mode);

/* ---------------------------------------------------------------- page tables */

#define PAGE_SHIFT	  12
#define PAGE_SIZE	  (1UL << PAGE_SHIFT)
#define PAGE_MASK	  (~(PAGE_SIZE - 1))
#define PAGE_ALIGN(n)	  (((n) + PAGE_SIZE - 1) & PAGE_MASK)
#define PAGE_ALIGNED(n)	  (!((n) & ~PAGE_MASK))
#define TASK_SIZE_MAX	  ((1UL << 47) - PAGE_SIZE)
#define VMALLOC_START	  0xffffc90000000000UL
#define VMALLOC_END	  0xffffe8ffffffffffUL
#define _PAGE_PRESENT	  BIT(0)
#define _PAGE_RW	  BIT(1)
#define _PAGE_USER	  BIT(2)
#define _PAGE_BIT_PROFILE 51
#define _PAGE_PROFILE	  BIT(_PAGE_BIT_PROFILE)
#define _PAGE_NX	  BIT(63)
typedef unsigned long pteval_t, pgprotval_t;
typedef struct {
	pteval_t pte;
} pte_t;
typedef struct {
	pteval_t pmd;
} pmd_t;
typedef struct {
	pteval_t pud;
} pud_t;
typedef struct {
	pteval_t pgd;
} pgd_t;
typedef struct {
	pgprotval_t pgprot;
} pgprot_t;
#define pgprot_val(x) ((x).pgprot)
#define __pgprot(x)   ((pgprot_t){x})
#define PAGE_KERNEL   __pgprot(3)
pteval_t pgd_val(pgd_t pgd);
int pgd_none(pgd_t pgd);
int pgd_bad(pgd_t pgd);
pgd_t *pgd_offset(struct mm_struct *mm, unsigned long addr);
pteval_t pud_val(pud_t pud);
int pud_none(pud_t pud);
int pud_bad(pud_t pud);
int pud_large(pud_t pud);
int pud_none_or_clear_bad(pud_t *pud);
pteval_t pmd_val(pmd_t pmd);
int pmd_bad(pmd_t pmd);
int pmd_large(pmd_t pmd);
int pmd_none_or_trans_huge_or_clear_bad(pmd_t *pmd);
pmd_t *pmd_offset(pud_t *pud, unsigned long addr);
unsigned long pmd_addr_end(unsigned long addr, unsigned long end);
int pte_present(pte_t pte);
pte_t native_make_pte(pteval_t value);
pte_t pte_clear_flags(pte_t pte, pteval_t clear);
pte_t *pte_offset_kernel(pmd_t *pmd, unsigned long addr);
spinlock_t *pte_lockptr(struct mm_struct *mm, pmd_t *pmd);
#define pte_offset_map_lock(mm, pmd, addr, ptlp)                                                   \
	(*(ptlp) = pte_lockptr(mm, pmd), pte_offset_kernel(pmd, addr))
#define pte_unmap_unlock(table, ptl) ((void)(table), spin_unlock(ptl))
u16 pte_flags_pkey(unsigned long flags);
bool __pkru_allows_pkey(u16 pkey, bool write);
#if LINUX < 411
pud_t *pud_offset(pgd_t *pgd, unsigned long addr);
void flush_tlb_mm_range(struct mm_struct *mm, unsigned long start, unsigned long end,
			unsigned long flags);
#else
typedef struct {
	pgd_t pgd;
} p4d_t;
int p4d_none(p4d_t p4d);
int p4d_bad(p4d_t p4d);
p4d_t *p4d_offset(pgd_t *pgd, unsigned long addr);
pud_t *pud_offset(p4d_t *p4d, unsigned long addr);
extern phys_addr_t physical_mask;
void flush_tlb_mm_range(struct mm_struct *mm, unsigned long start, unsigned long end,
			unsigned int shift, bool freed_tables);
enum { X86_PF_PROT = 1, X86_PF_WRITE = 2, X86_PF_RSVD = 8, X86_PF_INSTR = 16 };
#endif
void flush_tlb_mm(struct mm_struct *mm);

/* ---------------------------------------------------------------- memory */

struct page;
struct file;
struct mempolicy;
struct anon_vma;
struct vm_userfaultfd_ctx {
	void *ctx;
};
struct vm_area_struct {
	unsigned long vm_start, vm_end, vm_flags, vm_pgoff;
	struct mm_struct *vm_mm;
	struct file *vm_file;
	struct anon_vma *anon_vma;
	pgprot_t vm_page_prot;
	struct vm_userfaultfd_ctx vm_userfaultfd_ctx;
#if LINUX < 601
	struct vm_area_struct *vm_prev;
#endif
};
struct mm_struct {
	atomic_t mm_count;
#if LINUX < 508
	struct rw_semaphore mmap_sem;
#else
	struct rw_semaphore mmap_lock;
#endif
};
#if LINUX < 411
#define VM_MERGEABLE	0x80000000
#define VM_PAGE_PROFILE 0x00800000
extern unsigned long totalram_pages;
void down_read(struct rw_semaphore *sem);
void up_read(struct rw_semaphore *sem);
void down_write(struct rw_semaphore *sem);
int down_write_killable(struct rw_semaphore *sem);
void up_write(struct rw_semaphore *sem);
long probe_kernel_read(void *to, const void *from, size_t size);
struct vm_area_struct *vma_merge(struct mm_struct *mm, struct vm_area_struct *prev,
				 unsigned long addr, unsigned long end, unsigned long flags,
				 struct anon_vma *anon, struct file *file, pgoff_t offset,
				 struct mempolicy *policy, struct vm_userfaultfd_ctx ctx);
#else
#define VM_MERGEABLE	BIT(31)
#define VM_PAGE_PROFILE BIT(40)
unsigned long totalram_pages(void);
void mmgrab(struct mm_struct *mm);
void mmap_read_lock(struct mm_struct *mm);
void mmap_read_unlock(struct mm_struct *mm);
void mmap_write_lock(struct mm_struct *mm);
int mmap_write_lock_killable(struct mm_struct *mm);
void mmap_write_unlock(struct mm_struct *mm);
long copy_from_kernel_nofault(void *to, const void *from, size_t size);
struct anon_vma_name *anon_vma_name(struct vm_area_struct *vma);
struct vm_area_struct *find_vma_prev(struct mm_struct *mm, unsigned long addr,
				     struct vm_area_struct **prev);
struct vm_area_struct *vma_merge(struct mm_struct *mm, struct vm_area_struct *prev,
				 unsigned long addr, unsigned long end, unsigned long flags,
				 struct anon_vma *anon, struct file *file, pgoff_t offset,
				 struct mempolicy *policy, struct vm_userfaultfd_ctx ctx,
				 struct anon_vma_name *name);
#endif
#define VM_NONE	    0UL
#define VM_WRITE    0x2UL
#define VM_SHARED   0x8UL
#define VM_MAYWRITE 0x20UL
#define VM_PFNMAP   0x400UL
#define VM_IO	    0x4000UL
#define VM_HUGETLB  0x400000UL
#define VM_MIXEDMAP 0x10000000UL
struct mempolicy *vma_policy(struct vm_area_struct *vma);
bool vma_is_anonymous(struct vm_area_struct *vma);
struct vm_area_struct *find_vma(struct mm_struct *mm, unsigned long addr);
int split_vma(struct mm_struct *mm, struct vm_area_struct *vma, unsigned long addr, int new_below);
void split_huge_pmd(struct vm_area_struct *vma, pmd_t *pmd, unsigned long addr);
bool mmget_not_zero(struct mm_struct *mm);
void mmput(struct mm_struct *mm);
void mmdrop(struct mm_struct *mm);

#define GFP_KERNEL	   1U
#define GFP_KERNEL_ACCOUNT 2U
#define __GFP_ZERO	   4U
#define __GFP_NOWARN	   8U
#define NUMA_NO_NODE	   (-1)
#define VM_MAP		   4
void *kmalloc(size_t size, gfp_t flags);
void *kzalloc(size_t size, gfp_t flags);
void kfree(const void *pointer);
void kvfree(const void *pointer);
void vfree(const void *pointer);
void *__vmalloc_node_range(unsigned long size, unsigned long align, unsigned long start,
			   unsigned long end, gfp_t flags, pgprot_t prot, unsigned long vm_flags,
			   int node, const void *caller);
unsigned long vmalloc_to_pfn(const void *address);
void *vmap(struct page **pages, unsigned int count, unsigned long flags, pgprot_t prot);
void vunmap(const void *address);
struct page *alloc_page(gfp_t flags);
void __free_page(struct page *page);
int remap_pfn_range(struct vm_area_struct *vma, unsigned long addr, unsigned long pfn,
		    unsigned long size, pgprot_t prot);
#if LINUX < 411
int zap_vma_ptes(struct vm_area_struct *vma, unsigned long addr, unsigned long size);
#else
void zap_vma_ptes(struct vm_area_struct *vma, unsigned long addr, unsigned long size);
#endif
unsigned long copy_from_user(void *to, const void *from, unsigned long n);
unsigned long copy_to_user(void *to, const void *from, unsigned long n);
bool faulthandler_disabled(void);
bool in_nmi(void);

/* ---------------------------------------------------------------- files */

struct inode;
struct file {
	void *private_data;
};
struct file_operations {
	void *owner;
	int (*open)(struct inode *inode, struct file *file);
	int (*release)(struct inode *inode, struct file *file);
	long (*unlocked_ioctl)(struct file *file, unsigned int command, unsigned long arg);
	int (*mmap)(struct file *file, struct vm_area_struct *vma);
	loff_t (*llseek)(struct file *file, loff_t offset, int whence);
};
#define O_RDONLY 0
loff_t noop_llseek(struct file *file, loff_t offset, int whence);
void fput(struct file *file);
struct file *anon_inode_getfile(const char *name, const struct file_operations *fops, void *private,
				int flags);
struct miscdevice {
	int minor;
	const char *name;
	const struct file_operations *fops;
	umode_t mode;
};
#define MISC_DYNAMIC_MINOR 255
int misc_register(struct miscdevice *device);

struct ctl_table {
	const char *procname;
	void *data;
	int maxlen;
	umode_t mode;
	int (*proc_handler)(struct ctl_table *table, int write, void *buffer, size_t *length,
			    loff_t *at);
	void *extra1, *extra2;
};
int proc_dointvec_minmax(struct ctl_table *table, int write, void *buffer, size_t *length,
			 loff_t *at);
struct ctl_table_header *register_sysctl(const char *path, struct ctl_table *table);

#define _IOC(direction, type, number, size)                                                        \
	((direction) << 30 | (size) << 16 | (type) << 8 | (number))
#define _IO(type, number)	      _IOC(0U, type, number, 0)
#define _IOW(type, number, argument)  _IOC(1U, type, number, sizeof(argument))
#define _IOR(type, number, argument)  _IOC(2U, type, number, sizeof(argument))
#define _IOWR(type, number, argument) _IOC(3U, type, number, sizeof(argument))
#define _IOC_WRITE		      1U
#define _IOC_READ		      2U
#define _IOC_DIR(command)	      ((command) >> 30)
#define _IOC_SIZE(command)	      ((command) >> 16 & 0x3fff)

/* ---------------------------------------------------------------- the processor */

struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di;
	unsigned long orig_ax, ip, cs, flags, sp, ss;
};
#define X86_EFLAGS_IF BIT(9)
int user_mode(struct pt_regs *regs);
struct cpuinfo_x86 {
	u8 x86_phys_bits;
};
extern struct cpuinfo_x86 boot_cpu_data;

#endif
