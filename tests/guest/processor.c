/* What programs rely on of the processor, as far as a translator can get it wrong. What is written by `rewrite`, `step`
   and `faults` is the same on every right machine of these features; `litmus` counts what x86's memory model forbids.
   Arguments: a part's name; for `litmus` and `rewrite` also the seconds that each of its tests may take, and a word
   when more is to be told. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static double seconds = 0.2;
static int verbose;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void check(int ok, const char *what)
{
    if (!ok) {
        printf("%s: %s\n", what, strerror(errno));
        exit(1);
    }
}

/* ---- litmus: each test is run on many cells by threads that go through them side by side. */

#define CELLS 4096
typedef struct {
    volatile long x;
    char apart[56];
    volatile long y;
    char apart_too[56];
    long r[4];
    char to_end[32];
} Cell;
static Cell cells[CELLS] __attribute__((aligned(4096)));

typedef struct {
    const char *name;
    int threads;
    void (*run[4])(Cell *);
    int (*forbidden)(const Cell *);
} Litmus;

#define ASM(text, c, r) asm volatile(text : "=&r"(r) : "r"(&(c)->x), "r"(&(c)->y) : "memory", "cc", "rax")
#define THREAD(name, n, text) static void name(Cell *c) { long r; ASM(text, c, r); c->r[n] = r; }
#define WRITER(name, text) static void name(Cell *c) { asm volatile(text :: "r"(&c->x), "r"(&c->y) : "memory", "cc", "rax"); }

/* %1 is x and %2 is y; of writers %0 and %1. */
THREAD(sb_fence_0, 0, "movq $1,(%1); mfence; movq (%2),%0")
THREAD(sb_fence_1, 1, "movq $1,(%2); mfence; movq (%1),%0")
THREAD(sb_xchg_0, 0, "movl $1,%%eax; xchgq %%rax,(%1); movq (%2),%0")
THREAD(sb_xchg_1, 1, "movl $1,%%eax; xchgq %%rax,(%2); movq (%1),%0")
THREAD(sb_lock_0, 0, "movq $1,(%1); lock orl $0,-4(%%rsp); movq (%2),%0")
THREAD(sb_lock_1, 1, "movq $1,(%2); lock orl $0,-4(%%rsp); movq (%1),%0")
THREAD(sb_xadd_0, 0, "movl $1,%%eax; lock xaddq %%rax,(%1); movq (%2),%0")
THREAD(sb_xadd_1, 1, "movl $1,%%eax; lock xaddq %%rax,(%2); movq (%1),%0")
static int both_zero(const Cell *c) { return !c->r[0] && !c->r[1]; }

WRITER(mp_0, "movq $1,(%0); movq $1,(%1)")
static void mp_1(Cell *c)
{
    long a, b;
    asm volatile("movq (%3),%0; movq (%2),%1" : "=&r"(a), "=&r"(b) : "r"(&c->x), "r"(&c->y) : "memory");
    c->r[0] = a;
    c->r[1] = b;
}
static int second_alone(const Cell *c) { return c->r[0] && !c->r[1]; }

/* The same with other instructions that store and load. */
WRITER(mp_mixed_0, "orb $1,(%0); pushq $1; popq (%1)")
static void mp_mixed_1(Cell *c)
{
    long a, b;
    asm volatile("pushq (%3); popq %0; movzbl (%2),%k1" : "=&r"(a), "=&r"(b) : "r"(&c->x), "r"(&c->y) : "memory");
    c->r[0] = a;
    c->r[1] = b;
}

THREAD(lb_0, 0, "movq (%1),%0; movq $1,(%2)")
THREAD(lb_1, 1, "movq (%2),%0; movq $1,(%1)")
static int both_one(const Cell *c) { return c->r[0] && c->r[1]; }

WRITER(ww_0, "movq $1,(%0); movq $2,(%1)")
WRITER(ww_1, "movq $1,(%1); movq $2,(%0)")
static int firsts_last(const Cell *c) { return c->x == 1 && c->y == 1; }

WRITER(one_x, "movq $1,(%0)")
WRITER(one_y, "movq $1,(%1)")
static void iriw_2(Cell *c)
{
    long a, b;
    asm volatile("movq (%2),%0; movq (%3),%1" : "=&r"(a), "=&r"(b) : "r"(&c->x), "r"(&c->y) : "memory");
    c->r[0] = a;
    c->r[1] = b;
}
static void iriw_3(Cell *c)
{
    long a, b;
    asm volatile("movq (%3),%0; movq (%2),%1" : "=&r"(a), "=&r"(b) : "r"(&c->x), "r"(&c->y) : "memory");
    c->r[2] = a;
    c->r[3] = b;
}
static int disagree(const Cell *c) { return c->r[0] && !c->r[1] && c->r[2] && !c->r[3]; }

static void corr_1(Cell *c)
{
    long a, b;
    asm volatile("movq (%2),%0; movq (%2),%1" : "=&r"(a), "=&r"(b) : "r"(&c->x) : "memory");
    c->r[0] = a;
    c->r[1] = b;
}

THREAD(wrc_1, 0, "movq (%1),%0; movq $1,(%2)")
static void wrc_2(Cell *c)
{
    long a, b;
    asm volatile("movq (%3),%0; movq (%2),%1" : "=&r"(a), "=&r"(b) : "r"(&c->x), "r"(&c->y) : "memory");
    c->r[1] = a;
    c->r[2] = b;
}
static int not_caused(const Cell *c) { return c->r[0] && c->r[1] && !c->r[2]; }

static const Litmus tests[] = {
    { "store buffering, mfence", 2, { sb_fence_0, sb_fence_1 }, both_zero },
    { "store buffering, xchg", 2, { sb_xchg_0, sb_xchg_1 }, both_zero },
    { "store buffering, locked", 2, { sb_lock_0, sb_lock_1 }, both_zero },
    { "store buffering, xadd", 2, { sb_xadd_0, sb_xadd_1 }, both_zero },
    { "message passing", 2, { mp_0, mp_1 }, second_alone },
    { "message passing, mixed", 2, { mp_mixed_0, mp_mixed_1 }, second_alone },
    { "load buffering", 2, { lb_0, lb_1 }, both_one },
    { "2+2W", 2, { ww_0, ww_1 }, firsts_last },
    { "coherence of reads", 2, { one_x, corr_1 }, second_alone },
    { "write to read causality", 3, { one_x, wrc_1, wrc_2 }, not_caused },
    { "independent reads of independent writes", 4, { one_x, one_y, iriw_2, iriw_3 }, disagree },
};

static volatile int arrived, generation, stop;
static int parties;

/* Waits for all; spins a little, as a thread that sleeps would begin late. */
static void meet(void)
{
    int mine = generation;
    if (__sync_add_and_fetch(&arrived, 1) == parties) {
        arrived = 0;
        generation = mine + 1;
        return;
    }
    for (int n = 0; generation == mine; n++) {
        if (n > 2000)
            sched_yield();
        asm volatile("pause");
    }
}

typedef struct {
    const Litmus *test;
    int number;
    long rounds, forbidden;
} Part;

static void on_processor(int number)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(number % (int)sysconf(_SC_NPROCESSORS_ONLN), &set);
    sched_setaffinity(0, sizeof set, &set);
}

static void *litmus_thread(void *argument)
{
    Part *part = argument;
    double end = now() + seconds;
    on_processor(part->number);
    for (;;) {
        if (part->number == 0) {
            for (int i = 0; i < CELLS; i++) {
                cells[i].x = cells[i].y = 0;
                memset(cells[i].r, 0, sizeof cells[i].r);
            }
            stop = now() > end;
        }
        meet();
        if (stop)
            return 0;
        for (int i = 0; i < CELLS; i++)
            part->test->run[part->number](&cells[i]);
        meet();
        if (part->number == 0) {
            part->rounds++;
            for (int i = 0; i < CELLS; i++)
                part->forbidden += part->test->forbidden(&cells[i]);
        }
    }
}

static void together(void *(*run)(void *), void *parts, size_t size, int count)
{
    pthread_t threads[8];
    parties = count;
    arrived = 0;
    for (int i = 0; i < count; i++)
        check(!pthread_create(&threads[i], 0, run, (char *)parts + i * size), "pthread_create");
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], 0);
}

/* Counters that several threads change by locked instructions, at places of every alignment. */
#define TURNS 20000
static char *counters;
static unsigned char lock_byte;
static long guarded;

static void *atomic_thread(void *argument)
{
    int number = *(int *)argument;
    char *at = counters;
    on_processor(number);
    meet();
    for (int i = 0; i < TURNS; i++) {
        long one = 1, old;
        asm volatile("lock incb (%0); lock incw 4(%0); lock incl 8(%0); lock incq 16(%0)" :: "r"(at) : "memory", "cc");
        asm volatile("lock xaddq %0,24(%1)" : "+r"(one) : "r"(at) : "memory", "cc");
        old = *(volatile long *)(at + 32);
        while (!__atomic_compare_exchange_n((long *)(at + 32), &old, old + 1, 0, 5, 5))
            ;
        /* cmpxchg8b and cmpxchg16b: both halves count. */
        uint32_t low = *(volatile uint32_t *)(at + 40), high = *(volatile uint32_t *)(at + 44);
        char done;
        do
            asm volatile("lock cmpxchg8b 40(%3); setz %0" : "=q"(done), "+a"(low), "+d"(high)
                         : "r"(at), "b"(low + 1), "c"(high + 1) : "memory", "cc");
        while (!done);
        uint64_t lower = 0, upper = 0;
        do
            asm volatile("lock cmpxchg16b 48(%3); setz %0" : "=q"(done), "+a"(lower), "+d"(upper)
                         : "r"(at), "b"(lower + 1), "c"(upper + 1) : "memory", "cc");
        while (!done);
        asm volatile("lock btcq %1,64(%0); lock xorl %k2,72(%0)" :: "r"(at), "r"((long)number), "r"(1L << number) : "memory", "cc");
        /* Across cache lines and, now and then, across pages. */
        if (i % 64 == 0)
            asm volatile("lock incl 4093(%0)" :: "r"(at) : "memory", "cc");
        if (i % 16 == 0)
            asm volatile("lock addq $1,1021(%0)" :: "r"(at) : "memory", "cc");
        while (__atomic_exchange_n(&lock_byte, 1, 5))
            asm volatile("pause");
        guarded++;
        asm volatile("movb $0,%0" : "=m"(lock_byte) :: "memory");
    }
    return 0;
}

static void litmus(void)
{
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        Part parts[4];
        for (int n = 0; n < 4; n++)
            parts[n] = (Part){ &tests[i], n, 0, 0 };
        together(litmus_thread, parts, sizeof *parts, tests[i].threads);
        printf("%s: %ld forbidden\n", tests[i].name, parts[0].forbidden);
        if (verbose)
            printf("%ld rounds\n", parts[0].rounds);
    }
    int numbers[] = { 0, 1, 2, 3 };
    counters = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    together(atomic_thread, numbers, sizeof *numbers, 4);
    const int all = 4 * TURNS;
    uint64_t value[4];
    memcpy(value, counters + 40, 24);
    unsigned across;
    memcpy(&across, counters + 4093, 4);
    uint64_t lines;
    memcpy(&lines, counters + 1021, 8);
    printf("counters: %d %d %d %d %d %d\n", *(uint8_t *)counters == (uint8_t)all, *(uint16_t *)(counters + 4) == (uint16_t)all,
           *(int *)(counters + 8) == all, *(long *)(counters + 16) == all, *(long *)(counters + 24) == all,
           *(long *)(counters + 32) == all);
    printf("pairs: %d %d %d\n", value[0] == ((uint64_t)all << 32 | all), value[1] == (uint64_t)all, value[2] == (uint64_t)all);
    printf("bits: %ld %d\n", *(long *)(counters + 64), *(int *)(counters + 72));
    printf("misaligned: %d %d\n", across == 4 * ((TURNS + 63) / 64), lines == 4 * ((TURNS + 15) / 16));
    printf("guarded: %d\n", guarded == all);
}

/* ---- rewrite: code that changes while it is executed. */

static unsigned char *code, *alias;
static volatile unsigned seen, written;
static volatile int finished;

/* `mov $imm, %eax; ret`, with the constant at 4 bytes' alignment. */
static void put_function(unsigned char *at, unsigned value)
{
    const unsigned char text[] = { 0x90, 0x90, 0x90, 0xb8, 0, 0, 0, 0, 0xc3 };
    memcpy(at, text, sizeof text);
    memcpy(at + 4, &value, 4);
}

static unsigned call(const unsigned char *at)
{
    return ((unsigned (*)(void))(uintptr_t)at)();
}

static void *rewriter(void *argument)
{
    volatile unsigned *constant = argument;
    double end = now() + seconds;
    on_processor(1);
    for (unsigned n = 1; n % 64 || now() < end; n++) {
        *constant = written = n;
        if (n % 64 == 0)
            while (seen < n)
                sched_yield();
    }
    finished = 1;
    return 0;
}

static void rewrite_by_another(const char *name, unsigned char *place, unsigned char *constant)
{
    pthread_t thread;
    long backward = 0, early = 0;
    put_function(place, 0);
    finished = 0;
    seen = written = 0;
    check(!pthread_create(&thread, 0, rewriter, constant), "pthread_create");
    on_processor(0);
    while (!finished || seen != written) {
        unsigned value = call(code);
        backward += value < seen;
        early += value > written;
        seen = value;
    }
    pthread_join(thread, 0);
    printf("%s: %ld backward, %ld too early, last %s\n", name, backward, early, seen == written ? "right" : "wrong");
}

static volatile unsigned char seen_byte;
static void *byte_rewriter(void *argument)
{
    volatile unsigned char *constant = argument;
    double end = now() + seconds;
    on_processor(1);
    for (unsigned n = 1; n % 64 || now() < end; n++) {
        written = n;
        *constant = n;
        if (n % 64 == 0)
            while (seen_byte != (unsigned char)n)
                sched_yield();
    }
    finished = 1;
    return 0;
}

static void *jump_rewriter(void *argument)
{
    volatile uint64_t *jump = argument;
    double end = now() + seconds;
    on_processor(1);
    for (unsigned n = 0; now() < end; n++) {
        /* jmp +0xb: to the function behind, or to the one after that. */
        *jump = 0x90909000000000e9ull | (n % 2 ? 0x0b : 0x1b) << 8;
        for (int i = 0; i < 50; i++)
            asm volatile("pause");
    }
    finished = 1;
    return 0;
}

static void rewrite(void)
{
    int file = memfd_create("code", 0);
    check(file >= 0 && !ftruncate(file, 16384), "memfd_create");
    code = mmap(0, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED, file, 0);
    alias = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    check(code != MAP_FAILED && alias != MAP_FAILED, "mmap");

    rewrite_by_another("another thread", code, code + 4);
    rewrite_by_another("another mapping", alias, alias + 4);

    /* The constant of `mov $imm, %al` is in the next page. */
    pthread_t thread;
    unsigned char *whole = code;
    code[4095] = 0xb0;
    code[4096] = 0;
    code[4097] = 0xc3;
    finished = seen_byte = written = 0;
    check(!pthread_create(&thread, 0, byte_rewriter, alias + 4096), "pthread_create");
    on_processor(0);
    long backward = 0;
    while (!finished || seen_byte != (unsigned char)written) {
        unsigned char value = call(whole + 4095);
        backward += (signed char)(value - seen_byte) < 0;
        seen_byte = value;
    }
    pthread_join(thread, 0);
    printf("constant in the next page: %ld backward\n", backward);

    /* A jump that leads elsewhere from one moment to the next. */
    memset(code, 0x90, 64);
    put_function(code + 16, 1);
    put_function(code + 32, 2);
    const unsigned char jump[] = { 0xe9, 0x0b, 0, 0, 0 };
    memcpy(code, jump, sizeof jump);
    finished = 0;
    check(!pthread_create(&thread, 0, jump_rewriter, code), "pthread_create");
    long wrong = 0, sums[3] = { 0 };
    while (!finished) {
        unsigned value = call(code);
        if (value == 1 || value == 2)
            sums[value]++;
        else
            wrong++;
    }
    pthread_join(thread, 0);
    printf("jump: %ld wrong\n", wrong);
    if (verbose)
        printf("%ld and %ld\n", sums[1], sums[2]);

    /* Code that changes the instruction after, and one that changes itself: both at once. */
    long differing = 0;
    const unsigned char next[] = { 0x40, 0x88, 0x3d, 1, 0, 0, 0, 0xb0, 0, 0xc3 }; /* mov %dil, 1(%rip); mov $0, %al; ret */
    memcpy(code + 128, next, sizeof next);
    for (int n = 0; n < 3000; n++)
        differing += ((unsigned char (*)(int))(uintptr_t)(code + 128))(n) != (unsigned char)n;
    printf("the next instruction: %ld wrong\n", differing);
    /* xor %eax,%eax; mov $100,%ecx; 1: add $0,%eax; incb -2(%rip); loop 1b; ret: the sum of 0 to 99. */
    const unsigned char itself[] = { 0x31, 0xc0, 0xb9, 100, 0, 0, 0, 0x05, 0, 0, 0, 0, 0xfe, 0x05, 0xf6, 0xff, 0xff, 0xff,
                                     0xe2, 0xf3, 0xc3 };
    differing = 0;
    for (int n = 0; n < 50; n++) {
        memcpy(code + 256, itself, sizeof itself);
        differing += call(code + 256) != 4950;
    }
    printf("itself: %ld wrong\n", differing);

    /* Other ways to change it: the kernel writes, the page is another, it is made writable and back. */
    put_function(code, 7);
    for (int n = 0; n < 100; n++)
        call(code);
    unsigned value = 8;
    int memory = open("/proc/self/mem", 2);
    check(memory >= 0 && pwrite(memory, &value, 4, (off_t)(uintptr_t)(code + 4)) == 4, "/proc/self/mem");
    printf("by the kernel: %u", call(code));
    value = 9;
    check(pwrite(file, &value, 4, 4) == 4, "pwrite");
    printf(" %u", call(code));
    struct iovec from = { &value, 4 }, to = { code + 4, 4 };
    value = 10;
    check(process_vm_writev(getpid(), &from, 1, &to, 1, 0) == 4, "process_vm_writev");
    printf(" %u\n", call(code));
    put_function(code + 4096, 20);
    put_function(code, 10);
    differing = 0;
    for (int n = 0; n < 400; n++) {
        check(mmap(code, 4096, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED, file, n % 2 * 4096) == code, "mmap");
        differing += call(code) != (n % 2 ? 20u : 10u);
    }
    printf("another page: %ld wrong\n", differing);
    check(mmap(code, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == code, "mmap");
    differing = 0;
    for (unsigned n = 0; n < 400; n++) {
        check(!mprotect(code, 4096, PROT_READ | PROT_WRITE), "mprotect");
        put_function(code, n);
        check(!mprotect(code, 4096, PROT_READ | PROT_EXEC), "mprotect");
        differing += call(code) != n;
    }
    printf("made writable and back: %ld wrong\n", differing);
    /* A child's copy changes, the parent's does not. */
    check(!mprotect(code, 4096, PROT_READ | PROT_WRITE | PROT_EXEC), "mprotect");
    put_function(code, 1);
    differing = 0;
    for (int n = 0; n < 20; n++) {
        pid_t child = fork();
        if (!child) {
            put_function(code, 50 + n);
            _exit(call(code));
        }
        differing += call(code) != 1;
        int status;
        waitpid(child, &status, 0);
        differing += WEXITSTATUS(status) != 50 + n;
        differing += call(code) != 1;
    }
    printf("a child's: %ld wrong\n", differing);
}

/* ---- step: another process under ptrace. */

extern char routine[], routine_end[], after_div[], hot[], hot_store[];
long watched[4] __attribute__((aligned(32)));
char *fresh;
asm(".pushsection .text\n"
    "routine:\n"
    "  movl $5,%eax\n  addl $-5,%eax\n  jz 1f\n  ud2\n"
    "1: pushq %rbx\n  xorl %ebx,%ebx\n  stc\n  adcl $0x7fffffff,%ebx\n  pushfq\n  popq %rdx\n"
    "  call 2f\n  jmp 3f\n"
    "2: incl %ebx\n  ret\n"
    "3: leaq watched(%rip),%rdi\n  leaq routine(%rip),%rsi\n  movl $5,%ecx\n  rep movsb\n"
    "  xorl %ecx,%ecx\n  rep stosb\n  movl $3,%ecx\n  leaq routine(%rip),%rdi\n  xorl %eax,%eax\n  repne scasb\n"
    "  movl $3,%ecx\n4: nop\n  loop 4b\n  jrcxz 5f\n  ud2\n"
    "5: movl $110,%eax\n  syscall\n  movl $1,%eax\n"
    "  movl %ss,%ecx\n  movl %ecx,%ss\n  incl %eax\n  incl %eax\n"
    "  cvtsi2sd %eax,%xmm0\n  fld1\n  fstp %st(0)\n  movq fresh(%rip),%rcx\n  movb (%rcx),%dl\n  movb $1,4096(%rcx)\n"
    "  cld\n  std\n  cld\n  pushfq\n  popq %rdx\n  cmc\n"
    "  movl $7,%eax\n  xorl %edx,%edx\n  movl $2,%ecx\n  divl %ecx\nafter_div: leaq 6f(%rip),%rcx\n  jmp *%rcx\n  ud2\n"
    "6: popq %rbx\n  ret\n"
    "routine_end:\n"
    "hot: addq $1,watched+8(%rip)\n"
    "hot_store: movl %edi,watched(%rip)\n  movl watched+16(%rip),%eax\n  ret\n"
    ".popsection\n");
void call_routine(void);
asm(".pushsection .text\ncall_routine: pushq %rbx\n  pushq %rbp\n  call routine\n  popq %rbp\n  popq %rbx\n  ret\n.popsection\n");

static struct user_regs_struct registers(pid_t child)
{
    struct user_regs_struct r;
    check(!ptrace(PTRACE_GETREGS, child, 0, &r), "PTRACE_GETREGS");
    return r;
}

/* Lets the child go on; its stop signal, or 0 when it has ended. */
static int go(pid_t child, int how)
{
    int status;
    check(!ptrace(how, child, 0, 0), "ptrace");
    waitpid(child, &status, 0);
    return WIFSTOPPED(status) ? WSTOPSIG(status) : 0;
}

static void poke(pid_t child, const char *at, unsigned char byte)
{
    long word = ptrace(PTRACE_PEEKTEXT, child, at, 0);
    check(!ptrace(PTRACE_POKETEXT, child, at, (word & ~0xffL) | byte), "PTRACE_POKETEXT");
}

static void debug_register(pid_t child, int n, unsigned long value)
{
    check(!ptrace(PTRACE_POKEUSER, child, offsetof(struct user, u_debugreg) + 8 * n, value), "PTRACE_POKEUSER");
}

static void step(void)
{
    fflush(stdout);
    fresh = mmap((void *)0x20000000, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    pid_t child = fork();
    if (!child) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        for (int n = 0; n < 3000; n++)
            ((void (*)(int))(uintptr_t)hot)(n);
        for (int n = 0; n < 300; n++)
            call_routine();
        madvise(fresh, 8192, MADV_DONTNEED);
        raise(SIGSTOP);
        call_routine();
        raise(SIGSTOP);
        for (int part = 0; part < 3; part++) {
            watched[1] = 0;
            for (int n = 0; n < 5000; n++)
                ((void (*)(int))(uintptr_t)hot)(n);
            raise(SIGSTOP);
        }
        _exit(watched[1] == 5000 ? 3 : 4);
    }
    int status;
    waitpid(child, &status, 0);
    /* Through the routine instruction by instruction: from a breakpoint at its beginning on. */
    unsigned char first = ptrace(PTRACE_PEEKTEXT, child, routine, 0);
    poke(child, routine, 0xcc);
    int signal = go(child, PTRACE_CONT);
    struct user_regs_struct r = registers(child);
    printf("breakpoint: signal %d at %+ld\n", signal, (long)(r.rip - (uintptr_t)routine));
    poke(child, routine, first);
    r.rip = (uintptr_t)routine;
    check(!ptrace(PTRACE_SETREGS, child, 0, &r), "PTRACE_SETREGS");
    for (int n = 0; n < 200; n++) {
        signal = go(child, PTRACE_SINGLESTEP);
        r = registers(child);
        long at = r.rip - (uintptr_t)routine;
        if (signal != SIGTRAP || at < 0 || at >= routine_end - routine)
            break;
        /* What DIV leaves of the flags is nobody's business. */
        printf("step %ld: flags %llx", at, r.eflags & (at >= after_div - routine ? ~0x8d5ull : ~0ull));
        printf(r.rcx < 100 ? " rcx %lld\n" : "\n", r.rcx);
    }
    printf("left by signal %d\n", signal);
    printf("then signal %d\n", go(child, PTRACE_CONT));

    /* A breakpoint in code that was executed often. */
    first = ptrace(PTRACE_PEEKTEXT, child, hot, 0);
    poke(child, hot, 0xcc);
    for (int n = 0; n < 20; n++) {
        signal = go(child, PTRACE_CONT);
        r = registers(child);
        if (signal != SIGTRAP || r.rip != (uintptr_t)hot + 1 || r.rdi != (unsigned)n)
            printf("hit %d: signal %d at %+ld\n", n, signal, (long)(r.rip - (uintptr_t)hot));
        poke(child, hot, first);
        r.rip = (uintptr_t)hot;
        check(!ptrace(PTRACE_SETREGS, child, 0, &r), "PTRACE_SETREGS");
        go(child, PTRACE_SINGLESTEP);
        if (n < 19)
            poke(child, hot, 0xcc);
    }
    signal = go(child, PTRACE_CONT);
    printf("breakpoint in hot code: then signal %d, counted %ld\n", signal, ptrace(PTRACE_PEEKDATA, child, &watched[1], 0));

    /* Debug registers: execution, writes, reads and writes. */
    debug_register(child, 0, (uintptr_t)hot);
    debug_register(child, 1, (uintptr_t)&watched[0]);
    debug_register(child, 2, (uintptr_t)&watched[2]);
    debug_register(child, 7, 0x2a | 1 << 20 | 3 << 22 | 3 << 24 | 3 << 26 | 1);
    for (int n = 0; n < 12; n++) {
        signal = go(child, PTRACE_CONT);
        r = registers(child);
        long dr6 = ptrace(PTRACE_PEEKUSER, child, offsetof(struct user, u_debugreg) + 48, 0);
        printf("debug register: signal %d at %+ld, dr6 %lx, rdi %llu\n", signal, (long)(r.rip - (uintptr_t)hot), dr6 & 0xf, r.rdi);
        debug_register(child, 6, 0);
    }
    debug_register(child, 7, 0);
    signal = go(child, PTRACE_CONT);
    printf("without: signal %d, counted %ld\n", signal, ptrace(PTRACE_PEEKDATA, child, &watched[1], 0));
    signal = go(child, PTRACE_CONT);
    ptrace(PTRACE_CONT, child, 0, 0);
    waitpid(child, &status, 0);
    printf("ended: %d\n", WEXITSTATUS(status));
}

/* ---- faults: what signal handlers are told. */

static sigjmp_buf away;
static unsigned char *const PAGE = (unsigned char *)0x10000000; /* written, then one that can only be read, then none */
static const char *current;

static void handler(int signal, siginfo_t *info, void *context)
{
    asm volatile("pushfq; andl $~0x40100,(%%rsp); popfq; cld" ::: "memory", "cc");
    ucontext_t *u = context;
    greg_t *g = u->uc_mcontext.gregs;
    uint64_t rflags = g[REG_EFL] & 0x50dd5;
    unsigned long address = (uintptr_t)info->si_addr, rip = g[REG_RIP] - g[REG_R14];
    printf("%s: signal %d code %d trap %lld error %llx at ", current, signal, info->si_code, g[REG_TRAPNO], g[REG_ERR]);
    printf(rip < 100 ? "+%lu" : "%lx", rip < 100 ? rip : (unsigned long)g[REG_RIP]);
    if (g[REG_TRAPNO] == 14)
        printf(" cr2 %llx", g[REG_CR2]);
    if (signal != SIGTRAP && address != (unsigned long)g[REG_RIP])
        printf(" address %lx", address);
    printf(" flags %lx", (unsigned long)rflags);
    printf(" rax %llx rcx %llx rdx %llx rsi %llx rdi %llx rsp %s\n", g[REG_RAX], g[REG_RCX], g[REG_RDX], g[REG_RSI], g[REG_RDI],
           g[REG_RSP] == g[REG_R15] ? "as before" : "changed");
    asm volatile("fninit");
    unsigned mxcsr = 0x1f80;
    asm volatile("ldmxcsr %0" :: "m"(mxcsr));
    siglongjmp(away, 1);
}

/* The case runs with known registers: flags of `cmp $1, 0`, rdi the written page, rsi the page that can only be read,
   r14 its beginning, r15 the stack pointer. */
#define REGISTERS                                                                                                       \
    "movl $0x11,%%eax; movl $0x22,%%ecx; xorl %%edx,%%edx; movq %%rsp,%%r15; leaq 99f(%%rip),%%r14; cmpl $1,%%edx\n99: "
#define CASE(name, text)                                                                                                \
    do {                                                                                                                \
        current = name;                                                                                                 \
        if (!sigsetjmp(away, 1)) {                                                                                      \
            unsigned char *rdi = PAGE, *rsi = PAGE + 4096;                                                              \
            asm volatile("subq $256,%%rsp\n" REGISTERS text "\n addq $256,%%rsp"                                        \
                         : "+D"(rdi), "+S"(rsi) :: "rax", "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13",  \
                         "r14", "r15", "memory", "cc", "xmm0", "xmm1");                                                 \
            printf("%s: no fault\n", name);                                                                             \
        }                                                                                                               \
    } while (0)

static void faults(void)
{
    static char stack[65536];
    stack_t other = { .ss_sp = stack, .ss_size = sizeof stack };
    check(!sigaltstack(&other, 0), "sigaltstack");
    struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK };
    for (int signal = 1; signal < 32; signal++)
        if (signal == SIGSEGV || signal == SIGBUS || signal == SIGFPE || signal == SIGILL || signal == SIGTRAP)
            check(!sigaction(signal, &action, 0), "sigaction");
    check(mmap(PAGE, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == PAGE, "mmap");
    memset(PAGE, 0x5a, 8192);
    check(!mprotect(PAGE + 4096, 4096, PROT_READ), "mprotect");

    for (int turn = 0; turn < 3; turn++) {
        CASE("load", "movq 8192(%%rdi),%%rax");
        CASE("load into the last register", "movq 4096(%%rsi),%%r9");
        CASE("load across pages", "movq 4093(%%rsi),%%rax");
        CASE("store", "movq %%rax,(%%rsi)");
        CASE("store of a constant", "movl $1,8(%%rsi)");
        CASE("store across pages", "movq %%rax,4093(%%rdi)");
        CASE("modify", "addl %%eax,(%%rsi)");
        CASE("modify, flags first", "addl $0x7fffffff,%%eax; addl %%eax,(%%rsi)");
        CASE("carry into a fault", "stc; adcq $0,4093(%%rdi)");
        CASE("exchange", "xchgl %%eax,(%%rsi)");
        CASE("compare and exchange, equal", "movl $0x5a5a5a5a,%%eax; lock cmpxchgl %%ecx,(%%rsi)");
        CASE("compare and exchange, different", "lock cmpxchgl %%ecx,(%%rsi)");
        CASE("exchange and add", "lock xaddl %%ecx,(%%rsi)");
        CASE("compare and exchange 16 bytes", "cmpxchg16b (%%rsi)");
        CASE("compare and exchange 16 bytes, unaligned", "cmpxchg16b 8(%%rdi)");
        CASE("bit in another page", "movl $32768,%%ecx; btsl %%ecx,(%%rdi)");
        CASE("shift", "shll %%cl,(%%rsi)");
        CASE("increment", "incb (%%rsi)");
        CASE("set", "sete (%%rsi)");
        CASE("move not taken", "cmove 8192(%%rdi),%%rax");
        CASE("pop into memory", "pushq $5; movq %%rsp,%%r15; popq (%%rsi)");
        CASE("push from memory", "pushq 8192(%%rdi)");
        CASE("push without a stack", "movq %%rsi,%%rsp; addq $8,%%rsp; movq %%rsp,%%r15; pushq %%rax");
        CASE("pop without a stack", "leaq 4096(%%rsi),%%rsp; movq %%rsp,%%r15; popq %%rax");
        CASE("leave without a stack", "leaq 4096(%%rsi),%%rbp; leave");
        CASE("enter without a stack", "movq %%rsi,%%rsp; addq $8,%%rsp; movq %%rsp,%%r15; enter $16,$0");
        CASE("return without a stack", "leaq 4096(%%rsi),%%rsp; movq %%rsp,%%r15; ret");
        CASE("call without a stack", "movq %%rsi,%%rsp; addq $8,%%rsp; movq %%rsp,%%r15; call 1f\n1:");
        CASE("call by register without a stack", "movq %%rsi,%%rsp; addq $8,%%rsp; movq %%rsp,%%r15; call *%%rdi");
        CASE("return to nowhere", "pushq %%rdx; movq %%rsp,%%r15; ret");
        CASE("return to data", "pushq %%rdi; movq %%rsp,%%r15; ret");
        CASE("jump to data", "jmp *%%rdi");
        CASE("jump through nothing", "jmp *8192(%%rdi)");
        CASE("call through nothing", "call *8192(%%rdi)");
        CASE("jump out of reach", "movabsq $0x100000000000000,%%rax; jmp *%%rax");
        CASE("call out of reach", "movabsq $0x8000000000000000,%%rax; call *%%rax");
        CASE("return out of reach", "movabsq $0x7fff123456789abc,%%rax; pushq %%rax; movq %%rsp,%%r15; ret");
        CASE("load out of reach", "movabsq $0x1234567800000000,%%rax; movl (%%rax),%%eax");
        CASE("store out of reach", "movabsq $0xffffffffffffff,%%rcx; movw %%ax,(%%rcx)");
        CASE("load of the kernel's", "movabsq $0xffffffff80000000,%%rax; movl (%%rax),%%eax");
        CASE("stack out of reach", "movabsq $0x100000000000008,%%rsp; movq %%rsp,%%r15; pushq %%rax");
        CASE("division by zero", "movl %%edx,%%ebx; divl %%ebx");
        CASE("division that overflows", "movl $2,%%edx; movl $1,%%ebx; divl %%ebx");
        CASE("signed division that overflows", "movabsq $0x8000000000000000,%%rax; cqto; movq $-1,%%rbx; idivq %%rbx");
        CASE("division by memory's zero", "movb $0,(%%rdi); divb (%%rdi)");
        CASE("division by nothing", "divq 8192(%%rdi)");
        CASE("int3", "int3");
        CASE("int 3", ".byte 0xcd, 3");
        CASE("icebp", ".byte 0xf1");
        CASE("int 4", "int $4");
        CASE("int 0x81", "int $0x81");
        CASE("ud2", "ud2");
        CASE("undefined", ".byte 0x0f, 0xff, 0xc0");
        CASE("undefined in 64 bits", ".byte 0x06");
        CASE("lock without memory", ".byte 0xf0, 0x01, 0xc0");
        CASE("too long", ".byte 0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x90");
        CASE("privileged", "hlt");
        CASE("port", "outb %%al,%%dx");
        CASE("clear interrupts", "cli");
        CASE("control register", "movq %%cr0,%%rax");
        CASE("model-specific register", "rdmsr");
        CASE("invlpg", "invlpg (%%rdi)");
        CASE("data segment", "movl $0x10,%%eax; movl %%eax,%%ds");
        CASE("no such segment", "movl $0x1f33,%%eax; movl %%eax,%%es");
        CASE("unaligned vector", "movaps 1(%%rdi),%%xmm0");
        CASE("unaligned operand of a vector", "addps 4(%%rdi),%%xmm0");
        CASE("vector across pages", "movups 4090(%%rdi),%%xmm0; movups %%xmm0,4090(%%rdi)");
        CASE("vector of nothing", "movdqu 8190(%%rdi),%%xmm1");
        CASE("alignment check", "pushfq; orl $0x40000,(%%rsp); popfq; movl 1(%%rdi),%%eax");
        CASE("alignment check, aligned", "pushfq; orl $0x40000,(%%rsp); popfq; movl 4(%%rdi),%%eax; pushfq; andl $~0x40000,(%%rsp); popfq");
        CASE("copy", "movl $0x2000,%%ecx; rep movsb");
        CASE("copy down", "leaq 4096(%%rsi),%%rsi; leaq 7(%%rdi),%%rdi; movl $9,%%ecx; std; rep movsb");
        CASE("fill", "leaq 4000(%%rdi),%%rdi; movl $100,%%ecx; rep stosq");
        CASE("fill by two", "leaq 4095(%%rdi),%%rdi; movl $2,%%ecx; rep stosw");
        CASE("search", "movq %%rsi,%%rdi; movl $5000,%%ecx; repne scasb");
        CASE("compare", "movl $5000,%%ecx; repe cmpsb");
        CASE("single step", "pushfq; orl $0x100,(%%rsp); popfq; incl %%eax; incl %%ecx");
        CASE("single step of a jump", "pushfq; orl $0x100,(%%rsp); popfq; jmp 1f; nop\n1: nop");
        CASE("vector exception", "pushq $0; stmxcsr (%%rsp); andl $~0x200,(%%rsp); ldmxcsr (%%rsp); cvtsi2sd %%eax,%%xmm0;"
                                 " xorps %%xmm1,%%xmm1; divsd %%xmm1,%%xmm0");
        CASE("x87 exception", "pushq $0x37b; fninit; fldcw (%%rsp); fld1; fldz; fdivrp; fwait");
        CASE("x87 exception, later", "pushq $0x37b; fninit; fldcw (%%rsp); fld1; fldz; fdivrp; movl $7,%%ecx; fld1");
        CASE("reserved bits of MXCSR", "pushq $-1; movq %%rsp,%%r15; ldmxcsr (%%rsp)");
        CASE("written before the fault", "movl $0x77,(%%rdi); movl $0x88,(%%rsi)");
        printf("memory: %x %x\n", *(unsigned *)PAGE, *(unsigned *)(PAGE + 4092));
        memset(PAGE, 0x5a, 4096);
    }
}

int main(int count, char **arguments)
{
    if (count > 2)
        seconds = atof(arguments[2]);
    verbose = count > 3;
    const char *part = count > 1 ? arguments[1] : "";
    if (!strcmp(part, "litmus"))
        litmus();
    else if (!strcmp(part, "rewrite"))
        rewrite();
    else if (!strcmp(part, "step"))
        step();
    else if (!strcmp(part, "faults"))
        faults();
    else
        return 2;
    return 0;
}
