# Paging of 32-bit mode: the rights of every combination of directory and table entry, under CR0.WP, SMEP and SMAP, in
# the two-level format with 4 MiB pages and in the PAE format with 2 MiB pages and NX.
        .include "common.inc"
        .include "rights.inc"

        .set PAGE, 0x40000000
        # The first megabytes again, for user code.
        .set ALIAS, 0x60000000
        # The frame of the large page under test.
        .set LARGE, 0x800000

# Runs the code at eax, in the alias, at CPL 3.
alias_user:
        mov $USER_DATA32, %ecx
        mov %ecx, %ds
        push %ecx
        push $stack_user + ALIAS
        push $0x3002
        push $USER_CODE32
        add $ALIAS, %eax
        push %eax
        iret

        ACCESSES %eax

# The settings of `config`: CR4.SMEP, CR4.SMAP, CR0.WP (AC is bit 3).
configure:
        mov %cr4, %eax
        and $~0x300000, %eax
        mov config, %ecx
        and $3, %ecx
        shl $20, %ecx
        or %ecx, %eax
        mov %eax, %cr4
        mov %cr0, %eax
        and $~0x10000, %eax
        mov config, %ecx
        and $4, %ecx
        shl $14, %ecx
        or %ecx, %eax
        mov %eax, %cr0
        mov config, %eax
        call hex
        jmp newline

# Every access to the page that `combo` describes.
row:    mov combo, %eax
        call hex
        .irp what, read, write, exec
        .irp who, kernel, user
        call *set_entries
        xor %eax, %eax
        mov %eax, %cr2
        TRY 3f
        .ifc \who, kernel
        testb $8, config
        jz 4f
        pushf
        orl $0x40000, (%esp)
        popf
4:      call do_\what
        mov $'+', %al
        call putc
        .else
        mov $do_user_\what, %eax
        jmp alias_user
        .endif
3:      call after
        .endr
        .endr
        jmp newline

# Accessed and dirty bits of both levels; a mark when CR2 is neither 0 nor the page.
after:  pushf
        andl $~0x40000, (%esp)
        popf
        call *read_entries
        and $15, %eax
        call hex
        mov %cr2, %eax
        test %eax, %eax
        jz 1f
        cmp $PAGE, %eax
        je 1f
        mov $'*', %al
        call putc
1:      ret

# Two levels. combo: P, RW, US of the table's entry, then of the directory's, PS.
set_two:
        mov combo, %eax
        mov %eax, %ecx
        and $7, %eax
        or $page, %eax
        mov %eax, pt
        mov %ecx, %eax
        shr $3, %eax
        and $7, %eax
        test $0x40, %cl
        jnz 1f
        or $pt, %eax
        jmp 2f
1:      or $(LARGE | 0x80), %eax
2:      mov %eax, pd + (PAGE >> 22) * 4
        invlpg PAGE
        ret
read_two:
        mov pt, %eax
        mov pd + (PAGE >> 22) * 4, %ecx
fold:   shr $5, %eax
        and $3, %eax
        shr $3, %ecx
        and $0xc, %ecx
        or %ecx, %eax
        ret

# PAE. combo: P, RW, US, NX of the table's entry, then of the directory's, PS.
set_pae:
        mov combo, %eax
        mov %eax, %ecx
        and $7, %eax
        or $page, %eax
        mov %eax, pt
        mov %ecx, %eax
        and $8, %eax
        shl $28, %eax
        mov %eax, pt + 4
        mov %ecx, %eax
        shr $4, %eax
        and $7, %eax
        test $0x100, %ecx
        jnz 1f
        or $pt, %eax
        jmp 2f
1:      or $(LARGE | 0x80), %eax
2:      mov %eax, pd1
        and $0x80, %ecx
        shl $24, %ecx
        mov %ecx, pd1 + 4
        invlpg PAGE
        ret
read_pae:
        mov pt, %eax
        mov pd1, %ecx
        jmp fold

# Accesses that end in a page with entry eax, and begin in the page under test, which may be written.
        .macro CROSSING
        mov %eax, pt + ENTRY
        movl $page + 7, pt
        invlpg PAGE
        invlpg PAGE + 4096
        CASE read, mov PAGE + 4093, %eax
        movb $0x11, page + 4095
        CASE write, movl $0, PAGE + 4093
        CASE modify, addl $1, PAGE + 4094
        CASE exchange, xchg %eax, PAGE + 4093
        CASE locked, lock incl PAGE + 4094
        mov $PAGE + 4090, %edi
        mov $16, %ecx
        cld
        BEGIN string
        rep stosb
        END
        SHOW %edi
        SHOW %ecx
        movzbl page + 4095, %eax
        call hex
        call newline
        BEGIN "user write"
        mov $cross_user, %eax
        jmp alias_user
        END
        .endm
cross_user:
        movl $0, PAGE + 4093
        int $0x80

main:
        movw $0xee00, idt + 0x80 * 8 + 4
        movb $0xc3, page
        movb $0xc3, LARGE
        SAY "two levels\n"
        movl $0x83, pd
        movl $0x87, pd + (ALIAS >> 22) * 4
        movl $set_two, set_entries
        movl $read_two, read_entries
        mov %cr4, %eax
        or $0x10, %eax
        mov %eax, %cr4
        mov $pd, %eax
        mov %eax, %cr3
        mov %cr0, %eax
        or $0x80000000, %eax
        mov %eax, %cr0
        movl $1, brief
        movl $0, config
1:      call configure
        movl $0, combo
2:      call row
        incl combo
        cmpl $0x40, combo
        jne 2b
3:      call row
        addl $8, combo
        cmpl $0x80, combo
        jne 3b
        incl config
        cmpl $16, config
        jne 1b
        movl $0, config
        call configure

        SAY "bits of 4 MiB pages\n"
        movl $0, brief
        mov $12, %ebx
1:      mov %ebx, %eax
        call hex
        mov $1, %eax
        mov %ebx, %ecx
        shl %cl, %eax
        or $(LARGE | 0x83), %eax
        mov %eax, pd + (PAGE >> 22) * 4
        invlpg PAGE
        movl $1, brief
        # Bits 13 to 20 are bits 32 to 39 of the address, where there is no memory.
        TRY 2f
        mov PAGE, %eax
        SAY "+ "
2:      call newline
        inc %ebx
        cmp $22, %ebx
        jne 1b
        movl $0, brief
        SAY "crossing\n"
        movl $pt + 7, pd + (PAGE >> 22) * 4
        .set ENTRY, 4
        .irp entry, 0, page2 + 1, page2 + 3, page2 + 5, page2 + 7
        mov $\entry, %eax
        call crossing
        .endr
        mov %cr0, %eax
        or $0x10000, %eax
        mov %eax, %cr0
        .irp entry, page2 + 1, page2 + 5
        mov $\entry, %eax
        call crossing
        .endr
        mov %cr0, %eax
        and $0x7ffeffff, %eax
        mov %eax, %cr0

        SAY "PAE\n"
        movl $0x83, pd0
        movl $0x200083, pd0 + 8
        movl $0x87, pd1 + 0x100 * 8
        movl $0x200087, pd1 + 0x101 * 8
        movl $pd0 + 1, pdpt
        movl $pd1 + 1, pdpt + 8
        movl $set_pae, set_entries
        movl $read_pae, read_entries
        mov %cr4, %eax
        and $~0x10, %eax
        or $0x20, %eax
        mov %eax, %cr4
        mov $pdpt, %eax
        mov %eax, %cr3
        mov %cr0, %eax
        or $0x80000000, %eax
        mov %eax, %cr0
        movl $1, brief
        movl $0, nxe
0:      mov $0xc0000080, %ecx
        rdmsr
        and $~0x800, %eax
        or nxe, %eax
        wrmsr
        movl $0, config
1:      call configure
        movl $0, combo
2:      call row
        incl combo
        cmpl $0x100, combo
        jne 2b
3:      call row
        addl $0x10, combo
        cmpl $0x200, combo
        jne 3b
        # Without NXE only the settings that matter: those of the format's error codes.
        cmpl $0, nxe
        jne 4f
        incl config
        cmpl $2, config
        jne 1b
        movl $0x800, nxe
        jmp 0b
4:      incl config
        cmpl $16, config
        jne 1b
        movl $0, config
        call configure

        SAY "bits of 2 MiB pages\n"
        mov $8, %ebx
1:      mov %ebx, %eax
        call hex
        movl $(LARGE | 0x83), pd1
        movl $0, pd1 + 4
        bts %ebx, pd1
        invlpg PAGE
        TRY 2f
        mov PAGE, %eax
        SAY "+ "
2:      call newline
        inc %ebx
        cmp $21, %ebx
        jne 3f
        mov $40, %ebx
3:      cmp $63, %ebx
        jne 1b

        movl $0, brief
        .irp bit, 1, 2, 3, 4, 5, 6, 8, 9, 40, 52, 63
        movl $1, pdpt + 16
        movl $0, pdpt + 20
        btsl $(\bit & 31), pdpt + 16 + (\bit / 32) * 4
        mov $pdpt, %eax
        CASE "pointer bit \bit", mov %eax, %cr3
        .endr
        # What is not present is not looked at.
        movl $0xffe, pdpt + 16
        movl $-1, pdpt + 20
        mov $pdpt, %eax
        CASE "pointer not present", mov %eax, %cr3
        CASE "read", mov 0x80000000, %al
        CASE "write", mov %al, 0xc0000010
        # The pointers are loaded with CR3, not with the access.
        movl $0, pdpt + 20
        movl $pd1 + 1, pdpt + 16
        CASE "pointer not loaded", mov 0xa0000000, %al
        mov %cr3, %eax
        CASE "load", mov %eax, %cr3
        CASE "pointer loaded", mov 0xa0000000, %al
        SAY "crossing\n"
        movl $pt + 7, pd1
        movl $0, pd1 + 4
        movl $0, pt + 4
        movl $0, pt + 12
        .irp entry, 0, page2 + 1, page2 + 5, page2 + 7
        mov $\entry, %eax
        call crossing_pae
        .endr
        mov %cr0, %eax
        and $0x7fffffff, %eax
        mov %eax, %cr0
        mov %cr4, %eax
        and $~0x20, %eax
        mov %eax, %cr4
        ret

        .set ENTRY, 4
crossing:
        CROSSING
        ret
        .set ENTRY, 8
crossing_pae:
        CROSSING
        ret

        .data
config: .long 0
combo:  .long 0
nxe:    .long 0
set_entries:
        .long 0
read_entries:
        .long 0
        .bss
        .align 4096
pd:     .skip 4096
pt:     .skip 4096
page:   .skip 4096
page2:  .skip 4096
pdpt:   .skip 4096
pd0:    .skip 4096
pd1:    .skip 4096
