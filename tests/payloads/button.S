# The NMI button of the monitor: through the local APIC's LINT1 as an NMI, as an interrupt, and as an NMI in x2APIC mode.
        .include "common.inc"
        .set APIC, 0xfee00000

on_nmi: SAY "nmi "
        jmp 1f
on_fixed:
        SAY "fixed "
        movl $0, APIC + 0xb0
1:      SHOW 8(%esp)
        call newline
        mov resume_sp, %esp
        # IRET ends the masking.
        pushl $2
        push $CODE32
        push resume
        iret

        .macro PRESS
        TRY 1f
        SAY "ready\n"
2:      hlt
        jmp 2b
1:
        .endm

main:   GATE 2, on_nmi
        GATE 0x71, on_fixed
        movl $0x1ff, APIC + 0xf0
        movl $0x400, APIC + 0x360
        PRESS
        sti
        PRESS
        movl $0x71, APIC + 0x360
        sti
        PRESS
        mov $1, %eax
        cpuid
        test $0x200000, %ecx
        jz 3f
        mov $0x1b, %ecx
        rdmsr
        or $0x400, %eax
        wrmsr
        mov $0x836, %ecx
        mov $0x400, %eax
        xor %edx, %edx
        wrmsr
        jmp 4f
3:      movl $0x400, APIC + 0x360
4:      PRESS
        ret
