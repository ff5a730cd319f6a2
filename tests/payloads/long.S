# Long mode: paging rights, addresses that are not canonical, system calls, gates, compatibility mode, control registers
# and model-specific registers.
        .include "long.inc"
        .include "rights.inc"

tests64:
        call rights
        call canonical
        call gates
        call calls
        call compat
        call controls
        call modifies
        ret

# Every kind of page: read, written and executed at CPL 0 and 3 under each of CR0.WP, SMEP, SMAP.
rights: SAY64 "rights\n"
        movl $1, brief
        xor %r12d, %r12d        # CR4.SMEP, CR4.SMAP, CR0.WP, AC
1:      mov %cr4, %rax
        and $~0x300000, %eax
        mov %r12d, %ecx
        and $3, %ecx
        shl $20, %ecx
        or %ecx, %eax
        TRY64 7f
        mov %rax, %cr4
        mov %cr0, %rax
        and $~0x10000, %eax
        mov %r12d, %ecx
        and $4, %ecx
        shl $14, %ecx
        or %ecx, %eax
        mov %rax, %cr0
        mov %r12, %rax
        call hex64
        call line64
        EVERY_PAGE 8            # P, RW, US, NX, reserved
7:      inc %r12d
        cmp $16, %r12d
        jne 1b
        movl $0, brief
        mov %cr4, %rax
        and $~0x300000, %eax
        mov %rax, %cr4
        mov %cr0, %rax
        and $~0x10000, %eax
        mov %rax, %cr0
        ret

set_page:
        mov %r13d, %eax
        and $7, %eax
        or $page, %eax
        test $8, %r13d
        jz 1f
        bts $63, %rax
1:      test $16, %r13d
        jz 1f
        bts $51, %rax
1:      mov %rax, pt
        invlpg PAGE
        ret
        ACCESSES %rax

canonical:
        SAY64 "canonical\n"
        movabs $0x800000000000, %rbx
        ATTEMPT mov (%rbx), %al
        ATTEMPT mov %al, (%rbx)
        ATTEMPT mov -1(%rbx), %al
        ATTEMPT invlpg (%rbx)
        ret

gates:  SAY64 "gates\n"
        ATTEMPT int3
        ATTEMPT int $0x80
        ATTEMPT int $0x81
        ATTEMPT ud2
        ATTEMPT .byte 0xce      # INTO
        ATTEMPT .byte 0x06      # PUSH ES
        ATTEMPT .byte 0x63, 0xc0
        ATTEMPT .byte 0x9a, 0, 0, 0, 0, 0, 0
        ATTEMPT .byte 0xd4, 10
        xor %ecx, %ecx
        ATTEMPT div %ecx
        .irp what, uint3, uint80, uint81, uhlt, ucr, umsr, uclts, uinvlpg, usgdt, urdtsc, uin, ulgdt, ultr, uswapgs
        TRY64 1f
        lea \what(%rip), %rax
        call user64
1:      call line64
        .endr
        # An interrupt stack.
        movb $1, idt64 + 0x60 * 16 + 4
        lea on_ist(%rip), %rax
        mov %ax, idt64 + 0x60 * 16
        shr $16, %eax
        mov %ax, idt64 + 0x60 * 16 + 6
        int $0x60
        movb $0, idt64 + 0x60 * 16 + 4
        # Kinds of gates.
        mov $0x80, %ebx
1:      mov %bl, idt64 + 0x61 * 16 + 5
        mov %rbx, %rax
        call hex64
        TRY64 2f
        int $0x61
2:      inc %bl
        jnz 1b
        call line64
        movb $0x8e, idt64 + 0x61 * 16 + 5
        # Code segments of other kinds.
        .irp selector, CODE32, USER_CODE64, DATA32, 0, 0x800, CODE64 + 3
        movw $\selector, idt64 + 0x61 * 16 + 2
        ATTEMPT int $0x61
        .endr
        movw $CODE64, idt64 + 0x61 * 16 + 2
        ret
on_ist: mov %rsp, %rax
        sub $ist_stack, %rax
        call hex64
        mov 8(%rsp), %rax
        call hex64
        call line64
        iretq
uint3:  int3
uint80: int $0x80
uint81: int $0x81
uint1:  .byte 0xf1
uhlt:   hlt
ucr:    mov %cr0, %rax
umsr:   rdmsr
uclts:  clts
uinvlpg: invlpg (%rax)
usgdt:  sub $16, %rsp
        sgdt (%rsp)
        int $0x80
urdtsc: rdtsc
        int $0x80
uin:    in $0x80, %al
        int $0x80
ulgdt:  lgdt (%rsp)
ultr:   ltr %ax
uswapgs: swapgs

calls:  SAY64 "calls\n"
        mov $0xc0000080, %ecx
        rdmsr
        mov %eax, %r12d
        and $~1, %eax
        wrmsr
        ATTEMPT syscall
        ATTEMPT sysretq
        mov %r12d, %eax
        mov $0xc0000080, %ecx
        wrmsr
        mov $0xc0000081, %ecx
        xor %eax, %eax
        mov $(CODE64 | 0x830000), %edx
        wrmsr
        mov $0xc0000082, %ecx
        lea on_syscall(%rip), %rax
        xor %edx, %edx
        wrmsr
        mov $0xc0000084, %ecx
        mov $0x40400, %eax
        wrmsr
        TRY64 1f
        lea usyscall(%rip), %rax
        call user64
1:      call line64
        ATTEMPT sysenter
        ATTEMPT sysexitl
        # A call gate.
        lea on_gate(%rip), %rax
        mov %ax, gdt + 0x68
        movw $CODE64, gdt + 0x68 + 2
        movw $0xec00, gdt + 0x68 + 4
        shr $16, %eax
        mov %ax, gdt + 0x68 + 6
        movq $0, gdt + 0x70
        TRY64 1f
        lea ugate(%rip), %rax
        call user64
1:      call line64
        ATTEMPT lcall *gate_pointer
        movl $0x500, gdt + 0x74
        ATTEMPT lcall *gate_pointer
        movl $0, gdt + 0x74
        ret
usyscall:
        mov $0x1234, %eax
        std
        syscall
        pushf
        pop %rax
        call hex64
        mov %cs, %eax
        call hex64
        mov %ss, %eax
        call hex64
        cld
        int $0x80
on_syscall:
        # Still on the user's stack.
        mov %r11, %r15
        pushf
        pop %rax
        call hex64
        mov %r15, %rax
        call hex64
        mov %cs, %eax
        call hex64
        mov %ss, %eax
        call hex64
        mov %r15, %r11
        sysretq
ugate:  lcall *gate_pointer
        mov %cs, %eax
        call hex64
        int $0x80
on_gate:
        mov %cs, %eax
        call hex64
        mov %ss, %eax
        call hex64
        mov 8(%rsp), %rax
        call hex64
        mov 24(%rsp), %rax
        call hex64
        lretq

compat: SAY64 "compatibility mode\n"
        mov %rsp, saved64
        ljmp *compat_pointer
        .code32
in_compat:
        mov $DATA32, %eax
        mov %eax, %ds
        mov %eax, %es
        mov %eax, %ss
        mov $stack_top - 256, %esp
        mov $0x12345678, %eax
        push %eax
        pop %ebx
        inc %ebx
        .byte 0x48              # DEC EAX here
        call hex
        mov %ebx, %eax
        call hex
        mov $0x1234, %ax
        .byte 0x67, 0x8d, 0x47, 5 # lea 5(%bx), %eax
        call hex
        pushf
        pop %eax
        call hex
        str %ax
        call hex
        ljmp $CODE64, $1f
        .code64
1:      mov saved64, %rsp
        call line64
        ret
        .code32
compat_fault:
        .code64

controls:
        SAY64 "control registers\n"
        # Each bit of CR4 in turn.
        mov %cr4, %rbx
        xor %r12d, %r12d
1:      mov %r12, %rax
        call hex64
        mov %rbx, %rax
        cmp $17, %r12d          # PCIDE: not in every emulator
        je 2f
        cmp $0, %r12d           # VME and PVI neither
        je 2f
        cmp $1, %r12d
        je 2f
        cmp $5, %r12d           # PAE: one emulator forgets to look
        je 2f
        btc %r12, %rax
        mov %rax, %rcx
        TRY64 2f
        mov %rcx, %cr4
        mov %cr4, %rax
        call hex64
2:      mov %rbx, %cr4
        inc %r12d
        cmp $13, %r12d
        jne 1b
        call line64
        mov %cr0, %rbx
        .irp v, 0x80000011, 0xe0000011, 0xc0000011, 0x8005003f
        mov $\v, %ecx
        TRY64 1f
        mov %rcx, %cr0
        mov %cr0, %rax
        mov %rbx, %cr0
        call hex64
1:      mov %rbx, %cr0
        .endr
        call line64
        ATTEMPT mov %cr1, %rax
        ATTEMPT mov %cr5, %rax
        mov $5, %eax
        mov %rax, %cr8
        mov %cr8, %rax
        call hex64
        xor %eax, %eax
        mov %rax, %cr8
        smsw %rax
        call hex64
        mov $-1, %rax
        smsw %eax
        call hex64
        mov $0xe, %eax
        lmsw %ax
        smsw %rax
        call hex64
        clts
        mov %cr0, %rax
        and $~0xe, %rax
        mov %rax, %cr0
        call hex64
        call line64
        # What firmware may have left.
        .irp n, 0x200, 0x201, 0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f, 0x2ff
        mov $\n, %ecx
        xor %eax, %eax
        xor %edx, %edx
        wrmsr
        .endr
        # Which registers exist.
        movl $1, brief
        SAY64 "msrs\n"
        .irp first, 0, 0x170, 0x200, 0x250, 0x260, 0x270, 0x2f0, 0x400, 0xc0000080, 0xc0000100
        mov $\first, %r12d
1:      mov %r12, %rax
        call hex64
        TRY64 2f
        mov %r12d, %ecx
        cmp $0x10, %ecx
        je 2f
        rdmsr
        shl $32, %rdx
        or %rdx, %rax
        call hex64
2:      inc %r12d
        mov %r12d, %eax
        and $15, %eax
        jnz 1b
        call line64
        .endr
        .irp n, 0x277, 0xc0000080, 0x1a0, 0x2ff, 0x200, 0xfe, 0x179
        mov $\n, %ecx
        TRY64 1f
        rdmsr
        mov %eax, %r8d
        mov %edx, %r9d
        xor $2, %edx
        wrmsr
        rdmsr
        shl $32, %rdx
        or %rdx, %rax
        call hex64
1:      TRY64 1f
        mov $\n, %ecx
        mov %r8d, %eax
        mov %r9d, %edx
        wrmsr
1:      call line64
        .endr
        movl $0, brief
        ret

# Code that changes itself.
modifies:
        SAY64 "self-modifying code\n"
        mov $64, %r12d
        xor %eax, %eax
1:      incb 2f + 1(%rip)
2:      mov $0, %cl
        movzx %cl, %ecx
        add %ecx, %eax
        dec %r12d
        jnz 1b
        call hex64
        # Through an alias.
        xor %eax, %eax
        mov $64, %r12d
1:      lea 2f + 1(%rip), %rdi
        mov $0x60000000, %esi
        incb (%rdi, %rsi)
        .byte 0x90
        jmp 3f
3:
2:      mov $0, %cl
        movzx %cl, %ecx
        add %ecx, %eax
        dec %r12d
        jnz 1b
        call hex64
        jmp line64

        .data
gate_pointer:
        .long 0
        .word 0x6b
compat_pointer:
        .long in_compat
        .word CODE32
        .text
