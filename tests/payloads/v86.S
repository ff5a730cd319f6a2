# Virtual-8086 mode: ports, interrupts into the program itself, the virtual interrupt flag (CR4.VME and CR4.PVI).
        .include "common.inc"

# One program: the bytes at esi, run at 0x2000:0 with the flags in ebx and the 8086 stack at 0x3000:0xf0. Shown: how it
# ends, the registers and the words on its stack.
v86_case:
        mov $0x20000, %edi
        mov $24, %ecx
        rep movsb
        mov v86_image, %eax
        mov %eax, 0x300f4
        movl $0x20000100, 0x300f0
        mov %eax, 0x300d8
        movl $0x2000, 0x300d4
        movl $0x100, 0x300d0
        movl $0, 0x300ec
        movl $0, 0x300e8
        movl $0x20000, place_base
        TRY 1f
        V86_FRAME 0x2000
        mov $0x180, %edi
        mov $0x180, %esi
        iret
1:      SHOW 0x300ec
        SHOW 0x300e8
        call case_end
        ret

        .macro V86 name, bytes:vararg
        .section .rodata
6:      .byte \bytes, 0xcd, 0x80, 0xf4, 0xf4, 0xf4
        .skip 16
        .text
        SAY "\name: "
        mov $6b, %esi
        call v86_case
        .endm

# The program's own handler of interrupts 0x60 to 0x67: at 0x2000:0x200, it pushes its flags and ends.
        .macro EACH
        V86 "cli", 0xfa
        V86 "sti", 0xfb
        V86 "cli pushf", 0xfa, 0x9c
        V86 "sti pushf", 0xfb, 0x9c
        V86 "pushf", 0x9c
        V86 "pushfd", 0x66, 0x9c
        V86 "popf pushf", 0x58, 0x58, 0x9d, 0x9c
        V86 "popfd pushf", 0x58, 0x58, 0x66, 0x9d, 0x9c
        V86 "iret", 0xcf
        V86 "iretd", 0xbc, 0xd0, 0, 0x66, 0xcf
        V86 "int3", 0xcc
        V86 "into", 0xb0, 0x7f, 0xfe, 0xc0, 0xce
        V86 "int 0x60", 0xcd, 0x60
        V86 "int 0x61", 0xcd, 0x61
        V86 "hlt", 0xf4
        .endm

programs:
        .irp image, 0x200, 0x7102
        .irp flags, 0x20002, 0x23002, 0xa0202, 0x1a0002
        SAY "image \image flags \flags\n"
        movl $\image, v86_image
        mov $\flags, %ebx
        call each
        .endr
        .endr
        ret
each:   EACH
        ret

        .macro PROTECTED name, flags, code:vararg
        SAY "\name, flags \flags: "
        movl $7f, place_base
        TRY 8f
        push $USER_DATA32
        push $stack_user
        push $\flags
        push $USER_CODE32
        push $7f
        mov $USER_DATA32, %ecx
        mov %ecx, %ds
        mov %ecx, %es
        iret
7:      \code
        int $0x80
8:      call case_end
        .endm
        .macro POPF_ALL
        pushl $0x247ed7
        popf
        .endm
protected:
        .irp flags, 0x2, 0x3002, 0x80002, 0x100002, 0x180202
        PROTECTED "cli", \flags, cli
        PROTECTED "sti", \flags, sti
        PROTECTED "pushf", \flags, pushf
        PROTECTED "popf", \flags, POPF_ALL
        .endr
        ret

main:   movw $0xee00, idt + 0x80 * 8 + 4
        movw $0xee00, idt + 3 * 8 + 4
        movw $0xee00, idt + 4 * 8 + 4
        movw $0xee00, idt + 0x60 * 8 + 4
        # The map of interrupts (32 bytes: 0x60 goes to the program, 0x61 and all others do not), then that of ports.
        mov $tss_main + 0x68, %edi
        mov $64, %ecx
        mov $0xff, %al
        rep stosb
        movb $0xfe, tss_main + 0x68 + 0xc
        movw $0x88, tss_main + 102
        movb $4, tss_main + 0x88 + 0x10
        # At 0x2000:0x100 (where IRET leads) and 0x2000:0x200: PUSHF, INT 0x80.
        movl $0x80cd9c, 0x20100
        movl $0x80cd9c, 0x20200
        movl $0x20000200, 0x60 * 4
        movl $0x20000200, 0x61 * 4
        movl $0xcccccccc, 0x30004
        SAY "ports\n"
        .irp flags, 0x20002, 0x23002
        mov $\flags, %ebx
        V86 "in 0x80", 0xe4, 0x80
        V86 "in 0x82", 0xe4, 0x82
        V86 "inw 0x81", 0xe5, 0x81
        V86 "inl 0x84", 0x66, 0xe5, 0x84
        V86 "inl 0x85", 0x66, 0xe5, 0x85
        V86 "out 0x80", 0xe6, 0x80
        V86 "out dx", 0xee
        V86 "insb", 0x6c
        V86 "outsw", 0x6f
        V86 "in 0x40", 0xe4, 0x40
        .endr
        SAY "segments\n"
        mov $0x23002, %ebx
        V86 "address beyond 64 KiB", 0x67, 0x66, 0xa1, 0, 0, 1, 0
        V86 "word at 0xffff", 0xa1, 0xff, 0xff
        V86 "push at 1", 0xbc, 1, 0, 0x50
        V86 "push at 0", 0xbc, 0, 0, 0x50, 0xbc, 0xe0, 0
        V86 "jump beyond 64 KiB", 0x66, 0xe9, 0, 0, 1, 0
        V86 "top of 1 MiB", 0xb8, 0xff, 0xff, 0x8e, 0xd8, 0xa1, 0x10, 0x00
        V86 "far call", 0x9a, 0, 2, 0, 0x20
        V86 "lldt", 0x0f, 0x00, 0xd0
        V86 "verr", 0x0f, 0x00, 0xe0
        V86 "sgdt", 0x0f, 0x01, 0x06, 0, 3
        V86 "lmsw", 0x0f, 0x01, 0xf0
        V86 "clts", 0x0f, 0x06
        V86 "wrmsr", 0x0f, 0x30
        V86 "rdtsc", 0x0f, 0x31, 0x31, 0xc0
        V86 "invlpg", 0x0f, 0x01, 0x38
        V86 "mov dr", 0x0f, 0x21, 0xc0
        V86 "sysexit", 0x0f, 0x35
        V86 "mov to cs", 0x8e, 0xc8
        V86 "icebp", 0xf1
        V86 "bound", 0xb8, 0xff, 0x7f, 0x62, 0x06, 0x50, 0x00
        SAY "without extensions\n"
        call programs
        call protected
        SAY "with extensions\n"
        BEGIN "cr4"
        mov %cr4, %eax
        or $3, %eax
        mov %eax, %cr4
        END
        call programs
        call protected
        # The map of interrupts may lie beyond the task state segment.
        .irp map, 0, 0x1f, 0x20, 0xfe0, 0x1000, 0xffff
        movw $\map, tss_main + 102
        mov $0x20002, %ebx
        V86 "int 0x60, map at \map", 0xcd, 0x60
        mov $0x23002, %ebx
        V86 "int 0x60 at iopl 3, map at \map", 0xcd, 0x60
        .endr
        mov %cr4, %eax
        and $~3, %eax
        mov %eax, %cr4
        ret

        .data
v86_image:
        .long 0
        .text
