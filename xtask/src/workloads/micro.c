/* What operating systems are asked for all the time, one operation a row; and a stop watch for other programs.
   Each line of output: name, nanoseconds, operations, nanoseconds of processor time. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* Processor time of this process and of the children that it has waited for. */
static long long used(void)
{
    long long sum = 0;
    for (int who = RUSAGE_CHILDREN; who <= RUSAGE_SELF; who++) {
        struct rusage r;
        getrusage(who, &r);
        sum += (r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1000000000LL;
        sum += (r.ru_utime.tv_usec + r.ru_stime.tv_usec) * 1000LL;
    }
    return sum;
}

static void syscalls(long n)
{
    for (long i = 0; i < n; i++)
        syscall(SYS_getppid);
}

static void faults(long n)
{
    const long pages = 4096;
    for (long done = 0; done < n; done += pages) {
        char *p = mmap(0, pages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        madvise(p, pages * 4096, MADV_NOHUGEPAGE);
        for (long i = 0; i < pages; i++)
            p[i * 4096] = 1;
        munmap(p, pages * 4096);
    }
}

/* Pages that memory has already: the kernel only enters them into the page table. */
static void backed_faults(long n)
{
    const long pages = 4096;
    int f = memfd_create("pages", 0);
    if (ftruncate(f, pages * 4096))
        exit(1);
    char *all = mmap(0, pages * 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, f, 0);
    for (long done = 0; done < n; done += pages) {
        char *p = mmap(0, pages * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, f, 0);
        madvise(p, pages * 4096, MADV_RANDOM);
        for (long i = 0; i < pages; i++)
            p[i * 4096] = 1;
        munmap(p, pages * 4096);
    }
    munmap(all, pages * 4096);
    close(f);
}

static void pipe_one(long n)
{
    int p[2];
    char c = 0;
    if (pipe(p))
        exit(1);
    for (long i = 0; i < n; i++)
        if (write(p[1], &c, 1) != 1 || read(p[0], &c, 1) != 1)
            exit(1);
    close(p[0]);
    close(p[1]);
}

static void ping_pong(long n)
{
    int a[2], b[2];
    char c = 0;
    if (pipe(a) || pipe(b))
        exit(1);
    pid_t child = fork();
    if (!child) {
        for (long i = 0; i < n; i++)
            if (read(a[0], &c, 1) != 1 || write(b[1], &c, 1) != 1)
                _exit(1);
        _exit(0);
    }
    for (long i = 0; i < n; i++)
        if (write(a[1], &c, 1) != 1 || read(b[0], &c, 1) != 1)
            exit(1);
    waitpid(child, 0, 0);
    close(a[0]), close(a[1]), close(b[0]), close(b[1]);
}

static void forks(long n)
{
    for (long i = 0; i < n; i++) {
        pid_t child = fork();
        if (!child)
            _exit(0);
        waitpid(child, 0, 0);
    }
}

static const char *self;

static void execs(long n)
{
    for (long i = 0; i < n; i++) {
        pid_t child = vfork();
        if (!child) {
            execl(self, self, "nothing", (char *)0);
            _exit(1);
        }
        waitpid(child, 0, 0);
    }
}

static void maps(long n)
{
    for (long i = 0; i < n; i++) {
        char *p = mmap(0, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        p[0] = 1;
        munmap(p, 65536);
    }
}

static void handler(int s)
{
    (void)s;
}

static void signals(long n)
{
    signal(SIGUSR1, handler);
    pid_t own = getpid();
    for (long i = 0; i < n; i++)
        kill(own, SIGUSR1);
}

static void opens(long n)
{
    for (long i = 0; i < n; i++) {
        int f = open(self, O_RDONLY);
        char buffer[64];
        if (read(f, buffer, sizeof buffer) != sizeof buffer)
            exit(1);
        close(f);
    }
}

/* Processes that hand a byte round, each with 256 KiB that it looks through before it passes the byte on. */
static void ring(int members, long n)
{
    enum { PAGES = 64 };
    int first[2], in, out;
    char c = 0;
    if (pipe(first))
        exit(1);
    in = first[0], out = first[1];
    long rounds = (n + members - 1) / members;
    pid_t children[128];
    for (int i = 0; i < members; i++) {
        int next[2];
        if (pipe(next))
            exit(1);
        children[i] = fork();
        if (!children[i]) {
            char *p = mmap(0, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            for (long r = 0; r < rounds; r++) {
                if (read(in, &c, 1) != 1)
                    _exit(1);
                for (int k = 0; k < PAGES; k++)
                    p[k * 4096]++;
                if (write(next[1], &c, 1) != 1)
                    _exit(1);
            }
            _exit(0);
        }
        close(in), close(next[1]);
        in = next[0];
    }
    for (long r = 0; r < rounds; r++)
        if (write(out, &c, 1) != 1 || read(in, &c, 1) != 1)
            exit(1);
    close(in), close(out);
    for (int i = 0; i < members; i++)
        waitpid(children[i], 0, 0);
}

static void ring1(long n) { ring(1, n); }
static void ring10(long n) { ring(10, n); }
static void ring100(long n) { ring(100, n); }

/* Words all over a piece of memory that is there already. */
static void touch(size_t size, long n)
{
    static char *p;
    static size_t have;
    if (have != size) {
        if (p)
            munmap(p, have);
        p = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED)
            exit(1);
        for (size_t i = 0; i < size; i += 4096)
            p[i] = 1;
        have = size;
    }
    unsigned long at = 1;
    for (long i = 0; i < n; i++) {
        at = at * 6364136223846793005ul + 1442695040888963407ul;
        ((long *)p)[(at >> 20) % (size / sizeof(long))]++;
    }
}

static void touch64m(long n) { touch(64ul << 20, n); }
static void touch256m(long n) { touch(256ul << 20, n); }
static void touch1g(long n) { touch(1ul << 30, n); }
static void touch4g(long n) { touch(4ul << 30, n); }

/* Pages of code that was never executed before: blocks of arithmetic, each with a jump to the next, as compilers
   make them. Each page is executed so many times. One operation: a page. */
static void fresh(int times, long n)
{
    const long pages = 64;
    int f = memfd_create("code", 0);
    if (ftruncate(f, pages * 4096))
        exit(1);
    unsigned char *to = mmap(0, pages * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, f, 0);
    static unsigned seed = 1;
    for (long done = 0; done < n; done += pages) {
        for (long i = 0; i < pages; i++) {
            unsigned char *p = to + i * 4096, *end = p + 4096 - 32;
            while (p < end) {
                for (int k = 0; k < 4; k++) {
                    /* add, or, adc, sbb, and, sub, xor, cmp of EAX, ECX, EDX, ESI or EDI */
                    static const unsigned char registers[] = { 0xc0, 0xc8, 0xd1, 0xf2, 0xfe, 0xc1, 0xd6, 0xf9 };
                    seed = seed * 1103515245 + 12345;
                    *p++ = 1 | (seed >> 16 & 7) << 3;
                    *p++ = registers[seed >> 20 & 7];
                }
                /* a conditional jump to the next instruction */
                *p++ = 0x70 | (seed >> 24 & 15);
                *p++ = 0;
            }
            *p = 0xc3;
        }
        unsigned char *code = mmap(0, pages * 4096, PROT_READ | PROT_EXEC, MAP_SHARED, f, 0);
        for (int k = 0; k < times; k++)
            for (long i = 0; i < pages; i++)
                __asm__ volatile("call *%0" : : "r"(code + i * 4096) : "rax", "rcx", "rdx", "rsi", "rdi", "cc", "memory");
        munmap(code, pages * 4096);
    }
    munmap(to, pages * 4096);
    close(f);
}

static void fresh1(long n) { fresh(1, n); }
static void fresh10(long n) { fresh(10, n); }
static void fresh100(long n) { fresh(100, n); }

static const struct {
    const char *name;
    void (*run)(long);
    long first;
} rows[] = {
    { "syscall", syscalls, 20000 }, { "page-fault", faults, 4096 }, { "backed-fault", backed_faults, 4096 },
    { "pipe", pipe_one, 5000 },     { "switch", ping_pong, 1000 },  { "fork", forks, 20 },
    { "exec", execs, 10 },          { "mmap", maps, 2000 },         { "signal", signals, 5000 },
    { "open", opens, 2000 },        { "ring-1", ring1, 1000 },      { "ring-10", ring10, 1000 },
    { "ring-100", ring100, 1000 },  { "touch-64M", touch64m, 100000 },
    { "touch-256M", touch256m, 100000 }, { "touch-1G", touch1g, 100000 }, { "touch-4G", touch4g, 100000 },
    { "fresh-1", fresh1, 64 },      { "fresh-10", fresh10, 64 },    { "fresh-100", fresh100, 64 },
};

int main(int argc, char **argv)
{
    self = argv[0];
    if (argc == 2 && !strcmp(argv[1], "nothing"))
        return 0;
    if (argc == 2 && !strcmp(argv[1], "clock")) {
        printf("clock %lld 1\n", now());
        return 0;
    }
    /* time NAME COMMAND...; together COUNT NAME COMMAND...: so many at once */
    int together = argc > 4 && !strcmp(argv[1], "together");
    if (together || (argc > 3 && !strcmp(argv[1], "time"))) {
        int count = together ? atoi(argv[2]) : 1;
        argv += together;
        long long start = now();
        for (int i = 0; i < count; i++) {
            if (!fork()) {
                int null = open("/dev/null", O_WRONLY);
                dup2(null, 1);
                dup2(null, 2);
                execvp(argv[3], argv + 3);
                _exit(127);
            }
        }
        for (int i = 0; i < count; i++) {
            int status = 0;
            wait(&status);
            if (status) {
                printf("%s failed %d\n", argv[2], status);
                return 1;
            }
        }
        printf("%s %lld %d %lld\n", argv[2], now() - start, count, used());
        return 0;
    }
    double seconds = argc > 1 ? atof(argv[1]) : 0.3;
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        int wanted = argc < 3;
        for (int k = 2; k < argc; k++)
            wanted |= !strcmp(argv[k], rows[i].name);
        if (!wanted)
            continue;
        rows[i].run(rows[i].first);
        /* As many operations as fit into the time. */
        long n = rows[i].first;
        for (;;) {
            long long start = now(), before = used();
            rows[i].run(n);
            long long took = now() - start, processor = used() - before;
            if (took >= seconds * 1e9) {
                printf("%s %lld %ld %lld\n", rows[i].name, took, n, processor);
                fflush(stdout);
                break;
            }
            n *= took < seconds * 1e8 ? 8 : 2;
        }
    }
    return 0;
}
