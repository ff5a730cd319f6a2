# Debug registers and single steps.
        .include "common.inc"

# DR7 from eax, DR6 cleared.
        .macro WATCH value
        mov $\value, %eax
        mov %eax, %dr7
        .endm
        .macro CLEAR6
        xor %eax, %eax
        mov %eax, %dr6
        .endm

# What a debug exception of handler `counting` has seen: how often, and a mix of places and DR6.
counting:
        push %eax
        push %edx
        incl count
        mov 8(%esp), %eax
        sub place_base, %eax
        mov %dr6, %edx
        and $0xf00f, %edx
        shl $16, %edx
        xor %edx, %eax
        roll $3, mix
        xor %eax, mix
        xor %eax, %eax
        mov %eax, %dr6
        # Enough is enough.
        cmpl $200, count
        jb 1f
        andl $~0x100, 16(%esp)
1:      pop %edx
        pop %eax
        iret
show_count:
        SHOW count
        SHOW mix
        movl $0, count
        movl $0, mix
        ret
        .macro GATE1 to
        mov $\to, %eax
        mov %ax, idt + 8
        shr $16, %eax
        mov %ax, idt + 8 + 6
        .endm
        # The code runs with TF set; how many traps, and where, is shown.
        .macro STEP name
        SAY "\name: "
        movl $7f, place_base
        TRY 8f
        pushl $0x102
        popf
7:
        .endm
        .macro END_STEP
        pushl $2
        popf
8:      mov resume_sp, %esp
        call show_count
        call case_end
        .endm
        .macro STEP_CASE name, code:vararg
        STEP "\name"
        \code
        END_STEP
        .endm

main:   movw $0xee00, idt + 0x80 * 8 + 4
        movw $0xee00, idt + 3 * 8 + 4
        movw $0xee00, idt + 4 * 8 + 4

        # Data: every kind, length and offset of the watched place and of the access.
        GATE1 counting
        mov $2, %ebx            # kind and length of DR0
1:      mov %ebx, %eax
        and $3, %eax
        cmp $1, %eax            # of interest: writes, and reads and writes
        je 2f
        cmp $3, %eax
        jne 6f
2:      mov %ebx, %eax
        shr $2, %eax
        cmp $2, %eax            # 8 bytes: in 64-bit mode
        je 6f
        SAY "data "
        SHOW %ebx
        SAY ": "
        mov %ebx, %eax
        shl $16, %eax
        or $0x402, %eax
        mov %eax, dr7
        movl $5f, place_base
        xor %edi, %edi          # the access's offset
3:      mov $word + 4, %eax
        mov %ebx, %ecx
        shr $2, %ecx
        mov $4, %edx
        sub %ecx, %edx
        mov %eax, %dr0
        mov dr7, %eax
        mov %eax, %dr7
5:      mov word(%edi), %al
        mov %al, word(%edi)
        mov word(%edi), %ax
        mov %ax, word(%edi)
        mov word(%edi), %eax
        mov %eax, word(%edi)
        incb word(%edi)
        addw $1, word(%edi)
        xchg %eax, word(%edi)
        lea word(%edi), %esi
        lodsl
        push word(%edi)
        pop word(%edi)
        mov $0x400, %eax
        mov %eax, %dr7
        call show_count
        inc %edi
        cmp $9, %edi
        jne 3b
        call newline
6:      inc %ebx
        cmp $16, %ebx
        jne 1b

        SAY "strings: "
        mov $word + 4, %eax
        mov %eax, %dr0
        movl $5f, place_base
        WATCH 0xd0402
        mov $16, %ecx
        mov $word, %edi
5:      rep stosb
        mov $4, %ecx
        mov $word, %esi
        mov $copy, %edi
        rep movsl
        mov $0x400, %eax
        mov %eax, %dr7
        call show_count
        call newline

        # Single steps.
        STEP_CASE "nothing", nop
        STEP "rep"
        mov $3, %ecx
        mov $copy, %edi
        rep stosb
        nop
        END_STEP
        STEP "rep none"
        xor %ecx, %ecx
        mov $copy, %edi
        rep stosb
        nop
        END_STEP
        STEP_CASE "int3", int3
        STEP "into"
        mov $0x7f, %al
        inc %al
        into
        END_STEP
        STEP "mov ss"
        mov %ss, %eax
        mov %eax, %ss
        nop
        nop
        END_STEP
        STEP "pop ss"
        push %ss
        pop %ss
        nop
        nop
        END_STEP
        STEP "mov ss twice"
        mov %ss, %eax
        mov %eax, %ss
        mov %eax, %ss
        nop
        nop
        END_STEP
        STEP "mov ds"
        mov %ds, %eax
        mov %eax, %ds
        nop
        END_STEP
        STEP "sti"
        sti
        cli
        nop
        END_STEP
        STEP "pushf"
        pushf
        pop %eax
        and $0x100, %eax
        mov %eax, mix
        END_STEP
        STEP "far jump"
        ljmp $CODE32, $5f
5:      nop
        END_STEP
        STEP "branch"
        jmp 5f
        nop
5:      nop
        END_STEP
        STEP "cpuid"
        xor %eax, %eax
        cpuid
        nop
        END_STEP
        STEP "out"
        out %al, $0x80
        nop
        END_STEP
        STEP_CASE "lss", lss ss_pointer, %esp
        STEP "iret"
        pushl $0x102
        push $CODE32
        push $5f
        iret
        nop
5:      nop
        END_STEP
        STEP "iret to rf"
        pushl $0x10102
        push $CODE32
        push $5f
        iret
        nop
5:      nop
        END_STEP
        SAY "fault under a step: "
        movl $7f, place_base
        GATE1 (stubs + 16)
        TRY 8f
        pushl $0x102
        mov $0xf00000, %eax
        popf
7:      ud2
8:      call case_end
        SAY "interrupt under a step: "
        movl $7f, place_base
        TRY 8f
        pushl $0x102
        popf
7:      int $0x80
8:      call case_end
        SAY "user: "
        TRY 8f
        movl $7f, place_base
        mov $USER_DATA32, %ecx
        push %ecx
        push $stack_user
        push $0x3102
        push $USER_CODE32
        push $7f
        iret
7:      nop
        nop
8:      call case_end

        # Instruction breakpoints.
        CLEAR6
        .macro BREAK name, at
        SAY "\name: "
        CLEAR6
        TRY 8f
        mov $7f + \at, %eax
        mov %eax, %dr0
        movl $7f, place_base
        WATCH 0x402
7:
        .endm
        .macro END_BREAK
        SAY "missed "
8:      mov $0x400, %eax
        mov %eax, %dr7
        call case_end
        .endm
        BREAK "first byte", 0
        nop
        END_BREAK
        BREAK "second byte", 1
        mov $1, %eax
        END_BREAK
        BREAK "second instruction", 2
        xor %eax, %eax
        nop
        END_BREAK
        BREAK "after mov ss", 4
        mov %ss, %eax
        mov %eax, %ss
        nop
        nop
        END_BREAK
        BREAK "after sti", 1
        sti
        nop
        cli
        END_BREAK
        BREAK "undefined", 0
        ud2
        END_BREAK
        BREAK "interrupt", 0
        int $0x80
        END_BREAK
        BREAK "hlt", 0
        hlt
        END_BREAK
        # RF by IRET: once.
        SAY "resume flag: "
        CLEAR6
        TRY 8f
        mov $5f, %eax
        mov %eax, %dr0
        movl $5f, place_base
        WATCH 0x402
        mov $2, %ecx
        pushl $0x10002
        push $CODE32
        push $5f
        iret
5:      mov %ecx, %eax
        call hex
        loop 5b
8:      mov $0x400, %eax
        mov %eax, %dr7
        call case_end
        SAY "popf does not load it: "
        CLEAR6
        TRY 8f
        mov $5f, %eax
        mov %eax, %dr0
        movl $5f, place_base
        WATCH 0x402
        pushl $0x10002
        popf
5:      nop
        SAY "missed "
8:      mov $0x400, %eax
        mov %eax, %dr7
        call case_end
        SAY "two registers: "
        CLEAR6
        TRY 8f
        mov $5f, %eax
        mov %eax, %dr0
        mov %eax, %dr2
        movl $5f, place_base
        WATCH 0x422
5:      nop
8:      mov $0x400, %eax
        mov %eax, %dr7
        call case_end
        SAY "a match that is not enabled: "
        CLEAR6
        TRY 8f
        mov $word, %eax
        mov %eax, %dr1
        mov %eax, %dr3
        movl $5f, place_base
        WATCH 0xd0d00408
        mov %eax, word
5:      nop
        nop
8:      mov %dr6, %eax
        call hex
        mov $0x400, %eax
        mov %eax, %dr7
        call case_end
        movl $1, no_place       # the reference is somewhere else altogether
        SAY "step and data: "
        CLEAR6
        TRY 8f
        movl $5f, place_base
        WATCH 0xd0d00408
        pushl $0x102
        popf
5:      mov %eax, word
        nop
8:      mov $0x400, %eax
        mov %eax, %dr7
        call case_end
        movl $0, no_place
        SAY "data behind mov ss: "
        CLEAR6
        mov %ss, word
        TRY 8f
        movl $5f, place_base
        WATCH 0xf0f00408
5:      mov word, %ss
        nop
        nop
8:      mov $0x400, %eax
        mov %eax, %dr7
        call case_end

        # The registers themselves.
        BEGIN "dr6"
        mov $-1, %eax
        mov %eax, %dr6
        mov %dr6, %eax
        call hex
        xor %eax, %eax
        mov %eax, %dr6
        mov %dr6, %eax
        call hex
        END
        BEGIN "dr7"
        mov $0xffffdfff, %eax
        mov %eax, %dr7
        mov %dr7, %eax
        call hex
        mov $0x400, %eax
        mov %eax, %dr7
        END
        BEGIN "dr4 and dr5"
        mov %dr4, %eax
        call hex
        mov %dr5, %eax
        call hex
        END
        mov %cr4, %eax
        or $8, %eax
        mov %eax, %cr4
        CASE "dr4 with DE", mov %dr4, %eax
        CASE "dr5 with DE", mov %eax, %dr5
        BEGIN "dr7 with DE"
        mov %dr7, %eax
        call hex
        END
        # Ports.
        .irp port, 0x7e, 0x7f, 0x80, 0x81, 0x82
        SAY "port \port: "
        CLEAR6
        movl $5f, place_base
        TRY 8f
        mov $0x80, %eax
        mov %eax, %dr0
        WATCH 0x60402
5:      in $\port, %al
        nop
        in $\port, %ax
        nop
        SAY "missed "
8:      mov $0x400, %eax
        mov %eax, %dr7
        call case_end
        .endr
        mov %cr4, %eax
        and $~8, %eax
        mov %eax, %cr4
        USER_CASE "user dr", mov %dr0, %eax
        CASE "icebp", .byte 0xf1
        CLEAR6
        GATE1 counting
        BEGIN "icebp's dr6"
        .byte 0xf1
        END
        call show_count
        call newline
        GATE1 (stubs + 16)
        USER_CASE "user icebp", .byte 0xf1
        # DR7.GD.
        CLEAR6
        BEGIN "guarded read"
        mov $0x2400, %eax
        mov %eax, %dr7
        mov %dr0, %eax
        END
        SHOW %dr7
        call newline
        CLEAR6
        BEGIN "guarded write"
        mov $0x2400, %eax
        mov %eax, %dr7
        mov %eax, %dr7
        END
        mov $0x400, %eax
        mov %eax, %dr7
        CLEAR6
        # What the handler finds in the flags.
        .irp n, 6, 3
        mov $flags_of, %eax
        mov %ax, idt + \n * 8
        shr $16, %eax
        mov %ax, idt + \n * 8 + 6
        .endr
        CASE "flags of a fault", ud2
        CASE "flags of a trap", int3
        ret
flags_of:
        SHOW 8(%esp)
        mov resume_sp, %esp
        jmp *resume

        .data
        .align 16
word:   .long 0, 0, 0, 0
copy:   .long 0, 0, 0, 0
dr7:    .long 0
count:  .long 0
mix:    .long 0
ss_pointer:
        .long stack_top - 512
        .word DATA32
        .text
