/* A loop for debuggers: main() prints where it is, and turns round it for ever. */
#include <stdio.h>

volatile unsigned long count, other;

__attribute__((noinline)) void turn(void)
{
    __asm__ volatile(".globl turn_start, turn_store, turn_end\n"
                     "turn_start: mov count(%%rip), %%rax\n"
                     "lea 1(%%rax), %%rcx\n"
                     "turn_store: mov %%rcx, count(%%rip)\n"
                     "turn_end: nop" : : : "rax", "rcx", "memory");
}

extern char turn_start, turn_store, turn_end;

int main(void)
{
    printf("spin %lx %lx %lx %lx\n", (long)&turn_start, (long)&turn_store, (long)&turn_end, (long)&count);
    fflush(stdout);
    for (;;)
        turn();
}
