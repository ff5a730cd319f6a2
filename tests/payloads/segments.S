# Segment loads and far transfers with every kind of descriptor.
        .include "common.inc"

# The descriptor for selector TEST: flat, with access byte bl.
set_test:
        movl $0x0000ffff, gdt + TEST
        movzx %bl, %eax
        shl $8, %eax
        or $0x00cf0000, %eax
        mov %eax, gdt + TEST + 4
        # What expands down is valid above its limit.
        mov %bl, %al
        and $0x1c, %al
        cmp $0x14, %al
        jne 1f
        movw $0, gdt + TEST
        andb $0xf0, gdt + TEST + 6
1:      ret

# A gate at TEST with access byte bl, to selector `gate_cs` and `landed`.
set_gate:
        mov $landed, %eax
        and $0xffff, %eax
        mov gate_cs, %edx
        shl $16, %edx
        or %edx, %eax
        mov %eax, gdt + TEST
        mov $landed, %eax
        and $0xffff0000, %eax
        movzx %bl, %edx
        shl $8, %edx
        or %edx, %eax
        or gate_count, %eax
        mov %eax, gdt + TEST + 4
        ret

# A gate arrives here.
landed:
        mov %ss, %eax
        mov %eax, %edi
        mov %cs, %esi
        mov %esp, %ebp
        int $0x80

main:
        movl $CODE32, gate_cs
        movw $0xee00, idt + 0x80 * 8 + 4
        # 16-bit gates lead to the low half of the address.
        mov $landed, %edi
        and $0xffff, %edi
        movw $0x25ff, (%edi)
        movl $landed_at, 2(%edi)
        SAY "loads\n"
        xor %ebx, %ebx
types:
        mov %ebx, %eax
        call hex
        call set_test
        movl $TEST, selector
        call all_loads
        movl $TEST + 3, selector
        call all_loads
        call newline
        inc %bl
        jnz types

        SAY "null\n"
        movl $0, selector
        call all_loads
        movl $3, selector
        call all_loads
        movl $0xfff8, selector
        call all_loads
        movl $TEST + 4, selector
        call all_loads
        call newline

        SAY "far\n"
        xor %ebx, %ebx
far_types:
        mov %ebx, %eax
        call hex
        call set_test
        test $0x10, %bl
        jnz 1f
        mov %bl, %al
        and $15, %al
        cmp $5, %al             # task gates and task state segments have their own payload
        je 2f
        cmp $1, %al
        je 2f
        cmp $3, %al
        je 2f
        cmp $9, %al
        je 2f
        cmp $11, %al
        je 2f
        call set_gate
1:      movl $TEST, selector
        call all_far
        movl $TEST + 3, selector
        call all_far
2:      call newline
        inc %bl
        jnz far_types

        SAY "call gates\n"
        # Targets with other privileges, parameters.
        mov $0xfb, %bl
        call set_test
        mov gdt + TEST, %eax
        mov %eax, gdt + TEST2
        mov gdt + TEST + 4, %eax
        mov %eax, gdt + TEST2 + 4
        .irp cs, CODE32, CODE32 + 3, USER_CODE32, TEST2, DATA32, 0, 0x800, TSS_MAIN
        .irp access, 0x8c, 0xec, 0xe4, 0x84, 0x0c
        movl $\cs, gate_cs
        movl $3, gate_count
        mov $\access, %bl
        call set_gate
        movl $TEST, selector
        call all_far
        call newline
        .endr
        .endr

        SAY "interrupt gates\n"
        xor %ebx, %ebx
int_types:
        mov %bl, %al
        and $0x1f, %al
        cmp $5, %al
        je 2f
        mov %ebx, %eax
        call hex
        movl $CODE32, gate_cs
        movl $0, gate_count
        call set_gate
        mov gdt + TEST, %eax
        mov %eax, idt + 0x60 * 8
        mov gdt + TEST + 4, %eax
        mov %eax, idt + 0x60 * 8 + 4
        mov $op_int, %edi
        mov $user_int, %eax
        call pair
        call newline
2:      inc %bl
        jnz int_types

        SAY "interrupt targets\n"
        .irp cs, CODE32, CODE32 + 3, USER_CODE32, TEST2, DATA32, 0, 0x800, TSS_MAIN
        movl $\cs, gate_cs
        mov $0xee, %bl
        call set_gate
        mov gdt + TEST, %eax
        mov %eax, idt + 0x60 * 8
        mov gdt + TEST + 4, %eax
        mov %eax, idt + 0x60 * 8 + 4
        mov $op_int, %edi
        mov $user_int, %eax
        call pair
        call newline
        .endr
        ret

# Runs edi at CPL 0 and eax at CPL 3.
pair:
        push %eax
        TRY 1f
        jmp *%edi
1:      call reload
        pop %eax
        TRY 2f
        jmp user
2:      call reload
        ret

reload:
        mov $DATA32, %eax
        mov %eax, %ds
        mov %eax, %es
        mov %eax, %fs
        mov %eax, %gs
        mov %eax, %ss
        ret

        .macro BOTH name
        mov $\name, %edi
        mov $user_\name, %eax
        call pair
        .endm

all_loads:
        mov selector, %ecx
        mov %ecx, %ebp
        .irp name, ds, ss, fs, lar, lsl, verr, verw
        BOTH op_\name
        .endr
        ret

all_far:
        .irp name, jump, call, retf, iret
        BOTH op_\name
        .endr
        ret

        # Each operation ends with interrupt 0x80, which shows the flags; registers are not shown, so what was read is
        # folded into them.
        .irp prefix, op, user_op
\prefix\()_ds:
        mov selector, %eax
        mov %ax, %ds
        mov (%esp), %eax
        int $0x80
\prefix\()_fs:
        mov selector, %eax
        mov %ax, %fs
        int $0x80
\prefix\()_ss:
        mov selector, %eax
        mov %ax, %ss
        nop
        push %eax
        pop %eax
        int $0x80
\prefix\()_lar:
        mov $0x5a5a5a5a, %eax
        lar selector, %eax
        call fold
        int $0x80
\prefix\()_lsl:
        mov $0x5a5a5a5a, %eax
        lsl selector, %eax
        call fold
        int $0x80
\prefix\()_verr:
        verr selector
        int $0x80
\prefix\()_verw:
        verw selector
        int $0x80
\prefix\()_jump:
        mov selector, %eax
        mov %eax, pointer + 4
        movl $landed, pointer
        ljmp *pointer
\prefix\()_call:
        mov selector, %eax
        mov %eax, pointer + 4
        movl $landed, pointer
        push $0x11
        push $0x22
        push $0x33
        lcall *pointer
\prefix\()_retf:
        push $DATA32
        push $stack_user
        pushl selector
        push $landed
        lret
\prefix\()_iret:
        push $USER_DATA32
        push $stack_user
        pushl $2
        pushl selector
        push $landed
        iret
        .endr

op_int: int $0x60
user_int:
        int $0x60

# Shows eax (at any privilege: ports are open by IOPL 3).
fold:
        pushf
        call hex
        popf
        ret

        .data
selector:
        .long 0
gate_cs:
        .long 0
gate_count:
        .long 0
landed_at:
        .long landed
pointer:
        .long 0, 0
