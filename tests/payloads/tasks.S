# Task switches: every cause with every part of the new task at fault. Exceptions 10 to 13 are tasks of their own, so that
# they can be taken whatever the new task lacks.
        .include "common.inc"
        .set LDT_CODE, 0x04
        .set LDT_DATA, 0x0c
        .set LDT_USER_CODE, 0x17
        .set LDT_USER_DATA, 0x1f
        .set LDT_TEST, 0x24
        # Tasks of exceptions 10 to 13.
        .set TASK_10, FREE

# The 32-bit TSS at edi: eip eax, stack ecx, flat segments.
fill_tss:
        mov %eax, 0x20(%edi)
        movl $0x3002, 0x24(%edi)
        movl $0, 0(%edi)
        movl $0, 0x1c(%edi)
        mov %ecx, 0x38(%edi)
        movl $DATA32, 0x48(%edi)
        movl $CODE32, 0x4c(%edi)
        movl $DATA32, 0x50(%edi)
        movl $DATA32, 0x54(%edi)
        movl $DATA32, 0x58(%edi)
        movl $DATA32, 0x5c(%edi)
        movl $0, 0x60(%edi)
        movl $0x680000, 0x64(%edi)
        movl $other_stack - 2048, 4(%edi)
        movl $DATA32, 8(%edi)
        ret

# Everything as a case finds it.
fresh:  mov $tss_other, %edi
        mov $arrived, %eax
        mov $other_stack, %ecx
        call fill_tss
        .irp n, 0, 1, 2, 3
        mov $tss_fault + 256 * \n, %edi
        mov $on_fault_1\n, %eax
        mov $fault_stack, %ecx
        call fill_tss
        mov $tss_fault + 256 * \n, %eax
        mov $TASK_10 + 8 * \n, %ecx
        mov $0x8900, %edx
        call set_tss
        movl $(TASK_10 + 8 * \n) << 16, idt + (10 + \n) * 8
        movl $0x8500, idt + (10 + \n) * 8 + 4
        .endr
        mov $tss_other, %eax
        mov $TSS_OTHER, %ecx
        mov $0x8900, %edx
        call set_tss
        mov $TSS_OTHER << 16, %eax
        mov %eax, idt + 0x61 * 8
        mov %eax, idt + 6 * 8
        mov %eax, gdt + TSS_GATE
        movl $0xe500, idt + 0x61 * 8 + 4
        movl $0xe500, idt + 6 * 8 + 4
        movl $0xe500, gdt + TSS_GATE + 4
        # The local descriptors.
        mov $ldt, %eax
        mov $LDT, %ecx
        mov $0x8200, %edx
        call set_tss
        movw $0x2f, gdt + LDT
        mov $gdt + CODE32, %esi
        mov $ldt, %edi
        mov $4, %ecx
1:      movsl
        movsl
        dec %ecx
        jnz 2f
        jmp 3f
2:      jmp 1b
3:      movl $0x0000ffff, ldt + 0x20
        movl $0x00cf9300, ldt + 0x24
        ret

        .macro RESULT what
        mov \what, %eax
        call hex
        .endm

# The new task has come alive.
arrived:
        mov $other_stack, %eax
        sub %esp, %eax
        mov %ds, %ecx
        mov $DATA32, %edx
        mov %edx, %ds
        mov %edx, %es
        mov %eax, used
        mov %ecx, saved_ds
        SAY "arrived "
        pushf
        pop %eax
        call hex
        RESULT used
        cmpl $0, used
        je 1f
        RESULT (%esp)
1:      RESULT saved_ds
        RESULT %cs
        RESULT %ss
        RESULT %es
        RESULT %fs
        RESULT %gs
        call where
        jmp back

# The task register, the local table, the link, busy bits, CR0, DR7.
where:  SAY "at "
        str %ax
        movzx %ax, %eax
        call hex
        sldt %ax
        movzx %ax, %eax
        call hex
        movzwl tss_other, %eax
        call hex
        RESULT "gdt + TSS_MAIN + 4"
        RESULT "gdt + TSS_OTHER + 4"
        RESULT %cr0
        SAY "main "
        # RF, and the EXT bit and the place of faults, have a line of their own below.
        mov tss_main + 0x24, %eax
        and hide, %eax
        call hex
        RESULT "tss_main + 0x4c"
        ret

        .irp n, 0, 1, 2, 3
on_fault_1\n:
        SAY "!1\n "
        mov (%esp), %eax
        cmpl $-1, hide
        je 1f
        and $~1, %eax
1:      call hex
        movzwl tss_fault + 256 * \n, %eax
        jmp on_fault
        .endr
on_fault:
        call hex
        call where
        SAY "other "
        cmpl $-1, hide
        jne 1f
        mov tss_other + 0x20, %eax
        sub $arrived, %eax
        call hex
1:      mov tss_other + 0x24, %eax
        and $~0x10000, %eax
        call hex
        .irp at, 0x48, 0x4c, 0x50, 0x54, 0x58, 0x5c, 0x60
        RESULT tss_other + \at
        .endr
back:
        # The first task goes on where the case ends.
        mov resume, %eax
        mov %eax, tss_main + 0x20
        mov resume_sp, %eax
        mov %eax, tss_main + 0x38
        movl $2, tss_main + 0x24
        movl $DATA32, tss_main + 0x50
        movl $DATA32, tss_main + 0x48
        movl $DATA32, tss_main + 0x54
        movl $CODE32, tss_main + 0x4c
        movl $DATA32, tss_main + 0x58
        movl $DATA32, tss_main + 0x5c
        movl $0, tss_main + 0x60
        andb $~2, gdt + TSS_MAIN + 5
        clts
        ljmp $TSS_MAIN, $0

by_jump:
        ljmp $TSS_OTHER, $0
by_call:
        lcall $TSS_OTHER, $0
by_gate:
        lcall $TSS_GATE, $0
by_int: int $0x61
by_ud:  ud2
by_iret:
        movw $TSS_OTHER, tss_main
        orb $2, gdt + TSS_OTHER + 5
        pushf
        orl $0x4000, (%esp)
        popf
        iret

        # Alters the new task for a case.
        .macro ALTER name, code:vararg
        .section .rodata
9:      .asciz "\name"
        .text
        .section .cases, "a"
        .long 7f, 9b
        .text
7:
        .ifnb \code
        \code
        ret
        .endif
        .endm
        .section .cases, "a"
cases:
        .text

        ALTER "nothing", nop
        ALTER "table", movw $LDT, tss_other + 0x60
        ALTER "table rpl 3", movw $LDT + 3, tss_other + 0x60
        ALTER "table local", movw $LDT + 4, tss_other + 0x60
        ALTER "table beyond", movw $0x1230, tss_other + 0x60
        ALTER "table is code", movw $CODE32, tss_other + 0x60
        ALTER "table is a task", movw $TSS_OTHER, tss_other + 0x60
        ALTER "table not present"
        movw $LDT, tss_other + 0x60
        movb $2, gdt + LDT + 5
        ret
        ALTER "everything local"
        movw $LDT, tss_other + 0x60
        movw $LDT_CODE, tss_other + 0x4c
        .irp at, 0x48, 0x50, 0x54, 0x58, 0x5c
        movw $LDT_DATA, tss_other + \at
        .endr
        ret
        ALTER "local code without a table", movw $LDT_CODE, tss_other + 0x4c
        ALTER "local data without a table", movw $LDT_DATA, tss_other + 0x54
        ALTER "local stack without a table", movw $LDT_DATA, tss_other + 0x50
        .irp part, code, stack, data
        .ifc \part, code
        .set AT, 0x4c
        .endif
        .ifc \part, stack
        .set AT, 0x50
        .endif
        .ifc \part, data
        .set AT, 0x5c
        .endif
        .irp selector, 0, 3, CODE32, CODE32 + 1, DATA32, DATA32 + 3, USER_CODE32, USER_DATA32, LDT_TEST, 0x2c, 0x34, TSS_MAIN, 0x1230
        ALTER "\part is \selector"
        movw $LDT, tss_other + 0x60
        movw $\selector, tss_other + AT
        ret
        .endr
        .irp access, 0x13, 0x91, 0x97, 0x9b, 0x9f, 0x99, 0x1b, 0xb3, 0xf3, 0xfb, 0xff, 0xdf, 0x82, 0x89
        ALTER "\part has access \access"
        movw $LDT, tss_other + 0x60
        movw $LDT_TEST, tss_other + AT
        movb $\access, ldt + 0x25
        ret
        .endr
        .endr
        ALTER "instruction pointer beyond the limit"
        movw $LDT, tss_other + 0x60
        movw $LDT_TEST, tss_other + 0x4c
        movl $0x0000ffff, ldt + 0x20
        movl $0x00009b00, ldt + 0x24
        ret
        ALTER "stack too small"
        movw $LDT, tss_other + 0x60
        movw $LDT_TEST, tss_other + 0x50
        movl $0x0000000f, ldt + 0x20
        movl $0x00409300, ldt + 0x24
        ret
        ALTER "task not present", andb $0x7f, gdt + TSS_OTHER + 5
        ALTER "task limit 0x66", movw $0x66, gdt + TSS_OTHER
        ALTER "task limit 0x67", movw $0x67, gdt + TSS_OTHER
        ALTER "task busy", orb $2, gdt + TSS_OTHER + 5
        ALTER "task is 16-bit, limit 0x2a"
        movw $0x2a, gdt + TSS_OTHER
        andb $~8, gdt + TSS_OTHER + 5
        ret
        ALTER "task is data", movb $0x93, gdt + TSS_OTHER + 5
        ALTER "own limit 0x5e", movw $0x5e, gdt + TSS_MAIN
        .section .cases, "a"
        .long 0, 0
        .text

main:   movw $0xee00, idt + 0x80 * 8 + 4
        # The causes, and after each the flags that the old task kept.
        mov $cases, %ebp
1:      cmpl $0, (%ebp)
        je 9f
        xor %ebx, %ebx
2:      mov 4(%ebp), %esi
        call puts
        mov cause_names(, %ebx, 4), %esi
        call puts
        push %ebp
        push %ebx
        call fresh
        mov 4(%esp), %ebp
        call *(%ebp)
        # What the case did to its own task's descriptor counts from here on.
        mov $TSS_MAIN, %eax
        andb $~2, gdt + TSS_MAIN + 5
        ltr %ax
        mov (%esp), %ebx
        TRY 3f
        mov causes(, %ebx, 4), %eax
        mov %eax, place_base
        jmp *causes(, %ebx, 4)
3:      call be_main
        movl $0, tss_main
        clts
        call case_end
        pop %ebx
        pop %ebp
        inc %ebx
        cmp $6, %ebx
        jne 2b
        add $8, %ebp
        jmp 1b
9:      call others
        ret

others:
        call fresh
        movl $-1, hide
        SAY "everything of a fault: "
        movl $0x1230, tss_other + 0x4c
        TRY 1f
        ud2
1:      call again
        movl $~0x10000, hide
        movl $arrived, place_base
        SAY "trap flag: "
        movw $1, tss_other + 0x64
        TRY 1f
        ljmp $TSS_OTHER, $0
1:      call again
        SAY "local breakpoints: "
        mov $0x4ff, %eax
        mov %eax, %dr7
        TRY 1f
        ljmp $TSS_OTHER, $0
1:      RESULT %dr7
        mov $0x400, %eax
        mov %eax, %dr7
        call again
        SAY "virtual-8086 task: "
        movl $0x23002, tss_other + 0x24
        movl $0x2000, tss_other + 0x4c
        movl $0, tss_other + 0x20
        movl $0x3000, tss_other + 0x50
        movl $0x100, tss_other + 0x38
        movl $0x4000, tss_other + 0x54
        movl $0x90909090, 0x20000
        movl $0x909080cd, 0x20004
        TRY 1f
        ljmp $TSS_OTHER, $0
1:      call again
        movl $user_arrived, place_base
        SAY "user task: "
        movl $LDT, tss_other + 0x60
        movl $LDT_USER_CODE, tss_other + 0x4c
        .irp at, 0x48, 0x50, 0x54, 0x58, 0x5c
        movl $LDT_USER_DATA, tss_other + \at
        .endr
        movl $user_arrived, tss_other + 0x20
        TRY 1f
        lcall $TSS_OTHER, $0
1:      call again
        movl $arrived, place_base
        xor %eax, %eax
        mov %eax, %dr6
        SAY "single step: "
        movl $0x3102, tss_other + 0x24
        TRY 1f
        ljmp $TSS_OTHER, $0
1:      call again
        ret
user_arrived:
        mov %ds, %eax
        int $0x80
again:  pushl $2
        popf
        call show_main
        call be_main
        clts
        call fresh
        jmp case_end
# The main task is the current one again, whatever became of the others.
be_main:
        xor %eax, %eax
        lldt %ax
        mov $tss_main, %eax
        mov $TSS_MAIN, %ecx
        mov $0x8900, %edx
        call set_tss
        mov $TSS_MAIN, %eax
        ltr %ax
        ret
show_main:
        str %ax
        movzx %ax, %eax
        call hex
        RESULT "tss_other + 0x24"
        RESULT tss_other
        ret

        .section .rodata
causes: .long by_jump, by_call, by_gate, by_int, by_ud, by_iret
cause_names:
        .long 1f, 2f, 3f, 4f, 5f, 6f
1:      .asciz ", jump: "
2:      .asciz ", call: "
3:      .asciz ", gate: "
4:      .asciz ", interrupt: "
5:      .asciz ", exception: "
6:      .asciz ", return: "
        .data
used:   .long 0
hide:   .long ~0x10000
saved_ds:
        .long 0
        .bss
        .align 4096
ldt:    .skip 4096
        .skip 4096
other_stack:
        .skip 4096
fault_stack:
tss_fault:
        .skip 8192
