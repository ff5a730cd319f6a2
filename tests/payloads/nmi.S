# Non-maskable interrupts: by the local APIC's command register, masked until IRET.
        .include "common.inc"
        .set APIC, 0xfee00000

# An NMI to this processor.
        .macro NMI
        movl $0, APIC + 0x310
        movl $0x400, APIC + 0x300
        jmp . + 2               # it comes at the end of a block at the latest
        .endm
# Interrupt 0x70 to this processor.
        .macro SEND_FIXED
        movl $0x44070, APIC + 0x300
        .endm

# The handlers: count, and show the first places.
on_nmi: incl count
        cmpl $3, count
        ja 1f
        push %eax
        push %edx
        SAY "nmi "
        mov 8(%esp), %eax
        sub place_base, %eax
        cmpl $0, no_place
        jne 2f
        call hex
2:      mov 16(%esp), %eax
        call hex
        pop %edx
        pop %eax
1:      cmpl $0, in_nmi
        je 3f
        pusha
        mov in_nmi, %eax
        movl $0, in_nmi
        call *%eax
        popa
3:      iret
on_fixed:
        push %eax
        SAY "fixed "
        movl $0, APIC + 0xb0
        pop %eax
        iret
        .macro NMI_CASE name
        movl $0, count
        BEGIN "\name"
        .endm
        .macro END_NMI
        nop
        nop
        SHOW count
        END
        .endm
wait:   mov $1000, %ecx
1:      pause
        loop 1b
        ret

again_once:
        NMI
        call wait
        SAY "still within "
        ret
again_twice:
        NMI
        NMI
        call wait
        SAY "still within "
        ret
returns_by_iret:
        NMI
        call wait
        SAY "before iret "
        pushf
        push $CODE32
        push $1f
        iret
1:      nop
        nop
        SAY "after iret "
        ret
returns_by_far:
        NMI
        call wait
        SAY "before lret "
        push $CODE32
        push $1f
        lret
1:      nop
        nop
        SAY "after lret "
        ret
faults: NMI
        call wait
        SAY "before fault "
        .byte 0x0f, 0x0b
9:      nop
        SAY "after fault "
        ret
on_ud:  SAY "ud "
        addl $2, (%esp)
        iret
sends_fixed:
        SEND_FIXED
        call wait
        SAY "masked "
        sti
        nop
        nop
        cli
        SAY "open "
        ret

main:   movw $0xee00, idt + 0x80 * 8 + 4
        GATE 2, on_nmi
        GATE 6, on_ud
        GATE 0x70, on_fixed
        movl $0x1ff, APIC + 0xf0
        # They come a few instructions late or not, as the emulator likes.
        movl $1, no_place
        SAY "lint1: "
        SHOW APIC + 0x360
        call newline
        NMI_CASE "interrupts off"
        NMI
        END_NMI
        NMI_CASE "two in a row"
        NMI
        nop
        NMI
        END_NMI
        NMI_CASE "interrupts on"
        sti
        NMI
        nop
        cli
        END_NMI
        .irp what, again_once, again_twice, returns_by_iret, returns_by_far, faults, sends_fixed
        movl $\what, in_nmi
        NMI_CASE "\what"
        NMI
        END_NMI
        .endr
        NMI_CASE "stack segment"
        mov $DATA32, %eax
        mov $0x400, %edx
        movl $0, APIC + 0x310
        mov %edx, APIC + 0x300
        mov %eax, %ss
        nop
        END_NMI
        # At CPL 3.
        movl $0, count
        USER "user"
        NMI
        nop
        END_USER
        # A task gate: the task's IRET ends the masking.
        mov $tss_other, %edi
        movl $nmi_task, 0x20(%edi)
        movl $2, 0x24(%edi)
        movl $task_stack, 0x38(%edi)
        .irp at, 0x48, 0x50, 0x54, 0x58, 0x5c
        movl $DATA32, \at(%edi)
        .endr
        movl $CODE32, 0x4c(%edi)
        movl $TSS_OTHER << 16, idt + 2 * 8
        movl $0x8500, idt + 2 * 8 + 4
        BEGIN "task"
        NMI
        nop
        nop
        END
        ret
nmi_task:
        SAY "in the task "
        incl tasks
        cmpl $1, tasks
        jne 1f
        NMI
        call wait
        SAY "masked "
1:      iret
        jmp nmi_task

        .data
count:  .long 0
in_nmi: .long 0
tasks:  .long 0
        .bss
        .skip 4096
task_stack:
        .text
