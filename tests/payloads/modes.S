# Task switches, virtual-8086 mode, single steps and breakpoints, real mode and back.
        .include "common.inc"

        # The 32-bit TSS at edi: eip eax, flags, flat segments.
fill_tss:
        mov %eax, 0x20(%edi)
        movl $0x3002, 0x24(%edi)
        movl $0x11111111, 0x28(%edi)
        movl $0x22222222, 0x2c(%edi)
        movl $0x33333333, 0x30(%edi)
        movl $0x44444444, 0x34(%edi)
        movl $other_stack, 0x38(%edi)
        movl $0x55555555, 0x3c(%edi)
        movl $DATA32, 0x48(%edi)
        movl $CODE32, 0x4c(%edi)
        movl $DATA32, 0x50(%edi)
        movl $DATA32, 0x54(%edi)
        movl $DATA32, 0x58(%edi)
        movl $DATA32, 0x5c(%edi)
        movl $0, 0x60(%edi)
        movl $0x680000, 0x64(%edi)
        ret

tasks:
        SAY "task: jump\n"
        mov $tss_other, %edi
        mov $in_other, %eax
        call fill_tss
        mov $0xabcd, %ebx
        ljmp $TSS_OTHER, $0
        SAY "back\n"
        call show_tasks
        SAY "task: call and iret\n"
        mov $tss_other, %edi
        mov $in_called, %eax
        call fill_tss
        lcall $TSS_OTHER, $0
        SAY "back\n"
        pushf
        pop %eax
        call hex
        mov %cr0, %eax
        call hex
        clts
        call show_tasks
        SAY "task: busy\n"
        TRY 1f
        ljmp $TSS_MAIN, $0
1:      TRY 1f
        lcall $TSS_MAIN, $0
1:      SAY "task: iret with NT and a link that is not busy\n"
        movw $TSS_OTHER, tss_main
        TRY 1f
        pushf
        orl $0x4000, (%esp)
        popf
        iret
1:      pushf
        andl $~0x4000, (%esp)
        popf
        SAY "task: gate by interrupt, with a fault's code\n"
        movl $TSS_OTHER << 16, idt + 13 * 8
        movl $0x8500, idt + 13 * 8 + 4
        mov $tss_other, %edi
        mov $in_gp, %eax
        call fill_tss
        TRY 1f
        mov $0x1230, %eax
        mov %ax, %ds
1:      SAY "after\n"
        call show_tasks
        # The handler's stub again.
        mov $stubs + 13 * 16, %eax
        mov %eax, %edx
        and $0xffff, %eax
        or $(CODE32 << 16), %eax
        mov %eax, idt + 13 * 8
        and $0xffff0000, %edx
        or $0x8e00, %edx
        mov %edx, idt + 13 * 8 + 4
        SAY "task: 16-bit\n"
        mov $tss_16, %edi
        movw $0x1800, 0x0e(%edi)
        movw $0x3002, 0x10(%edi)
        movw $0x1111, 0x12(%edi)
        movw $0x2222, 0x14(%edi)
        movw $0x9000, 0x1a(%edi)
        movw $DATA32, 0x22(%edi)
        movw $CODE32, 0x24(%edi)
        movw $DATA32, 0x26(%edi)
        movw $DATA32, 0x28(%edi)
        movw $0, 0x2a(%edi)
        # At 0x1800: jmp *in_16_at
        movw $0x25ff, 0x1800
        movl $in_16_at, 0x1802
        lcall $TSS_16, $0
        SAY "back\n"
        call show_tasks
        SAY "task: through a task gate\n"
        movl $TSS_OTHER << 16, gdt + TSS_GATE
        movl $0x8500, gdt + TSS_GATE + 4
        mov $tss_other, %edi
        mov $in_called, %eax
        call fill_tss
        lcall $TSS_GATE, $0
        SAY "back\n"
        clts
        SAY "task: bad segments\n"
        movl $1, no_place
        .irp at, 0x48, 0x58
        .irp selector, 0, USER_DATA32, TSS_MAIN, 0x1230, CODE32
        mov $tss_other, %edi
        mov $in_bad, %eax
        call fill_tss
        movl $\selector, \at(%edi)
        TRY 1f
        lcall $TSS_OTHER, $0
1:      call back_to_main
        .endr
        .endr
        movl $0, no_place
        SAY "task: limit\n"
        movw $0x66, gdt + TSS_OTHER
        TRY 1f
        lcall $TSS_OTHER, $0
1:      movw $0xfff, gdt + TSS_OTHER
        SAY "task: not present\n"
        andb $0x7f, gdt + TSS_OTHER + 5
        TRY 1f
        lcall $TSS_OTHER, $0
1:      orb $0x80, gdt + TSS_OTHER + 5
        ret
back_to_main:
        # Whatever the task register is now, it is the first task's again.
        clts
        andb $~2, gdt + TSS_MAIN + 5
        andb $~2, gdt + TSS_OTHER + 5
        str %ax
        call hex
        mov $DATA32, %eax
        mov %eax, %ds
        mov %eax, %es
        mov %eax, %fs
        mov %eax, %gs
        mov %eax, %ss
        mov $TSS_MAIN, %eax
        ltr %ax
        pushf
        andl $~0x4000, (%esp)
        popf
        ret

in_other:
        pusha
        SAY "in the other task\n"
        popa
        call hex
        SHOW %ebx
        SHOW %ecx
        str %ax
        call hex
        mov %cr0, %eax
        call hex
        clts
        ljmp $TSS_MAIN, $0

in_called:
        pushf
        pop %eax
        call hex
        clts
        movzwl tss_other, %eax
        call hex
        iret
        jmp in_called

in_gp:  pop %eax
        call hex
        clts
        # The faulting instruction is left out.
        mov resume, %eax
        mov %eax, tss_main + 0x20
        iret

in_16:  pushf
        pop %eax
        call hex
        mov %ecx, %eax
        call hex
        clts
        iret

in_bad: SAY "arrived\n"
        int3

show_tasks:
        andl $~0x10000, tss_main + 0x24
        .irp at, 0, 0x20, 0x24, 0x28, 0x34, 0x38, 0x48, 0x4c
        SHOW tss_main + \at
        .endr
        call newline
        .irp at, 0, 0x20, 0x24, 0x28, 0x34, 0x38, 0x48, 0x4c
        SHOW tss_other + \at
        .endr
        .irp selector, TSS_MAIN, TSS_OTHER, TSS_16
        SHOW gdt + \selector + 4
        .endr
        jmp newline

# Virtual-8086 mode: code at 0x2000, stack at 0x3000:0x100. The bytes of each case are copied there.
v86_case:
        mov $0x2000, %edi
        mov $16, %ecx
        rep movsb
        movl $0x02000001, 0x30000 + 0xf0
        movl $0x00003202, 0x30000 + 0xf4
        TRY 1f
        V86_FRAME 0x200
        iret
1:      SHOW 0x30000 + 0xec
        SHOW 0x30000 + 0xf0
        jmp newline

        .macro V86 bytes:vararg
        .section .rodata
9:      .byte \bytes, 0xcd, 0x80, 0xf4, 0xf4, 0xf4
        .skip 12
        .text
        mov $9b, %esi
        call v86_case
        .endm

v86:
        .irp flags, 0x20002, 0x23002, 0x20202, 0x23202, 0x123202
        SAY "flags "
        mov $\flags, %ebx
        SHOW %ebx
        call newline
        V86 0x90
        V86 0xfa                # cli
        V86 0xfb                # sti
        V86 0xfa, 0x9c          # cli; pushf
        V86 0xfb, 0x9c          # sti; pushf
        V86 0x9c                # pushf
        V86 0x66, 0x9c          # pushfd
        V86 0x9d, 0x9c          # popf; pushf
        V86 0x66, 0x9d, 0x9c
        V86 0xcf                # iret
        V86 0xcc                # int3
        V86 0xcd, 0x60          # int 0x60
        V86 0xf4                # hlt
        V86 0x0f, 0x20, 0xc0    # mov eax, cr0
        V86 0x0f, 0x01, 0xe0    # smsw ax
        V86 0x0f, 0x00, 0xc8    # str ax
        V86 0x0f, 0x02, 0xc0    # lar
        V86 0x63, 0xc0          # arpl
        V86 0x0f, 0x01, 0x16, 0, 0 # lgdt
        V86 0xe4, 0x80          # in al, 0x80
        V86 0xe6, 0x80          # out 0x80, al
        V86 0xee                # out dx, al
        V86 0x8e, 0xd8, 0x8c, 0xd8, 0x50 # mov ds, ax; mov ax, ds; push ax
        V86 0xea, 0x05, 0x00, 0x00, 0x02 # jmp far
        V86 0x0f, 0x34          # sysenter
        V86 0x0f, 0x0b
        .endr
        ret

debug:
        SAY "single step\n"
        TRY 1f
        pushf
        orl $0x100, (%esp)
        popf
        nop
        nop
1:      TRY 1f
        pushf
        orl $0x100, (%esp)
        mov $DATA32, %ecx
        popf
        jmp 2f
        nop
2:      nop
1:      SAY "breakpoints\n"
        mov $3f, %eax
        mov %eax, %dr0
        mov $word, %eax
        mov %eax, %dr1
        mov $word + 4, %eax
        mov %eax, %dr2
        # 0: execution, 1: writes of 4 bytes, 2: any access to 2 bytes
        mov $0x07d0002a, %eax
        mov %eax, %dr7
        xor %eax, %eax
        mov %eax, %dr6
        TRY 1f
3:      nop
        SAY "missed\n"
1:      TRY 1f
        mov word, %eax
        mov %eax, word + 8
        mov %eax, word
        SAY "missed\n"
1:      TRY 1f
        movb $1, word + 3
        SAY "missed\n"
1:      TRY 1f
        mov word + 5, %al
        SAY "missed\n"
1:      TRY 1f
        mov word + 6, %al
        SAY "right\n"
        push word + 2
        SAY "missed\n"
1:
        mov $0x400, %eax
        mov %eax, %dr7
        TRY 1f
        mov %dr4, %eax
        mov %cr4, %eax
        or $8, %eax
        mov %eax, %cr4
        mov %dr4, %eax
1:      mov %cr4, %eax
        and $~8, %eax
        mov %eax, %cr4
        ret

real:
        SAY "real mode\n"
        # The code below, copied to 0x6000.
        mov $real_code, %esi
        mov $0x6000, %edi
        mov $real_end - real_code, %ecx
        rep movsb
        mov %esp, saved_sp
        mov $DATA16, %eax
        mov %eax, %ds
        mov %eax, %es
        mov %eax, %fs
        mov %eax, %gs
        mov %eax, %ss
        ljmp $CODE16, $0x6000
from_real:
        mov $DATA32, %eax
        mov %eax, %ds
        mov %eax, %es
        mov %eax, %fs
        mov %eax, %gs
        mov %eax, %ss
        mov saved_sp, %esp
        lidt idtr
        .irp at, 0, 4, 8, 12, 16, 20, 24, 28
        SHOW 0x7800 + \at
        .endr
        jmp newline

        .code16
real_code:
        mov %cr0, %eax
        and $~1, %al
        mov %eax, %cr0
        ljmp $0, $(1f - real_code + 0x6000)
1:      xor %ax, %ax
        mov %ax, %ds
        mov %ax, %es
        mov %ax, %ss
        mov $0x7000, %sp
        lidtw (real_idt - real_code + 0x6000)
        # Vectors 0x60 and 13 and 6: what was pushed is kept.
        movw $(real_handler - real_code + 0x6000), 0x60 * 4
        movw $0, 0x60 * 4 + 2
        movw $(real_handler - real_code + 0x6000), 13 * 4
        movw $0, 13 * 4 + 2
        movw $(real_handler - real_code + 0x6000), 6 * 4
        movw $0, 6 * 4 + 2
        mov $0x7800, %di
        mov $4f - real_code + 0x6000, %bx
        int $0x60
4:      mov $3f - real_code + 0x6000, %bx
        ud2
3:      lmsw %bx
        smsw %ax
        mov %cr0, %eax
        or $1, %al
        lgdtl (real_gdt - real_code + 0x6000)
        mov %eax, %cr0
        ljmpl $CODE32, $from_real
real_handler:
        pop %ax
        stosw
        pop %ax
        stosw
        pop %ax
        stosw
        pushf
        pop %ax
        stosw
        jmp *%bx
real_idt:
        .word 0x3ff
        .long 0
real_gdt:
        .word gdt_end - gdt - 1
        .long gdt
real_end:
        .code32

main:
        movw $0xee00, idt + 0x80 * 8 + 4
        movw $0xee00, idt + 3 * 8 + 4
        call tasks
        call v86
        call debug
        call real
        ret

        .data
        .align 16
word:   .long 0, 0, 0, 0
saved_sp:
        .long 0
in_16_at:
        .long in_16
        .bss
        .skip 4096
other_stack:
        .text
