# Linear addresses of 57 bits: five levels of tables.
        .set FIVE_LEVELS, 1
        .include "long.inc"
        .set NEXT, 1 << 48

tests64:
        mov $0x80000008, %eax
        cpuid
        shr $8, %eax
        and $0xff, %eax
        call hex64
        mov %cr4, %rax
        call hex64
        call line64
        movq $0x12345678, word
        movabs $NEXT, %rbx
        BEGIN64 "another half of a million"
        mov word(%rbx), %rax
        call hex64
        END64
        BEGIN64 "written there"
        movl $0x55, word(%rbx)
        SHOW64 word
        END64
        BEGIN64 "executed there"
        lea 1f(%rbx), %rax
        jmp *%rax
1:      lea 0(%rip), %rax
        shr $48, %rax
        call hex64
        mov $2f, %eax
        jmp *%rax
2:
        END64
        movabs $2 * NEXT, %rbx
        CASE64 "no entry", mov (%rbx), %al
        CASE64 "no entry, written", mov %al, 8(%rbx)
        movabs $0xff00000000000000, %rbx
        CASE64 "the lowest of the upper half", mov (%rbx), %al
        movabs $0x00ffffffffffffff, %rbx
        CASE64 "the highest of the lower half", mov (%rbx), %al
        CASE64 "beyond it", mov 1(%rbx), %al
        CASE64 "one below the upper half", movabs 0xfeffffffffffffff, %al
        movabs $0x0100000000000000, %rbx
        CASE64 "bit 56", mov (%rbx), %al
        CASE64 "bit 56, written", mov %al, (%rbx)
        movabs $0xffff000000000000, %rbx
        CASE64 "the topmost entry", mov word(%rbx), %al
        # Accessed bits, rights and reserved bits of the fifth level.
        BEGIN64 "accessed"
        SHOW64 "pml5 + 8"
        SHOW64 "pml5 + 16"
        END64
        movabs $NEXT, %rbx
        BEGIN64 "only to read"
        andq $~2, pml5 + 8
        mov %cr3, %rax
        mov %rax, %cr3
        mov %cr0, %rax
        bts $16, %rax
        mov %rax, %cr0
        mov word(%rbx), %al
        mov %al, word(%rbx)
        END64
        mov %cr0, %rax
        btr $16, %rax
        mov %rax, %cr0
        BEGIN64 "page size"
        orq $0x82, pml5 + 8
        mov %cr3, %rax
        mov %rax, %cr3
        mov word(%rbx), %al
        END64
        andq $~0x80, pml5 + 8
        BEGIN64 "not to execute"
        btsq $63, pml5 + 8
        mov %cr3, %rax
        mov %rax, %cr3
        mov word(%rbx), %al
        lea 1f(%rbx), %rax
        jmp *%rax
1:
        END64
        btrq $63, pml5 + 8
        mov %cr3, %rax
        mov %rax, %cr3
        BEGIN64 "invlpg"
        mov word(%rbx), %al
        movq $0, pml5 + 8
        invlpg word(%rbx)
        mov word(%rbx), %al
        END64
        BEGIN64 "cr4"
        mov %cr4, %rax
        btr $12, %rax
        mov %rax, %cr4
        END64
        movabs $NEXT, %rdx
        BEGIN64 "wrmsr of 57 bits"
        mov $0xc0000100, %ecx
        xor %eax, %eax
        shr $32, %rdx
        wrmsr
        rdmsr
        SHOW64 %rdx
        END64
        ret
        .data
        .align 8
word:   .quad 0
        .text
