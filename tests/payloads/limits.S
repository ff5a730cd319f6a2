# Segment limits, gates with parameters, returns to outer levels, system calls, alignment, ports, chains of faults.
        .include "common.inc"
        .set AREA, 0x300000
        .set DATA32_1, DATA32 + 1
        .set FREE_3, FREE + 3
        .set FREE_LOCAL, FREE + 5
        .set USER_DATA32_2, USER_DATA32 - 1

        .macro DESCRIPTOR selector, base, limit, access, flags
        movl $((((\base) & 0xffff) << 16) | ((\limit) & 0xffff)), gdt + (\selector & ~7)
        movl $((((\base) >> 16) & 0xff) | ((\access) << 8) | ((\limit) & 0xf0000) | ((\flags) << 20) | ((\base) & 0xff000000)), gdt + (\selector & ~7) + 4
        .endm

# One access: a point when it is made, else the exception's vector.
        .macro ACCESS code:vararg
        TRY 5f
        \code
        mov $'.', %al
        call putc
5:      mov resume_sp, %esp
        .endm
short_handler:
        push %eax
        mov $DATA32, %eax
        mov %eax, %ds
        mov 4(%esp), %eax
        add $'a' - 10, %al
        call putc
        mov resume_sp, %esp
        jmp *resume

# Accesses of every size at offset ebx of FS.
accesses:
        SHOW %ebx
        mov $TEST, %eax
        mov %eax, %fs
        ACCESS mov %fs:(%ebx), %al
        ACCESS mov %fs:(%ebx), %ax
        ACCESS mov %fs:(%ebx), %eax
        ACCESS fildll %fs:(%ebx)
        ACCESS fldt %fs:(%ebx)
        ACCESS movups %fs:(%ebx), %xmm0
        ACCESS mov %al, %fs:(%ebx)
        ACCESS mov %ax, %fs:(%ebx)
        ACCESS mov %eax, %fs:(%ebx)
        ACCESS movups %xmm0, %fs:(%ebx)
        ACCESS incl %fs:(%ebx)
        ACCESS push %fs:(%ebx)
        ACCESS fnstenv %fs:(%ebx)
        ACCESS fnstsw %fs:(%ebx)
        xor %eax, %eax
        ACCESS bts %eax, %fs:(%ebx)
        ACCESS sidt %fs:(%ebx)
        ACCESS lgs %fs:(%ebx), %ecx
        mov %ebx, %esi
        mov $AREA, %edi
        ACCESS lodsl %fs:(%esi)
        mov %ebx, %esi
        ACCESS movsw %fs:(%esi), %es:(%edi)
        fninit
        jmp newline

        .macro AROUND name, offsets:vararg
        SAY "\name\n"
        .irp offset, \offsets
        mov $\offset, %ebx
        call accesses
        .endr
        .endm

# Code in a segment of its own: `size` bytes are copied to the end of its area, so that they end `beyond` the limit.
        .macro CODE_CASE name, limit, flags, at, bytes:vararg
        .section .rodata
6:      .byte \bytes
7:
        .text
        DESCRIPTOR TEST, AREA, \limit, 0x9b, \flags
        mov $6b, %esi
        mov $AREA + ((\at) & 0xfffff), %edi
        mov $7b - 6b, %ecx
        rep movsb
        movb $0xcc, (%edi)      # INT3: all was executed
        SAY "\name: "
        movl $_start, place_base
        mov resume, %eax
        movl $\at, pointer
        movl $TEST, pointer + 4
        mov $0x11, %eax
        TRY 8f
        ljmp *pointer
8:      call case_end
        .endm

# Pieces of code that are more than one instruction.
        .macro CODE_1
        mov $0x100, %ebp
        mov (%ebp), %eax
        .endm
        .macro CODE_2
        sub $2, %esp
        push %eax
        .endm
        .macro CODE_3
        lea 1(%ebx), %esi
        lodsl
        .endm
        .macro CODE_4
        mov $0x82, %dx
        insb
        .endm
        .macro CODE_5
        mov $0x83, %dx
        mov %edi, %esi
        outsl
        .endm
        .macro CODE_6
        pushl $0x3202
        popf
        pushf
        pop %eax
        int $0x80
        .endm
        .macro CODE_7
        mov $-1, %eax
        bound %eax, pointer
        .endm
        .macro CODE_8
        mov $TEST2, %eax
        movb $0x13, gdt + TEST2 + 5
        mov %eax, %ds
        .endm
        .macro CODE_9
        mov $0x1230, %eax
        mov %eax, %ds
        .endm
        .macro CODE_10
        mov $0x1230, %eax
        mov %eax, %ds
        .endm

main:   movw $0xee00, idt + 0x80 * 8 + 4
        mov %cr4, %eax
        or $0x600, %eax
        mov %eax, %cr4
        movl $0, AREA
        movl $1, brief
        # The short handlers for all that the accesses raise.
        .irp n, 10, 11, 12, 13
        mov $1f, %eax
        mov %ax, idt + \n * 8
        shr $16, %eax
        mov %ax, idt + \n * 8 + 6
        jmp 2f
1:      push $\n
        jmp short_handler
2:
        .endr
        DESCRIPTOR TEST, AREA, 0xff, 0x93, 4
        AROUND "up to 0xff", 0xf0, 0xf1, 0xf6, 0xf7, 0xf8, 0xfc, 0xfd, 0xfe, 0xff, 0x100, 0xfffffffc, 0xffffffff
        DESCRIPTOR TEST, AREA, 0, 0x93, 4
        AROUND "up to 0", 0, 1
        DESCRIPTOR TEST, AREA, 0, 0x93, 0xc
        AROUND "up to 0xfff", 0xff0, 0xffc, 0xffd, 0xfff, 0x1000
        DESCRIPTOR TEST, AREA, 0xff, 0x97, 4
        AROUND "down to 0xff", 0, 0xfe, 0xff, 0x100, 0x101, 0xfffe, 0x10000
        DESCRIPTOR TEST, AREA, 0xff, 0x97, 0
        AROUND "down to 0xff, small", 0, 0xff, 0x100, 0xfff0, 0xfff1, 0xfffc, 0xfffd, 0xffff, 0x10000
        DESCRIPTOR TEST, AREA, 0, 0x97, 0xc
        AROUND "down to 0xfff", 0xff0, 0xfff, 0x1000, 0xfffffff0
        DESCRIPTOR TEST, AREA, 0xfffff, 0x97, 0xc
        AROUND "down to everything", 0, 0xffffffff
        DESCRIPTOR TEST, AREA, 0xff, 0x91, 4
        AROUND "only to read", 0, 0xff
        DESCRIPTOR TEST, AREA, 0xff, 0x9b, 4
        AROUND "code", 0, 0xff
        mov $0, %eax
        .irp n, 10, 11, 12, 13
        mov $stubs + 16 * \n, %eax
        mov %ax, idt + \n * 8
        shr $16, %eax
        mov %ax, idt + \n * 8 + 6
        .endr
        movl $0, brief

        SAY "stack\n"
        # At CPL 3, whose handler has a stack of its own.
        .macro STACK_CASE name, limit, access, flags, sp, code:vararg
        DESCRIPTOR TEST, AREA, \limit, \access, \flags
        SAY "\name: "
        movl $7f, place_base
        TRY 8f
        push $TEST + 3
        push $\sp
        push $0x3002
        push $USER_CODE32
        push $7f
        mov $USER_DATA32, %ecx
        mov %ecx, %ds
        mov %ecx, %es
        iret
7:      \code
        mov %esp, %eax
        int $0x80
8:      call hex
        call case_end
        .endm
        mov $0, %eax
        mov $0, %edx
        .irp sp, 0x100, 0x102, 0x104, 3, 0
        STACK_CASE "push \sp", 0xff, 0xf3, 4, \sp, push %eax
        STACK_CASE "pushw \sp", 0xff, 0xf3, 4, \sp, pushw %ax
        STACK_CASE "pop \sp", 0xff, 0xf3, 4, \sp, pop %edx
        STACK_CASE "call \sp", 0xff, 0xf3, 4, \sp, call . + 5
        STACK_CASE "pusha \sp", 0xff, 0xf3, 4, \sp, pusha
        STACK_CASE "enter \sp", 0xff, 0xf3, 4, \sp, enter $8, $0
        .endr
        STACK_CASE "small push 0", 0xffff, 0xf3, 0, 0, push %eax
        STACK_CASE "small push 2", 0xffff, 0xf3, 0, 2, push %eax
        STACK_CASE "small push 1", 0xffff, 0xf3, 0, 1, pushw %ax
        STACK_CASE "small pop 0xfffe", 0xffff, 0xf3, 0, 0xfffe, pop %edx
        STACK_CASE "small pop 0xfffc", 0xffff, 0xf3, 0, 0xfffc, pop %edx
        STACK_CASE "small high half", 0xffff, 0xf3, 0, 0x12340100, push %eax
        STACK_CASE "down push 0x104", 0xff, 0xf7, 4, 0x104, push %eax
        STACK_CASE "down push 0x103", 0xff, 0xf7, 4, 0x103, push %eax
        STACK_CASE "down small push 0", 0xff, 0xf7, 0, 0, push %eax
        STACK_CASE "ebp beyond", 0xff, 0xf3, 4, 0x80, CODE_1

        SAY "code\n"
        mov $0xcccccccc, %eax
        mov $AREA, %edi
        mov $0x8000, %ecx
        rep stosl
        CODE_CASE "within the limit", 0xf, 4, 0xd, 0x90, 0x90
        CODE_CASE "up to the limit", 0xf, 4, 0xd, 0x90, 0x90, 0x90
        CODE_CASE "off the limit", 0xf, 4, 0x8, 0x40, 0x40, 0x40, 0x40, 0x40, 0x40, 0x40, 0x40, 0x40
        CODE_CASE "across the limit", 0xf, 4, 0xa, 0x40, 0xb8, 1, 0, 0, 0, 0x90
        CODE_CASE "immediate across the limit", 0xf, 4, 0xd, 0xb0, 1, 0xb0, 2
        CODE_CASE "jump beyond the limit", 0xf, 4, 0x8, 0x40, 0xeb, 0x7
        CODE_CASE "jump to the limit", 0xf, 4, 0x8, 0x40, 0xeb, 0x4, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc
        CODE_CASE "call beyond the limit", 0xf, 4, 0x8, 0xe8, 0x10, 0, 0, 0
        CODE_CASE "branch not taken beyond", 0xf, 4, 0x8, 0x31, 0xc0, 0x75, 0x10, 0x40
        CODE_CASE "loop beyond", 0xf, 4, 0x8, 0xe2, 0x10
        CODE_CASE "16-bit off 64 KiB", 0xffff, 0, 0xfffd, 0x40, 0x40, 0x40
        CODE_CASE "16-bit across 64 KiB", 0xffff, 0, 0xfffd, 0x40, 0xb8, 1, 2
        CODE_CASE "16-bit jump wraps", 0xffff, 0, 0xfff0, 0xeb, 0x7e
        CODE_CASE "16-bit jump within 1 MiB", 0xfffff, 0, 0xfff0, 0x66, 0xe9, 0x10, 0, 0, 0
        CODE_CASE "16-bit beyond 64 KiB", 0xfffff, 0, 0xfffd, 0x40, 0x40, 0x40, 0x40
        CODE_CASE "16-bit start beyond", 0xfff, 0, 0x1000, 0x40
        # 16 bytes are too many, whatever they say.
        CODE_CASE "15 bytes", 0xfff, 4, 0x10, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x40
        CODE_CASE "16 bytes", 0xfff, 4, 0x10, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x40
        CODE_CASE "16 bytes, undefined", 0xfff, 4, 0x10, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x0f, 0x0b
        CODE_CASE "15 bytes, undefined", 0xfff, 4, 0x10, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x0f, 0x0b
        CODE_CASE "immediate beyond 15", 0xfff, 4, 0x10, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0xb8, 1, 2
        CODE_CASE "prefixes to the limit", 0x1c, 4, 0x10, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66
        CODE_CASE "15 prefixes to the limit", 0x1e, 4, 0x10, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66
        CODE_CASE "lock of too many", 0xfff, 4, 0x10, 0xf0, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x40

        call call_gates
        call returns
        call system_calls
        call alignment
        call ports
        call chains
        ret

        # A gate at TEST to `gate_arrived`, with access byte and parameters.
        .macro CALL_GATE access, count
        mov $gate_arrived, %eax
        .ifeq \access & 8
        mov $gate_low, %eax
        .endif
        mov %eax, %edx
        and $0xffff, %eax
        or $(CODE32 << 16), %eax
        mov %eax, gdt + TEST
        and $0xffff0000, %edx
        or $((\access << 8) | \count), %edx
        mov %edx, gdt + TEST + 4
        .endm
gate_arrived:
        # What was pushed, without the return address's own place.
        mov %esp, %ebx
        mov $USER_DATA32, %eax
        mov %eax, %ds
        movl $gate_arrived, place_base
        SHOW %cs
        SHOW %ss
        cmpl $0, wide
        je 1f
        .irp at, 4, 8, 12, 16, 20, 24, 28
        SHOW %ss:\at(%ebx)
        .endr
        int $0x80
1:      .irp at, 2, 4, 6, 8, 10, 12, 14
        movzwl %ss:\at(%ebx), %eax
        call hex
        .endr
        int $0x80
call_gates:
        movl $0x25ff, %eax
        movw %ax, gate_low
        movl $gate_pointer, gate_low + 2
        .irp count, 0, 1, 4, 31
        movl $1, wide
        CALL_GATE 0xec, \count
        USER "call gate, \count words"
        mov $AREA + 0x40000, %esp
        push $0x11111111
        push $0x22222222
        push $0x33333333
        push $0x44444444
        lcall $TEST, $0
        END_USER
        movl $0, wide
        CALL_GATE 0xe4, \count
        USER "16-bit call gate, \count words"
        mov $AREA + 0x40000, %esp
        push $0x11111111
        push $0x22222222
        push $0x33333333
        push $0x44444444
        lcall $TEST, $0
        END_USER
        .endr
        # Stacks of privilege level 1, at fault and not.
        .set SS1, FREE
        movl $1, wide
        CALL_GATE 0xec, 1
        movw $TEST2, gdt + TEST + 2
        DESCRIPTOR TEST2, 0, 0xfffff, 0xbb, 0xc
        .irp access, 0xb3, 0x33, 0x93, 0xd3, 0xb1, 0xb7, 0xbb, 0xb9, 0xa9
        DESCRIPTOR SS1, 0, 0xfffff, \access, 0xc
        movl $SS1 + 1, tss_main + 0x10
        movl $stack_top - 3072, tss_main + 0xc
        USER "call gate, stack \access"
        mov $AREA + 0x40000, %esp
        lcall $TEST, $0
        END_USER
        .endr
        DESCRIPTOR SS1, 0, 0xfffff, 0xb3, 0xc
        .irp ss, 0, 1, FREE, FREE_3, FREE_LOCAL, 0x1231
        movl $\ss, tss_main + 0x10
        USER_CASE "call gate, stack \ss", lcall $TEST, $0
        .endr
        movl $SS1 + 1, tss_main + 0x10
        # Too small for the parameters and what the target does with it.
        movl $1, brief
        CALL_GATE 0xec, 4
        movw $TEST2, gdt + TEST + 2
        .irp esp, 0, 0x10, 0x1c, 0x1f, 0x20, 0x23, 0x100, 0x104, 0x1000
        DESCRIPTOR SS1, AREA, 0x100, 0xb3, 4
        movl $\esp, tss_main + 0xc
        USER "call gate, stack pointer \esp"
        mov $AREA + 0x40000, %esp
        lcall $TEST, $0
        END_USER
        .endr
        movl $0, brief
        CALL_GATE 0xec, 0
        movw $TEST2, gdt + TEST + 2
        # The task state segment ends before the stack.
        .irp limit, 0x12, 0x11, 0xf
        movw $\limit, gdt + TSS_MAIN
        andb $~2, gdt + TSS_MAIN + 5
        mov $TSS_MAIN, %eax
        ltr %ax
        movl $stack_top - 3072, tss_main + 0xc
        DESCRIPTOR SS1, 0, 0xfffff, 0xb3, 0xc
        USER "call gate, task limit \limit"
        mov $AREA + 0x40000, %esp
        lcall $TEST, $0
        END_USER
        .endr
        movw $0xfff, gdt + TSS_MAIN
        andb $~2, gdt + TSS_MAIN + 5
        mov $TSS_MAIN, %eax
        ltr %ax
        ret

# A return to `show_segments` at CPL 3, with this stack segment.
        .macro OUTWARD how, stack
        push $\stack
        push $stack_user
        .ifc \how, iret
        push $0x3002
        .endif
        push $USER_CODE32
        push $show_segments
        \how
        .endm

returns:
        # Data segments of every kind on the way out.
        movl $DATA32, tss_main + 8
        movl $stack_top - 4096, tss_main + 4
        .irp access, 0x93, 0xb3, 0xd3, 0xf3, 0x9b, 0x9f, 0xff, 0xfb, 0xdf
        .irp how, lret, iret
        DESCRIPTOR TEST, 0, 0xfffff, \access, 0xc
        BEGIN "\how, segment \access"
        mov $TEST, %eax
        mov %eax, %es
        mov %eax, %fs
        mov $USER_DATA32, %eax
        mov %eax, %gs
        OUTWARD \how, USER_DATA32
        END
        .endr
        .endr
        # Parameters that the return releases on both stacks.
        .irp count, 0, 4, 8
        BEGIN "lret $\count"
        push $USER_DATA32
        push $stack_user - 64
        .rept \count / 4
        push $0x55
        .endr
        push $USER_CODE32
        push $show_esp
        lret $\count
        END
        .endr
        .irp ss, 0, 3, DATA32, USER_DATA32, USER_DATA32_2, CODE32, 0x1233
        .irp how, lret, iret
        BEGIN "\how, stack \ss"
        OUTWARD \how, \ss
        END
        .endr
        .endr
        movb $0xcc, 0x1000
        movl $1, no_place
        BEGIN "lret beyond the limit"
        DESCRIPTOR TEST, 0, 0xff, 0xfb, 4
        push $USER_DATA32
        push $stack_user
        push $TEST + 3
        push $0x1000
        lret
        END
        movl $0, no_place
        BEGIN "iret to flags"
        push $USER_DATA32
        push $stack_user
        pushl $0x247fd7
        push $USER_CODE32
        push $show_flags
        iret
        END
        ret
show_flags:
        int $0x80
show_segments:
        mov %ds, %eax
        call hex
        mov %es, %eax
        call hex
        mov %fs, %eax
        call hex
        mov %gs, %eax
        call hex
        mov %ss, %eax
        call hex
        int $0x80
show_esp:
        mov $stack_user, %eax
        sub %esp, %eax
        call hex
        int $0x80

system_calls:
        # SYSENTER and SYSEXIT.
        .macro MSR n, value
        mov $\n, %ecx
        xor %edx, %edx
        mov $\value, %eax
        wrmsr
        .endm
        MSR 0x174, 0
        USER_CASE "sysenter without a segment", sysenter
        CASE "sysexit without a segment", sysexit
        MSR 0x174, 3
        mov $show_flags, %edx
        mov $stack_user, %ecx
        BEGIN "sysexit with a null segment"
        mov $show_flags, %edx
        mov $stack_user, %ecx
        movl $1, no_place
        sysexit
        END
        movl $0, no_place
        MSR 0x174, CODE32 + 3
        MSR 0x175, (stack_top - 4096)
        MSR 0x176, on_sysenter
        USER_CASE "sysenter", sysenter
        USER_CASE "sysexit at CPL 3", sysexit
        BEGIN "sysexit"
        mov $show_segments, %edx
        mov $stack_user, %ecx
        sysexit
        END
        # SYSCALL and SYSRET outside of long mode.
        CASE "syscall, disabled", syscall
        CASE "sysret, disabled", sysretl
        MSR 0xc0000080, 1
        mov $0xc0000081, %ecx
        mov $(CODE32 | (CODE32 + 3) << 16), %edx
        mov $on_syscall, %eax
        wrmsr
        USER "syscall"
        std
        syscall
        END_USER
        BEGIN "sysret"
        mov $show_flags, %ecx
        sysretl
        END
        USER_CASE "sysret at CPL 3", sysretl
        MSR 0xc0000080, 0
        ret
on_sysenter:
        pushf
        pop %eax
        call hex
        SHOW %cs
        SHOW %ss
        SHOW %ds
        mov $DATA32, %eax
        mov %eax, %ds
        mov $stack_top - 4096, %eax
        sub %esp, %eax
        call hex
        mov resume_sp, %esp
        jmp *resume
on_syscall:
        mov %ecx, %ebx
        pushf
        pop %eax
        call hex
        cld
        SHOW %cs
        SHOW %ss
        mov %ebx, %eax
        sub $7b, %eax
        mov $DATA32, %eax
        mov %eax, %ds
        mov resume_sp, %esp
        jmp *resume

alignment:
        .irp am, 0, 0x40000
        mov %cr0, %eax
        and $~0x40000, %eax
        or $\am, %eax
        mov %eax, %cr0
        .irp ac, 0, 0x40000
        .macro ALIGNED name, code:vararg
        SAY "am \am ac \ac \name: "
        movl $7f, place_base
        TRY 8f
        mov $stack_user, %ecx
        push $USER_DATA32
        push %ecx
        push $(0x3002 | \ac)
        push $USER_CODE32
        push $7f
        mov $USER_DATA32, %ecx
        mov %ecx, %ds
        mov %ecx, %es
        mov $AREA, %ebx
        movl $0, (%ebx)
        movl $0, 4(%ebx)
        iret
7:      \code
        int $0x80
8:      call case_end
        .endm
        ALIGNED "byte", mov 1(%ebx), %al
        ALIGNED "word at 1", mov 1(%ebx), %ax
        ALIGNED "word at 2", mov 2(%ebx), %ax
        ALIGNED "long at 2", mov 2(%ebx), %eax
        ALIGNED "store at 1", mov %eax, 1(%ebx)
        ALIGNED "quad at 4", fildll 4(%ebx)
        ALIGNED "ten at 4", fldt 4(%ebx)
        ALIGNED "sixteen at 8", movups 8(%ebx), %xmm0
        ALIGNED "sixteen at 2", movups 2(%ebx), %xmm0
        ALIGNED "aligned at 8", movaps 8(%ebx), %xmm0
        ALIGNED "quad of xmm at 4", movq 4(%ebx), %xmm0
        ALIGNED "push", CODE_2
        ALIGNED "far pointer at 2", lfs 2(%ebx), %eax
        ALIGNED "bit at 1", bts %ecx, 1(%ebx)
        ALIGNED "table at 2", sidt 2(%ebx)
        ALIGNED "environment at 2", fnstenv 2(%ebx)
        ALIGNED "environment at 4", fnstenv 4(%ebx)
        ALIGNED "environment from 4", fldenv 4(%ebx)
        ALIGNED "state at 4", fnsave 4(%ebx)
        ALIGNED "state from 4", frstor 4(%ebx)
        ALIGNED "state from 2", frstor 2(%ebx)
        ALIGNED "table at 0", sidt (%ebx)
        ALIGNED "control word at 1", fnstcw 1(%ebx)
        ALIGNED "string at 1", CODE_3
        ALIGNED "pair at 4", cmpxchg8b 4(%ebx)
        .purgem ALIGNED
        .endr
        .endr
        mov %cr0, %eax
        or $0x40000, %eax
        mov %eax, %cr0
        BEGIN "at CPL 0"
        pushl $0x40002
        popf
        mov AREA + 1, %eax
        END
        mov %cr0, %eax
        and $~0x40000, %eax
        mov %eax, %cr0
        ret

ports:
        # The I/O permission map: at CPL 3 with IOPL 0.
        .macro PORT name, code:vararg
        SAY "\name: "
        movl $7f, place_base
        TRY 8f
        push $USER_DATA32
        push $stack_user
        push $0x0002
        push $USER_CODE32
        push $7f
        mov $USER_DATA32, %ecx
        mov %ecx, %ds
        mov %ecx, %es
        mov $0xffff, %edx
        mov $AREA, %edi
        xor %eax, %eax
        iret
7:      \code
        int $0x80
8:      call case_end
        .endm
        # Ports 0x80 to 0x87 are open, 0x82 is not.
        movl $-1, tss_main + 0x68 + 0x10
        movb $4, tss_main + 0x68 + 0x10
        movb $0xff, tss_main + 0x68 + 0x11
        movw $0x68, tss_main + 102
        PORT "in 0x80", in $0x80, %al
        PORT "inw 0x80", in $0x80, %ax
        PORT "inw 0x81", in $0x81, %ax
        PORT "inl 0x80", in $0x80, %eax
        PORT "inl 0x83", in $0x83, %eax
        PORT "inl 0x84", in $0x84, %eax
        PORT "inl 0x85", in $0x85, %eax
        PORT "inw 0x87", in $0x87, %ax
        PORT "out 0x82", out %al, $0x82
        PORT "out 0x83", out %al, $0x83
        PORT "insb", CODE_4
        PORT "outsl", CODE_5
        PORT "cli", cli
        PORT "sti", sti
        PORT "hlt", hlt
        PORT "popf", CODE_6
        .irp limit, 0x67, 0x68, 0x77, 0x78, 0x79
        movw $\limit, gdt + TSS_MAIN
        andb $~2, gdt + TSS_MAIN + 5
        mov $TSS_MAIN, %eax
        ltr %ax
        PORT "in 0x80, limit \limit", in $0x80, %al
        PORT "in 0x87, limit \limit", in $0x87, %ax
        .endr
        movw $0xfff, gdt + TSS_MAIN
        andb $~2, gdt + TSS_MAIN + 5
        mov $TSS_MAIN, %eax
        ltr %ax
        .irp at, 0, 0x1000, 0xfff0, 0xffff, 0xfef, 0xfee
        movw $\at, tss_main + 102
        PORT "in 0x80, map at \at", in $0x80, %al
        .endr
        movw $0x68, tss_main + 102
        PORT "in 0xffff", in %dx, %al
        # A 16-bit TSS has none.
        movw $0x8100, gdt + TSS_MAIN + 4
        movb $0x81, gdt + TSS_MAIN + 5
        movl tss_main + 4, %eax
        ret

chains:
        # What a fault in the delivery of another becomes. The gate of the first is at fault itself.
        .macro CHAIN name, first, code:vararg
        movl idt + \first * 8 + 4, %eax
        push %eax
        movb $0x0e, idt + \first * 8 + 5
        BEGIN "\name"
        \code
        END
        pop %eax
        mov %eax, idt + \first * 8 + 4
        .endm
        andl $0xffffff, gdt + TSS_MAIN + 4
        mov $tss_main, %eax
        mov $TSS_MAIN, %ecx
        mov $0x8900, %edx
        call set_tss
        mov $TSS_MAIN, %eax
        ltr %ax
        xor %ecx, %ecx
        CHAIN "divide", 0, div %ecx
        CHAIN "breakpoint", 3, int3
        CHAIN "bound", 5, CODE_7
        CHAIN "undefined", 6, ud2
        CHAIN "not present", 11, CODE_8
        CHAIN "protection", 13, CODE_9
        CHAIN "software", 0x60, int $0x60
        # Both gates: protection while the fault of not present is delivered.
        movb $0x0e, idt + 11 * 8 + 5
        CHAIN "two gates", 13, CODE_10
        movb $0x8e, idt + 11 * 8 + 5
        # Short tables.
        SAY "short table: "
        movl $7f, place_base
        TRY 8f
        lidt short_idt
7:      ud2
8:      lidt idtr
        call case_end
        SAY "short table, software: "
        movl $7f, place_base
        TRY 8f
        lidt short_idt
7:      int $0x60
8:      lidt idtr
        call case_end
        SAY "short table, user: "
        movl $7f, place_base
        TRY 8f
        lidt short_idt
        mov $7f, %eax
        jmp user
7:      int $0x80
8:      lidt idtr
        call case_end
        ret

        .data
        .align 8
pointer:
        .long 0, 0
gate_pointer:
        .long gate_arrived
wide:   .long 0
        # Vectors 0 to 5, and from 6 on none but those below 14.
short_idt:
        .word 14 * 8 - 1
        .long idt
        .bss
        .set gate_low, 0x5000
        .text
