# Protection keys: every kind of page, with the key that PKRU forbids something for and another, under CR0.WP and SMAP.
        .include "long.inc"
        .include "rights.inc"
        .set KEY, 5

set_page:
        mov %r13d, %eax         # P, RW, US; the key or the next one; NX
        and $7, %eax
        or $page, %eax
        mov $KEY, %ecx
        test $8, %r13d
        jz 1f
        inc %ecx
1:      shl $59, %rcx
        or %rcx, %rax
        test $16, %r13d
        jz 1f
        bts $63, %rax
1:      mov %rax, pt
        invlpg PAGE
        ret
        ACCESSES %rax

tests64:
        mov $7, %eax
        xor %ecx, %ecx
        cpuid
        mov %ecx, %eax
        and $0x18, %eax
        call hex64
        call line64
        CASE64 "rdpkru, off", rdpkru
        CASE64 "wrpkru, off", wrpkru
        mov %cr4, %rax
        bts $22, %rax
        mov %rax, %cr4
        mov $7, %eax
        xor %ecx, %ecx
        cpuid
        mov %ecx, %eax
        and $0x18, %eax
        call hex64
        call line64
        xor %ecx, %ecx
        BEGIN64 "rdpkru"
        mov $-1, %rax
        mov $-1, %rdx
        rdpkru
        call hex64
        SHOW64 %rdx
        END64
        BEGIN64 "rdpkru, rcx"
        mov $1, %ecx
        rdpkru
        END64
        BEGIN64 "wrpkru, rcx"
        xor %edx, %edx
        mov $1, %ecx
        wrpkru
        END64
        BEGIN64 "wrpkru, rdx"
        xor %ecx, %ecx
        mov $1, %edx
        wrpkru
        END64
        BEGIN64 "upper halves"
        movabs $0x100000000, %rcx
        mov %rcx, %rdx
        movabs $0x1234567800000000, %rax
        wrpkru
        rdpkru
        call hex64
        END64
        movl $1, brief
        # PKRU's two bits for the key, CR0.WP, CR4.SMAP, AC.
        xor %r12d, %r12d
1:      mov %cr0, %rax
        btr $16, %rax
        test $4, %r12d
        jz 2f
        bts $16, %rax
2:      mov %rax, %cr0
        mov %cr4, %rax
        btr $21, %rax
        test $8, %r12d
        jz 2f
        bts $21, %rax
2:      mov %rax, %cr4
        mov %r12d, %eax
        and $3, %eax
        shl $(2 * KEY), %eax
        xor %ecx, %ecx
        xor %edx, %edx
        wrpkru
        mov %r12, %rax
        call hex64
        call line64
        EVERY_PAGE 16
        inc %r12d
        cmp $32, %r12d
        jne 1b
        movl $0, brief
        mov %cr4, %rax
        btr $21, %rax
        mov %rax, %cr4
        # A change without INVLPG counts at once.
        movq $page + 7, pt
        btsq $59, pt
        invlpg PAGE
        xor %ecx, %ecx
        xor %edx, %edx
        xor %eax, %eax
        wrpkru
        mov PAGE, %al
        mov $4, %eax
        wrpkru
        CASE64 "forbidden now", mov PAGE, %al
        xor %eax, %eax
        xor %ecx, %ecx
        xor %edx, %edx
        wrpkru
        CASE64 "allowed again", mov PAGE, %al
        # XSAVE's component 9.
        mov %cr4, %rax
        bts $18, %rax
        mov %rax, %cr4
        xor %ecx, %ecx
        mov $0x207, %eax
        xor %edx, %edx
        CASE64 "xsetbv", xsetbv
        BEGIN64 "sizes"
        mov $0xd, %eax
        xor %ecx, %ecx
        cpuid
        mov %ebx, %eax
        call hex64
        mov $0xd, %eax
        mov $9, %ecx
        cpuid
        call hex64
        SHOW64 %rbx
        END64
        BEGIN64 "xsave"
        mov $0x12345678, %eax
        xor %ecx, %ecx
        xor %edx, %edx
        wrpkru
        mov $0x200, %eax
        xsave area
        SHOW64 area + 0xa80
        SHOW64 area + 512
        movl $0xabcd0, area + 0xa80
        mov $0x200, %eax
        xor %edx, %edx
        xrstor area
        rdpkru
        call hex64
        movq $0, area + 512
        mov $0x200, %eax
        xor %edx, %edx
        xrstor area
        rdpkru
        call hex64
        END64
        ret
        .bss
        .align 64
area:   .skip 4096
        .text
