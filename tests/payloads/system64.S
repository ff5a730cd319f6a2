# Long mode again: addresses that are not canonical in every kind of access, reserved bits of control and model-specific
# registers, system calls and returns of both widths, breakpoints, task state segment and local table.
        .include "long.inc"
        .set BAD, 0x800000000000
        .set AREA, 0x300000
        # Selectors that this payload fills.
        .set LDT64, FREE
        .set CODE_TEST, FREE + 0x10
        .set USER32, FREE + 0x18

        .macro WRMSR64 n, low, high=0
        mov $\n, %ecx
        mov $\low, %eax
        mov $\high, %edx
        wrmsr
        .endm

# A case of several instructions.
        .macro RSP name, value, code:vararg
        BEGIN64 "\name"
        movabs $\value, %rsp
        \code
        END64
        mov resume64_sp, %rsp
        .endm

tests64:
        call accesses
        call transfers
        call registers
        call system_calls
        call debugging
        call tables
        call stacks
        call lengths
        ret

accesses:
        movabs $BAD, %rbx
        CASE64 "read", mov (%rbx), %al
        CASE64 "write", mov %al, (%rbx)
        CASE64 "read across", mov -4(%rbx), %rax
        CASE64 "write across", mov %rax, -4(%rbx)
        CASE64 "modify", incl (%rbx)
        CASE64 "vector", movups (%rbx), %xmm0
        CASE64 "aligned vector", movaps 1(%rbx), %xmm0
        CASE64 "x87", fldt (%rbx)
        CASE64 "invlpg", invlpg (%rbx)
        CASE64 "clflush", clflush (%rbx)
        CASE64 "prefetch", prefetcht0 (%rbx)
        CASE64 "lea", lea (%rbx), %rax
        mov %rbx, %rbp
        CASE64 "by rbp", mov (%rbp), %al
        CASE64 "write by rbp", mov %al, (%rbp)
        mov $1, %ecx
        CASE64 "rbp as index", mov (%rcx, %rbp), %al
        CASE64 "by rbp, prefetch", prefetcht0 (%rbp)
        mov %rbx, %rsi
        mov $AREA, %edi
        CASE64 "lods", lodsb
        CASE64 "movs", movsb
        mov %rbx, %rdi
        CASE64 "stos", stosb
        mov $AREA, %esi
        CASE64 "movs to", movsb
        BEGIN64 "bit"
        movabs $0xfffc000000000000, %rcx
        bt %rcx, AREA
        END64
        CASE64 "lgdt of", lgdt (%rbx)
        CASE64 "fxsave", fxsave (%rbx)
        CASE64 "cmpxchg16b", cmpxchg16b 8(%rbx)
        CASE64 "sgdt to", sgdt (%rbx)
        CASE64 "lss of", lss (%rbx), %eax
        CASE64 "enter", enter $8, $0
        mov resume64_sp, %rsp
        # The top of the other half.
        mov $-4, %rbx
        CASE64 "around the end", mov (%rbx), %rax
        # Segment bases count before the check.
        mov $0xc0000100, %ecx
        movabs $0x7fffffffffff, %rax
        mov %rax, %rdx
        shr $32, %rdx
        wrmsr
        CASE64 "fs", mov %fs:1, %al
        CASE64 "fs across", mov %fs:0, %ax
        mov $0xc0000100, %ecx
        xor %eax, %eax
        xor %edx, %edx
        wrmsr
        # Handlers have a stack of their own here.
        movq $ist_stack, tss_main + 0x34
        .irp n, 12, 13, 14
        movb $3, idt64 + \n * 16 + 4
        .endr
        RSP "push", (BAD+8), push %rax
        RSP "push below", BAD, push %rax
        RSP "pop", BAD, pop %rax
        RSP "pop across", (BAD-4), pop %rax
        RSP "call", (BAD+8), call .
        RSP "ret", BAD, ret
        RSP "leave", 0x1000, leave
        RSP "pushfq", (BAD+8), pushfq
        RSP "popfq", BAD, popfq
        RSP "iretq", BAD, iretq
        RSP "lretq", BAD, lretq
        RSP "enter", (BAD+8), enter $0, $0
        RSP "push of memory", (BAD+8), pushq AREA
        RSP "by rsp", BAD, mov (%rsp), %al
        RSP "int 0x81", (BAD+0x80), int $0x81
        .irp n, 12, 13, 14
        movb $0, idt64 + \n * 16 + 4
        .endr
        ret

transfers:
        movabs $BAD, %rbx
        mov %rbx, AREA
        CASE64 "jump", jmp *%rbx
        CASE64 "jump by memory", jmp *AREA
        CASE64 "call by register", call *%rbx
        mov resume64_sp, %rsp
        BEGIN64 "ret to"
        push %rbx
        ret
        END64
        BEGIN64 "lretq to"
        pushq $CODE64
        push %rbx
        lretq
        END64
        mov resume64_sp, %rsp
        BEGIN64 "lretq into a branch"
        pushq $CODE64
        push %rbx
        lretq
        END64
        .irp cs, 0, CODE64 + 3, USER_CODE64, DATA32, 0x1230, TSS_64
        .irp what, lretq, iretq
        BEGIN64 "\what to \cs"
        push $USER_DATA64
        push $stack_user
        .ifc \what, iretq
        push $2
        .endif
        push $\cs
        push $stub_ok
        \what
        END64
        mov resume64_sp, %rsp
        .endr
        .endr
        .irp ss, 0, 3, 1, DATA32, USER_DATA64, CODE32, 0x1230
        BEGIN64 "iretq at CPL 0, stack \ss"
        push $\ss
        push $stack_top - 512
        push $2
        push $CODE64
        push $show_ss
        iretq
        END64
        mov resume64_sp, %rsp
        BEGIN64 "iretq to CPL 3, stack \ss"
        push $\ss
        push $stack_user
        push $2
        push $USER_CODE64
        push $0x60000000 + stub_int
        iretq
        END64
        mov resume64_sp, %rsp
        .endr
        BEGIN64 "iretq, stack pointer"
        push $DATA32
        push %rbx
        push $2
        push $CODE64
        push $show_rsp
        iretq
        END64
        mov resume64_sp, %rsp
        BEGIN64 "iretq with NT"
        push $DATA32
        push $stack_top - 512
        push $2
        push $CODE64
        push $show_rsp
        pushfq
        orl $0x4000, (%rsp)
        popfq
        iretq
        END64
        mov resume64_sp, %rsp
        BEGIN64 "iretq to VM"
        push $DATA32
        push $stack_top - 512
        push $0x20002
        push $CODE64
        push $show_flags
        iretq
        END64
        mov resume64_sp, %rsp
        # A code segment with both L and D.
        movl $0x0000ffff, gdt + CODE_TEST
        movl $0x00ef9b00, gdt + CODE_TEST + 4
        BEGIN64 "lretq to L and D"
        push $CODE_TEST
        push $stub_ok
        lretq
        END64
        mov resume64_sp, %rsp
        # Compatibility mode with a short limit.
        movl $0x0000000f, gdt + CODE_TEST
        movl $0x00409b00, gdt + CODE_TEST + 4
        BEGIN64 "lretq beyond the limit"
        push $CODE_TEST
        push $stub_ok
        lretq
        END64
        mov resume64_sp, %rsp
        CASE64 "lcall to a data segment", lcall *data_pointer
        CASE64 "ljmp to a null segment", ljmp *null_pointer
        ret
stub_ok:
        SAY64 "arrived "
        int $0x80
stub_int:
        int $0x80
show_ss:
        mov %ss, %eax
        call hex64
        int $0x80
show_rsp:
        mov %rsp, %rax
        mov resume64_sp, %rsp
        call hex64
        int $0x80
show_flags:
        int $0x80

registers:
        mov %cr3, %rbx
        .irp bit, 3, 4, 11
        BEGIN64 "cr3 bit \bit"
        mov %rbx, %rax
        bts $\bit, %rax
        mov %rax, %cr3
        mov %cr3, %rax
        sub %rbx, %rax
        mov %rbx, %cr3
        call hex64
        END64
        mov %rbx, %cr3
        .endr
        mov %cr0, %rbx
        .irp bit, 6, 15, 17, 19, 28, 32, 63
        BEGIN64 "cr0 bit \bit"
        mov %rbx, %rax
        bts $\bit, %rax
        mov %rax, %cr0
        mov %cr0, %rax
        mov %rbx, %cr0
        sub %rbx, %rax
        call hex64
        END64
        .endr
        mov %cr4, %rbx
        BEGIN64 "cr8 beyond 15"
        mov $16, %eax
        mov %rax, %cr8
        END64
        CASE64 "mov cr9", .byte 0x44, 0x0f, 0x20, 0xc8
        mov $0xc0000080, %ecx
        rdmsr
        mov %eax, %r12d
        .irp bit, 1, 7, 9, 10, 15, 16, 31
        BEGIN64 "efer bit \bit"
        mov $0xc0000080, %ecx
        mov %r12d, %eax
        xor %edx, %edx
        btc $\bit, %eax
        wrmsr
        rdmsr
        call hex64
        END64
        mov $0xc0000080, %ecx
        mov %r12d, %eax
        xor %edx, %edx
        wrmsr
        .endr
        BEGIN64 "efer bit 32"
        mov $0xc0000080, %ecx
        mov %r12d, %eax
        mov $1, %edx
        wrmsr
        END64
        BEGIN64 "efer without LME"
        mov $0xc0000080, %ecx
        mov %r12d, %eax
        xor %edx, %edx
        btr $8, %eax
        wrmsr
        END64
        .irp n, 0x175, 0x176, 0xc0000082, 0xc0000083, 0xc0000100, 0xc0000101, 0xc0000102
        BEGIN64 "address in \n"
        WRMSR64 \n, 0, 0x8000
        rdmsr
        call hex64
        END64
        WRMSR64 \n, 0, 0
        .endr
        .irp value, 2, 3, 8, 0x10, 0xff, 7, 4
        BEGIN64 "pat \value"
        WRMSR64 0x277, (0x00070400 | \value), 0x00070406
        rdmsr
        call hex64
        END64
        .endr
        WRMSR64 0x277, 0x00070406, 0x00070406
        BEGIN64 "tsc aux"
        WRMSR64 0xc0000103, 0x12345678, 1
        rdmsr
        call hex64
        END64
        CASE64 "rdfsbase, disabled", rdfsbase %rax
        mov %cr4, %rax
        bts $16, %rax
        mov %rax, %cr4
        BEGIN64 "wrfsbase, not canonical"
        movabs $BAD, %rax
        wrfsbase %rax
        END64
        BEGIN64 "wrgsbase, 32 bits"
        movabs $0xffff8000fffffffe, %rax
        wrgsbase %eax
        rdgsbase %rax
        call hex64
        END64
        mov %cr4, %rax
        btr $16, %rax
        mov %rax, %cr4
        ret

system_calls:
        # STAR: system code at CODE64; user code of 32 bits, data and code of 64 bits from USER32 on.
        movl $0x0000ffff, gdt + USER32
        movl $0x00cffb00, gdt + USER32 + 4
        movl $0x0000ffff, gdt + USER32 + 8
        movl $0x00cff300, gdt + USER32 + 12
        movl $0x0000ffff, gdt + USER32 + 16
        movl $0x00affb00, gdt + USER32 + 20
        WRMSR64 0xc0000080, 0xd01
        WRMSR64 0xc0000081, 0, (CODE64 | (USER32 + 3) << 16)
        WRMSR64 0xc0000082, on_syscall
        WRMSR64 0xc0000083, on_syscall_compat
        WRMSR64 0xc0000084, 0x44700
        BEGIN64 "syscall at CPL 0"
        std
        syscall
        END64
        USER64 "syscall"
        std
        syscall
        END_USER64
        BEGIN64 "sysretq"
        mov $stub_int + 0x60000000, %ecx
        mov $-1, %r11
        sysretq
        END64
        BEGIN64 "sysretl"
        mov $compat_int + 0x60000000, %ecx
        mov $0x3202, %r11d
        btr $9, %r11
        sysretl
        END64
        BEGIN64 "sysretq, not canonical"
        movabs $BAD, %rcx
        mov $2, %r11
        sysretq
        END64
        USER_CASE64 "sysretq at CPL 3", sysretq
        WRMSR64 0xc0000082, 0
        # From compatibility mode.
        BEGIN64 "syscall, compatibility"
        mov $compat_syscall + 0x60000000, %ecx
        mov $0x3002, %r11d
        sysretl
        END64
        # SYSENTER and SYSEXIT.
        WRMSR64 0x174, 0
        CASE64 "sysenter without a segment", sysenter
        WRMSR64 0x174, CODE64
        WRMSR64 0x175, (stack_top - 1024)
        WRMSR64 0x176, on_sysenter
        CASE64 "sysenter", sysenter
        BEGIN64 "sysexitq"
        mov $stub_int + 0x60000000, %edx
        mov $stack_user + 0x60000000, %ecx
        sysexitq
        END64
        BEGIN64 "sysexitq, not canonical"
        movabs $BAD, %rdx
        sysexitq
        END64
        BEGIN64 "sysexitl"
        mov $stub_int + 0x60000000, %edx
        mov $stack_user + 0x60000000, %ecx
        sysexitl
        END64
        # Segment selectors of SYSCALL take no look at the tables.
        WRMSR64 0xc0000081, 0, 0x0ffb0ff8
        WRMSR64 0xc0000082, on_syscall
        BEGIN64 "syscall, segments beyond the table"
        syscall
        END64
        WRMSR64 0xc0000080, 0xd00
        ret
on_syscall:
        mov %r11, %r15
        mov %rcx, %r13
        pushfq
        pop %rax
        cld
        mov resume64_sp, %rsp
        call hex64
        SHOW64 %r15
        mov %r13, %rax
        sub base64, %rax
        call hex64
        mov %cs, %eax
        call hex64
        mov %ss, %eax
        call hex64
        mov $DATA32, %eax
        mov %eax, %ss
        pushq $CODE64
        push resume64
        lretq
on_syscall_compat:
        SAY64 "compatibility "
        jmp on_syscall
        .code32
compat_int:
        mov $0x12345678, %eax
        inc %eax
        int $0x80
compat_syscall:
        syscall
        .code64
on_sysenter:
        pushfq
        pop %rax
        call hex64
        mov %cs, %eax
        call hex64
        mov %ss, %eax
        call hex64
        mov resume64_sp, %rsp
        jmp *resume64

debugging:
        BEGIN64 "dr6 beyond 32 bits"
        movabs $0x100000000, %rax
        mov %rax, %dr6
        END64
        BEGIN64 "dr7 beyond 32 bits"
        movabs $0x100000000, %rax
        mov %rax, %dr7
        END64
        BEGIN64 "dr0 takes all"
        mov $-1, %rax
        mov %rax, %dr0
        mov %dr0, %rax
        call hex64
        END64
        BEGIN64 "dr0 not canonical"
        movabs $BAD, %rax
        mov %rax, %dr0
        END64
        CASE64 "dr8", .byte 0x44, 0x0f, 0x21, 0xc0
        .irp at, -8, -4, -1, 0, 4, 7, 8
        BEGIN64 "eight bytes, access at \at"
        xor %eax, %eax
        mov %rax, %dr6
        mov $AREA + 64, %eax
        mov %rax, %dr0
        mov $0xb0402, %eax
        mov %rax, %dr7
        mov AREA + 64 + \at, %rax
        nop
        mov $0x400, %eax
        mov %rax, %dr7
        END64
        mov $0x400, %eax
        mov %rax, %dr7
        .endr
        BEGIN64 "breakpoint"
        xor %eax, %eax
        mov %rax, %dr6
        lea 1f(%rip), %rax
        mov %rax, %dr3
        mov $0x480, %eax
        mov %rax, %dr7
1:      nop
        END64
        mov $0x400, %eax
        mov %rax, %dr7
        BEGIN64 "step over syscall"
        xor %eax, %eax
        mov %rax, %dr6
        WRMSR64 0xc0000080, 0xd01
        WRMSR64 0xc0000081, 0, (CODE64 | (USER32 + 3) << 16)
        WRMSR64 0xc0000082, 1f
        WRMSR64 0xc0000084, 0x100
        pushq $0x102
        popfq
        syscall
        nop
1:      SAY64 "masked "
        END64
        ret

tables:
        # The task state segment and the local table have descriptors of 16 bytes.
        .macro SYSTEM access, base_high=0, upper=0, limit=0x67
        mov $tss_main, %eax
        mov $LDT64, %ecx
        mov $(\access << 8), %edx
        call set_tss64
        movw $\limit, gdt + LDT64
        movl $\base_high, gdt + LDT64 + 8
        movl $\upper, gdt + LDT64 + 12
        .endm
        .irp access, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x89, 0x8b, 0x8c, 0x8e, 0x09, 0x02
        SYSTEM \access
        mov $LDT64, %ebx
        CASE64 "lldt \access", lldt %bx
        CASE64 "ltr \access", ltr %bx
        BEGIN64 "lar \access"
        lar %ebx, %eax
        pushfq
        call hex64
        pop %rax
        and $0x40, %eax
        call hex64
        END64
        BEGIN64 "lsl \access"
        lsl %ebx, %eax
        pushfq
        call hex64
        pop %rax
        and $0x40, %eax
        call hex64
        END64
        .endr
        SYSTEM 0x82, 0x8000
        CASE64 "lldt, base not canonical", lldt %bx
        SYSTEM 0x89, 0x8000
        CASE64 "ltr, base not canonical", ltr %bx
        SYSTEM 0x82, 0, 0x100
        CASE64 "lldt, type in the upper half", lldt %bx
        CASE64 "lar, type in the upper half", lar %ebx, %eax
        SYSTEM 0x82, 0xffffffff
        CASE64 "lldt, upper half", lldt %bx
        xor %eax, %eax
        CASE64 "lldt of null", lldt %ax
        CASE64 "ltr of null", ltr %ax
        mov $TSS_64, %eax
        andb $~2, gdt + TSS_64 + 5
        ltr %ax
        .irp n, 0, 3, 4
        mov $\n, %eax
        CASE64 "mov \n to ss", mov %eax, %ss
        CASE64 "mov \n to ds", mov %eax, %ds
        .endr
        USER64 "mov 0 to ss at CPL 3"
        xor %eax, %eax
        mov %eax, %ss
        END_USER64
        USER64 "mov 3 to ss at CPL 3"
        mov $3, %eax
        mov %eax, %ss
        END_USER64
        # Ports at CPL 3 by the map of the 64-bit task state segment.
        movl $-1, tss_main + 0x68 + 0x10
        movb $4, tss_main + 0x68 + 0x10
        .irp port, 0x80, 0x82
        SAY64 "in \port: "
        TRY64 8f
        lea port_\port(%rip), %rax
        push $USER_DATA64
        push $stack_user + 0x60000000
        push $2
        push $USER_CODE64
        add $0x60000000, %eax
        push %rax
        mov %rax, base64
        iretq
8:      call end64
        .endr
        ret
port_0x80:
        in $0x80, %al
        int $0x80
port_0x82:
        in $0x82, %al
        int $0x80
set_tss64:
        push %rax
        mov %eax, %esi
        shl $16, %eax
        mov %eax, gdt(%rcx)
        mov %esi, %eax
        shr $16, %eax
        and $0xff, %eax
        or %edx, %eax
        mov %eax, gdt + 4(%rcx)
        pop %rax
        ret

stacks:
        # Stacks of handlers: interrupt stacks that are bad.
        movw $0xee00, idt64 + 0x62 * 16 + 4
        movb $2, idt64 + 8 * 16 + 4     # double faults have a good one
        movq $ist_stack, tss_main + 0x2c
        movb $1, idt64 + 0x62 * 16 + 4
        movabs $BAD, %rax
        mov %rax, tss_main + 0x24
        CASE64 "ist not canonical", int $0x62
        movq $0x70000000, tss_main + 0x24
        CASE64 "ist not present", int $0x62
        movb $1, idt64 + 6 * 16 + 4
        CASE64 "fault, ist not present", ud2
        movabs $BAD, %rax
        mov %rax, tss_main + 0x24
        CASE64 "fault, ist not canonical", ud2
        movb $1, idt64 + 13 * 16 + 4
        BEGIN64 "double fault"
        mov $0x1230, %eax
        mov %eax, %ds
        END64
        movb $0, idt64 + 13 * 16 + 4
        movb $1, idt64 + 14 * 16 + 4
        movq $0x70000000, tss_main + 0x24
        CASE64 "page faults in a row", mov 0x70000000, %al
        movb $0, idt64 + 14 * 16 + 4
        movb $0, idt64 + 6 * 16 + 4
        movb $0, idt64 + 0x62 * 16 + 4
        # The target of a gate.
        movl $0x8000, idt64 + 0x62 * 16 + 8
        CASE64 "gate, target not canonical", int $0x62
        movl $0, idt64 + 0x62 * 16 + 8
        # The stack is aligned to 16 bytes.
        lea on_aligned(%rip), %rax
        mov %ax, idt64 + 0x62 * 16
        shr $16, %eax
        mov %ax, idt64 + 0x62 * 16 + 6
        .irp by, 0, 1, 8, 15
        BEGIN64 "stack off by \by"
        and $~15, %rsp
        sub $\by, %rsp
        mov %rsp, %rbx
        int $0x62
        END64
        mov resume64_sp, %rsp
        .endr
        movb $0, idt64 + 8 * 16 + 4
        movq $ist_stack, tss_main + 0x24
        ret
on_aligned:
        mov %rbx, %rax
        sub %rsp, %rax
        call hex64
        mov 24(%rsp), %rax
        sub %rbx, %rax
        call hex64
        mov resume64_sp, %rsp
        jmp *resume64

lengths:
        .macro CODE name, bytes:vararg
        BEGIN64 "\name"
        .byte \bytes
        END64
        .endm
        CODE "fourteen prefixes", 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90
        CODE "fifteen prefixes", 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90
        CODE "rex behind prefixes", 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x48, 0x90
        CODE "rex and one more", 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x48, 0x90
        CODE "movabs too long", 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0
        CODE "movabs", 0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0
        CODE "undefined", 0x06
        CODE "lock nop", 0xf0, 0x90
        # Across pages: a page that is not there counts for the first 15 bytes only.
        movq $page + 7, pt
        movq $0, pt + 8
        invlpg PAGE
        invlpg PAGE + 4096
        .macro AT name, first, bytes:vararg
        .section .rodata
6:      .byte \bytes
5:
        .text
        BEGIN64 "\name"
        lea 6b(%rip), %rsi
        mov $PAGE + \first, %edi
        mov %rdi, base64
        mov $5b - 6b, %ecx
        mov $PAGE + \first, %eax
        rep movsb
        jmp *%rax
        END64
        .endm
        AT "fifteen prefixes at the end", 4096 - 15, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66
        AT "fourteen prefixes at the end", 4096 - 14, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66
        AT "whole at the end", 4096 - 2, 0xcd, 0x80
        AT "immediate beyond", 4096 - 2, 0x48, 0xb8
        AT "opcode beyond", 4096 - 1, 0x0f
        AT "off the end", 4096 - 1, 0x90
        AT "branch at the end", 4096 - 2, 0x75, 0x00
        ret

        .data
        .align 8
bad_table:
        .word 0x1000
        .quad BAD
data_pointer:
        .long stub_ok
        .word DATA32
null_pointer:
        .long stub_ok
        .word 0
        .text
