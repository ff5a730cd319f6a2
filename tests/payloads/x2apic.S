# The local APIC in x2APIC mode: how it is entered and left, its registers, interrupts to the processor itself.
        .include "common.inc"

        .macro WRITE n, low, high=0
        mov $\n, %ecx
        mov $\low, %eax
        mov $\high, %edx
        wrmsr
        .endm
        # A write, and what is read then.
        .macro TRIES n, low, high=0
        BEGIN "\n gets \high:\low"
        WRITE \n, \low, \high
        rdmsr
        call pair
        END
        .endm
pair:   push %eax
        mov %edx, %eax
        call hex
        pop %eax
        jmp hex

on_interrupt:
        push %eax
        push %ecx
        push %edx
        SAY "interrupt "
        mov $0x80b, %ecx
        xor %eax, %eax
        xor %edx, %edx
        wrmsr
        pop %edx
        pop %ecx
        pop %eax
        iret
on_nmi: push %eax
        SAY "nmi "
        pop %eax
        iret

        .macro BASE name, low, high=0
        BEGIN "\name"
        WRITE 0x1b, \low, \high
        rdmsr
        call pair
        END
        .endm
# Every register: what it reads as.
registers:
        mov $0x800, %ebx
1:      mov %ebx, %eax
        call hex
        movl $1, brief
        TRY 2f
        cmp $0x839, %ebx        # the timer's count runs
        je 2f
        mov %ebx, %ecx
        rdmsr
        call pair
2:      call newline
        inc %ebx
        cmp $0x842, %ebx
        jne 1b
        movl $0, brief
        ret
# Every register: 0, 1, bit 31 and bit 32 written to it.
writes: mov $0x800, %ebx
1:      cmp $0x80b, %ebx        # EOI and commands have their own cases
        je 3f
        cmp $0x830, %ebx
        je 3f
        cmp $0x83f, %ebx
        je 3f
        mov %ebx, %eax
        call hex
        movl $1, brief
        .irp low, 0, 0x10, 0x10000, 0x80000000
        TRY 2f
        mov %ebx, %ecx
        xor %edx, %edx
        mov $\low, %eax
        wrmsr
        rdmsr
        cmp $0x839, %ebx
        je 2f
        call pair
2:      mov $'|', %al
        call putc
        .endr
        TRY 2f
        mov %ebx, %ecx
        mov $1, %edx
        xor %eax, %eax
        wrmsr
        rdmsr
        call pair
2:      call newline
3:      inc %ebx
        cmp $0x842, %ebx
        jne 1b
        movl $0, brief
        ret

main:   movw $0xee00, idt + 0x80 * 8 + 4
        GATE 0x70, on_interrupt
        GATE 0x71, on_interrupt
        GATE 2, on_nmi
        SAY "feature: "
        mov $1, %eax
        cpuid
        mov %ecx, %eax
        and $0x200000, %eax
        call hex
        call newline
        SAY "xAPIC mode\n"
        movl $0x1ff, 0xfee000f0
        BEGIN "registers are in memory"
        mov $0x802, %ecx
        rdmsr
        END
        BEGIN "writes too"
        mov $0x808, %ecx
        wrmsr
        END
        BASE "as it is", 0xfee00900
        BASE "reserved bit 9", 0xfee00b00
        BASE "reserved bit 0", 0xfee00901
        BASE "address beyond", 0xfee00900, 0x10000
        BASE "extended without enable", 0xfee00500
        BASE "x2apic", 0xfee00d00
        BASE "again", 0xfee00d00
        BASE "back to xapic", 0xfee00900
        # What firmware left in the command register is written over: to others, of which there are none.
        WRITE 0x830, 0xc4070
        call registers
        call writes
        # As software finds it after reset but enabled.
        WRITE 0x80f, 0x1ff
        WRITE 0x808, 0
        WRITE 0x835, 0x10000
        WRITE 0x836, 0x10000
        WRITE 0x832, 0x10000
        SAY "interrupts\n"
        BEGIN "self"
        sti
        WRITE 0x83f, 0x70
        nop
        nop
        cli
        END
        BEGIN "self, held"
        WRITE 0x83f, 0x71
        mov $0x823, %ecx
        rdmsr
        call pair
        sti
        nop
        nop
        cli
        mov $0x823, %ecx
        rdmsr
        call pair
        END
        BEGIN "by priority"
        WRITE 0x808, 0x70
        sti
        WRITE 0x83f, 0x71
        nop
        nop
        SAY "low "
        WRITE 0x808, 0x60
        nop
        nop
        cli
        WRITE 0x808, 0
        END
        BEGIN "command to itself"
        sti
        WRITE 0x830, 0x4070, 0
        nop
        nop
        cli
        rdmsr
        call pair
        END
        BEGIN "command to self"
        sti
        WRITE 0x830, 0x44070, 0x12345678
        nop
        nop
        cli
        rdmsr
        call pair
        END
        BEGIN "command to all"
        sti
        WRITE 0x830, 0x84070
        nop
        nop
        cli
        END
        BEGIN "command to others"
        sti
        WRITE 0x830, 0xc4070
        nop
        nop
        cli
        END
        BEGIN "command to every processor"
        sti
        WRITE 0x830, 0x4070, 0xffffffff
        nop
        nop
        cli
        END
        BEGIN "command to nobody"
        sti
        WRITE 0x830, 0x4070, 0x77
        nop
        nop
        cli
        END
        BEGIN "logical"
        sti
        WRITE 0x830, 0x4870, 1
        nop
        nop
        cli
        END
        BEGIN "logical, another"
        sti
        WRITE 0x830, 0x4870, 2
        nop
        nop
        cli
        END
        BEGIN "logical, another cluster"
        sti
        WRITE 0x830, 0x4870, 0x10001
        nop
        nop
        cli
        END
        BEGIN "nmi by command"
        WRITE 0x830, 0x4400, 0
        nop
        nop
        END
        TRIES 0x80b, 0
        CASE "end of interrupt", WRITE 0x80b, 0
        CASE "end of interrupt, not 0", WRITE 0x80b, 1
        CASE "self, beyond 8 bits", WRITE 0x83f, 0x170
        CASE "self, above", WRITE 0x83f, 0x70, 1
        BEGIN "read self"
        mov $0x83f, %ecx
        rdmsr
        END
        CASE "command, reserved", WRITE 0x830, 0x100000
        SAY "leaving\n"
        USER "user"
        mov $0x802, %ecx
        rdmsr
        END_USER
        BASE "off", 0xfee00100
        BEGIN "registers while off"
        mov $0x802, %ecx
        rdmsr
        END
        BASE "x2apic at once", 0xfee00d00
        BASE "xapic", 0xfee00900
        SAY "identity: "
        SHOW 0xfee00020
        SHOW 0xfee000d0
        SHOW 0xfee000e0
        SHOW 0xfee000f0
        call newline
        BASE "x2apic", 0xfee00d00
        BASE "extended alone", 0xfee00400
        BASE "off again", 0xfee00100
        BASE "on again", 0xfee00900
        ret
