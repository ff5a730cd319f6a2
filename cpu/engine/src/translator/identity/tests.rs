//! User code in a helper process.

use crate::options::{LaneB, Options};
use crate::tests::{Bench, long};
use accel::Exit;
use x86::Segment;
use x86::reg::seg;

/// As [`long`], at CPL 3, with RSP 0x28000; handlers run on the stack at 0x7000.
fn user(code: &[u8], mode: LaneB) -> Bench {
    let mut b = long(code);
    b.cpu.set_options(&Options { translate: true, lane_b: mode, ..Options::default() }, None);
    b.memory.write_int(0xa018, 8, 0x00cf_f300_0000_ffff);
    b.memory.write_int(0xb004, 8, 0x7000);
    let mut s = b.cpu.state.clone();
    let common = Segment::PRESENT | 3 << 5;
    s.seg[seg::CS] =
        Segment { selector: 0x23, base: 0, limit: u32::MAX, attributes: common | Segment::LONG | 0x1b };
    s.seg[seg::SS] =
        Segment { selector: 0x1b, base: 0, limit: u32::MAX, attributes: common | Segment::BIG | 0x13 };
    s.cpl = 3;
    s.gpr[4] = 0x28000;
    (s.tr.base, s.tr.limit) = (0xb000, 0x67);
    b.cpu.load_state(&s);
    b
}

/// Runs to the HLT of the handler of an exception; its vector.
fn run(b: &mut Bench) -> u32 {
    assert_eq!(b.cpu.run_loop(), Exit::Halted);
    let out = std::mem::take(&mut *b.world.out.lock());
    assert_eq!(out.len(), 1, "{out:x?}");
    out[0].1
}

#[test]
fn a_loop_runs_in_a_process_and_comes_back() {
    // mov ecx,100000; l: add rax,rcx; mov [0x30000],rax; add rbx,[0x30000]; dec ecx; jnz l; hlt
    let code = [
        0xb9, 0xa0, 0x86, 1, 0, 0x48, 0x01, 0xc8, 0x48, 0x89, 0x04, 0x25, 0, 0, 3, 0, 0x48, 0x03, 0x1c, 0x25,
        0, 0, 3, 0, 0xff, 0xc9, 0x75, 0xe9, 0xf4,
    ];
    let mut plain = user(&code, LaneB::Off);
    assert_eq!(run(&mut plain), 13);
    let mut b = user(&code, LaneB::Always);
    assert_eq!(run(&mut b), 13);
    let statistics = b.cpu.jit.identity.statistics;
    assert!(statistics.starts == 1 && statistics.entries < 5, "{statistics:?}");
    for n in [0, 1, 2, 3, 5, 11, 15] {
        if n != 0 {
            assert_eq!(b.cpu.state.gpr[n], plain.cpu.state.gpr[n], "register {n}");
        }
    }
    assert_eq!(b.memory.read_int(0x30000, 8), plain.memory.read_int(0x30000, 8));
    assert_eq!(b.memory.read_int(0x30000, 8), 100_000 * 100_001 / 2);
}

/// The address at which the first 2 MiB of memory are visible too, above all 32-bit displacements.
const HIGH: u64 = 32 << 39;

fn high(code: &[u8], mode: LaneB) -> Bench {
    let mut b = user(code, mode);
    b.memory.write_int(0x10000 + 32 * 8, 8, 0x11007);
    b.cpu.state.rip = HIGH + 0x1000;
    b
}

/// Runs `code` outside of a process and in one, and compares what there is to see at the end.
fn compare(code: &[u8]) -> (Bench, u32) {
    let mut plain = high(code, LaneB::Off);
    let vector = run(&mut plain);
    let mut b = high(code, LaneB::Always);
    assert_eq!(run(&mut b), vector);
    for n in 1..16 {
        assert_eq!(b.cpu.state.gpr[n], plain.cpu.state.gpr[n], "register {n}");
    }
    // The handler's frame, with RIP and the flags.
    for at in (0x6fc0..0x7000).step_by(8) {
        assert_eq!(b.memory.read_int(at, 8), plain.memory.read_int(at, 8), "frame at {at:#x}");
    }
    assert_eq!(b.memory.read_int(0x30000, 8), plain.memory.read_int(0x30000, 8));
    assert_eq!(b.cpu.jit.identity.statistics.starts, 1);
    (b, vector)
}

/// Calls and jumps of all kinds, operands relative to RIP, LOOP, JRCXZ, DIV; then HLT:
///
/// ```text
///    mov ecx,2000
/// 1: call f; call [rip+ptr]; lea rdx,[rip+ptr]; call [rdx]
///    mov rax,[rip+cnt]; cmp [rip+cnt],rcx; adc rbx,0; inc qword [rip+cnt]; push [rip+cnt]; pop rsi
///    movzx edi,byte [rip+cnt]; cmpxchg [rip+cnt],rsi; add r10,rsi; lea r15,[rip+start]
///    xor edx,edx; lea rax,[rcx+7]; mov ebp,13; div rbp; add r14,rdx
///    jrcxz 3f; mov r13d,3; xchg r13,rcx; 2: add r11,rcx; loop 2b; xchg r13,rcx; 3: dec ecx; jnz 1b; hlt
/// f: add r8,3; push rcx; pop rcx; ret
/// g: sub r9,5; ret
/// ptr: dq g; cnt = start + 0x2f000
/// ```
const CALLS: &[u8] = &[
    0xb9, 0xd0, 0x07, 0x00, 0x00, 0xe8, 0x71, 0x00, 0x00, 0x00, 0xff, 0x15, 0x78, 0x00, 0x00, 0x00, 0x48,
    0x8d, 0x15, 0x71, 0x00, 0x00, 0x00, 0xff, 0x12, 0x48, 0x8b, 0x05, 0xe0, 0xef, 0x02, 0x00, 0x48, 0x39,
    0x0d, 0xd9, 0xef, 0x02, 0x00, 0x48, 0x83, 0xd3, 0x00, 0x48, 0xff, 0x05, 0xce, 0xef, 0x02, 0x00, 0xff,
    0x35, 0xc8, 0xef, 0x02, 0x00, 0x5e, 0x0f, 0xb6, 0x3d, 0xc0, 0xef, 0x02, 0x00, 0x48, 0x0f, 0xb1, 0x35,
    0xb8, 0xef, 0x02, 0x00, 0x49, 0x01, 0xf2, 0x4c, 0x8d, 0x3d, 0xae, 0xff, 0xff, 0xff, 0x31, 0xd2, 0x48,
    0x8d, 0x41, 0x07, 0xbd, 0x0d, 0x00, 0x00, 0x00, 0x48, 0xf7, 0xf5, 0x49, 0x01, 0xd6, 0xe3, 0x11, 0x41,
    0xbd, 0x03, 0x00, 0x00, 0x00, 0x4c, 0x87, 0xe9, 0x49, 0x01, 0xcb, 0xe2, 0xfb, 0x4c, 0x87, 0xe9, 0xff,
    0xc9, 0x75, 0x8b, 0xf4, 0x49, 0x83, 0xc0, 0x03, 0x51, 0x59, 0xc3, 0x49, 0x83, 0xe9, 0x05, 0xc3, 0x90,
    0x82, 0x10, 0x00, 0x00, 0x00, 0x10, 0x00, 0x00,
];

#[test]
fn calls_and_relative_operands_do_the_same() {
    let (b, vector) = compare(CALLS);
    assert_eq!((vector, b.cpu.state.gpr[8], b.cpu.state.gpr[9]), (13, 6000, 20_000u64.wrapping_neg()));
    let s = b.cpu.jit.identity.statistics;
    assert!(s.reports < 200, "{s:?}");
}

#[test]
fn code_that_changes_runs_changed() {
    // mov ecx,60; 1: mov [rip+f+1],cl; call f; add rbx,rax; dec ecx; jnz 1b; hlt -- f (at 0x1100): mov eax,0; ret
    let mut code = vec![
        0xb9, 0x3c, 0x00, 0x00, 0x00, 0x88, 0x0d, 0xf6, 0x00, 0x00, 0x00, 0xe8, 0xf0, 0x00, 0x00, 0x00, 0x48,
        0x01, 0xc3, 0xff, 0xc9, 0x75, 0xee, 0xf4,
    ];
    code.resize(0x100, 0);
    code.extend([0xb8, 0x00, 0x00, 0x00, 0x00, 0xc3]);
    let (b, vector) = compare(&code);
    assert_eq!((vector, b.cpu.state.gpr[3]), (13, 60 * 61 / 2));
}

#[test]
fn faults_show_the_registers_of_their_instruction() {
    // mov edi,0x600000; mov r11d,7; cmp eax,eax; X; hlt -- nothing is mapped there
    let start = [0xbf, 0, 0, 0x60, 0, 0x41, 0xbb, 7, 0, 0, 0, 0x39, 0xc0];
    let faulting: [&[u8]; 7] = [
        &[0x48, 0x01, 0x07],                   // add [rdi],rax
        &[0xff, 0x17],                         // call [rdi]
        &[0xff, 0x27],                         // jmp [rdi]
        &[0x48, 0x8b, 0x0d, 0, 0, 0x50, 0],    // mov rcx,[rip+0x500000]
        &[0x48, 0x01, 0x0d, 0, 0, 0x50, 0],    // add [rip+0x500000],rcx
        &[0x48, 0x89, 0xfc, 0xc3],             // mov rsp,rdi; ret
        &[0x48, 0x89, 0xfc, 0xe8, 0, 0, 0, 0], // mov rsp,rdi; call
    ];
    for x in faulting {
        let code = [&start[..], x, &[0xf4]].concat();
        let (b, vector) = compare(&code);
        let cr2 = b.cpu.state.cr2;
        assert_eq!(vector, 14, "{x:x?}");
        assert!(
            (HIGH + 0x50_0000..HIGH + 0x60_0000).contains(&cr2) || (0x5f_fff8..=0x60_0000).contains(&cr2),
            "{cr2:#x}"
        );
    }
    // mov rdi,1<<62; X; hlt
    for x in [&[0x57, 0xc3][..], &[0x57, 0xc2, 8, 0], &[0xff, 0xd7], &[0xff, 0xe7], &[0x57, 0xff, 0x14, 0x24]]
    {
        let code = [&[0x48, 0xbf, 0, 0, 0, 0, 0, 0, 0, 0x40][..], x, &[0xf4]].concat();
        assert_eq!(compare(&code).1, 13, "{x:x?}");
    }
    // xor ecx,ecx; div ecx -- and an address that is not canonical
    assert_eq!(compare(&[0x31, 0xc9, 0xf7, 0xf1]).1, 0);
    assert_eq!(
        compare(&[0x48, 0xc1, 0xe7, 0x3f, 0x48, 0xff, 0xcf, 0x48, 0xc1, 0xe7, 0x3e, 0x8a, 0x07]).1,
        13
    );
}

#[test]
fn a_page_that_moves_is_found_where_it_is() {
    // mov rax,[0x200000]; mov [0x200008],rax; hlt
    let code = [0x48, 0x8b, 0x04, 0x25, 0, 0, 0x20, 0, 0x48, 0x89, 0x04, 0x25, 8, 0, 0x20, 0, 0xf4];
    let mut b = user(&code, LaneB::Always);
    b.memory.write_int(0x12008, 8, 0x13007);
    let start = b.cpu.state.clone();
    for (page, value) in [(0x31000, 11), (0x32000, 22), (0x33000, 33)] {
        b.memory.write_int(0x13000, 8, page | 7);
        b.memory.write_int(page, 8, value);
        b.cpu.tlb.flush_page(0x20_0000);
        b.cpu.state = start.clone();
        b.cpu.mode_changed();
        assert_eq!(run(&mut b), 13);
        assert_eq!(b.memory.read_int(page + 8, 8), value);
    }
    assert_eq!(b.memory.read_int(0x31008, 8), 11);
    assert_eq!(b.memory.read_int(0x13000, 8) & 0x60, 0x60, "accessed and dirty");
    assert_eq!(b.cpu.jit.identity.statistics.starts, 1);
}

#[test]
fn a_flush_of_everything_leaves_what_the_tables_still_say() {
    // mov rax,[0x200000]; mov [0x200008],rax; hlt
    let code = [0x48, 0x8b, 0x04, 0x25, 0, 0, 0x20, 0, 0x48, 0x89, 0x04, 0x25, 8, 0, 0x20, 0, 0xf4];
    let mut b = user(&code, LaneB::Always);
    b.memory.write_int(0x12008, 8, 0x13007);
    b.memory.write_int(0x31000, 8, 11);
    b.memory.write_int(0x32000, 8, 22);
    let start = b.cpu.state.clone();
    let again = |b: &mut Bench, entry: Option<u64>| {
        if let Some(entry) = entry {
            b.memory.write_int(0x13000, 8, entry);
        }
        b.cpu.tlb.flush_all();
        b.cpu.state = start.clone();
        b.cpu.mode_changed();
        run(b)
    };
    assert_eq!(again(&mut b, Some(0x31007)), 13);
    let asked = b.cpu.jit.identity.statistics.fills;
    assert_eq!(again(&mut b, None), 13);
    let s = b.cpu.jit.identity.statistics;
    assert!(asked > 0 && s.fills == asked && s.compared > 0, "{s:?}");
    // Another page, then one that may only be read, then none.
    assert_eq!((again(&mut b, Some(0x32067)), b.memory.read_int(0x32008, 8)), (13, 22));
    assert_eq!((again(&mut b, Some(0x32065)), b.cpu.state.cr2), (14, 0x20_0008));
    assert_eq!((again(&mut b, Some(0)), b.cpu.state.cr2), (14, 0x20_0000));
    assert_eq!(b.cpu.jit.identity.statistics.starts, 1);
}

#[test]
fn a_program_that_writes_to_its_process_harms_itself_alone() {
    // rdi = the area: mov ecx,SIZE/8; mov rax,-1; mov rbx,rdi; rep stosq; mov r8,[rbx+CONTROL]; then UD2 as INSN, hlt
    let mut code = vec![0xb9];
    code.extend((super::image::CONTROL as u32 / 8).to_le_bytes());
    code.extend([
        0x48, 0xc7, 0xc0, 0xff, 0xff, 0xff, 0xff, 0x48, 0x89, 0xfb, 0xf3, 0x48, 0xab, 0x4c, 0x8b, 0x83,
    ]);
    code.extend((super::image::CONTROL as u32).to_le_bytes());
    code.extend([0xe8, 0, 0, 0, 0, 0x58]); // call next; next: pop rax
    let jump = code.len() as u8;
    // A jump by way of the table, and one that is not translated yet: lea rax,[rip+6]; push rax; ret; nop; hlt
    code.extend([0x48, 0x8d, 0x05, 3, 0, 0, 0, 0x50, 0xc3, 0x90, 0xf4]);
    assert!(jump < 0x80);
    let mut b = user(&code, LaneB::Always);
    let start = b.cpu.state.clone();
    b.cpu.state.gpr[7] = 0x30000;
    b.cpu.state.gpr[3] = 0x30000;
    run(&mut b);
    let base = b.cpu.jit.identity.helpers[0].process.base;
    for _ in 0..3 {
        b.cpu.state = start.clone();
        b.cpu.mode_changed();
        b.cpu.state.gpr[7] = base;
        b.cpu.state.gpr[15] = 0x1234_5678_9abc_def0;
        b.cpu.state.zmm[5] = [7; 64];
        assert_eq!(run(&mut b), 13);
        let s = &b.cpu.state;
        assert_eq!((s.gpr[1], s.gpr[3], s.gpr[7]), (0, base, base + super::image::CONTROL));
        assert_eq!(b.memory.read_int(0x6fd8, 8), 0x1000 + u64::from(jump) + 10, "RIP");
        assert_eq!((s.gpr[15], &s.zmm[5][..32]), (0x1234_5678_9abc_def0, &[7; 32][..]));
    }
    // mov [rdi],rax: what says where execution goes on cannot be written; the guest has nothing there.
    let mut b = user(&[0x48, 0x89, 0x07, 0xf4], LaneB::Always);
    let start = b.cpu.state.clone();
    b.cpu.state.gpr[7] = 0x30000;
    assert_eq!(run(&mut b), 13);
    let base = b.cpu.jit.identity.helpers[0].process.base;
    for at in [super::image::CONTROL, super::image::TARGET, super::image::TABLE, super::image::CODE] {
        b.cpu.state = start.clone();
        b.cpu.mode_changed();
        b.cpu.state.gpr[7] = base + at;
        assert_eq!((run(&mut b), b.cpu.state.cr2), (14, base + at));
    }
}

#[test]
fn what_is_posted_calls_user_code_back() {
    // 1: inc rax; lea rdx,[rip]; add [0x30000],rax; jmp 1b
    let code =
        [0x48, 0xff, 0xc0, 0x48, 0x8d, 0x15, 0, 0, 0, 0, 0x48, 0x01, 0x04, 0x25, 0, 0, 3, 0, 0xeb, 0xec];
    let mut b = high(&code, LaneB::Always);
    let signals = b.cpu.signals.clone();
    let poster = std::thread::spawn(move || {
        for _ in 0..20 {
            std::thread::sleep(std::time::Duration::from_millis(2));
            signals.raise(irq::Event::Exit);
            while signals.is_raised(irq::Event::Exit) {
                std::thread::yield_now();
            }
        }
    });
    let (mut before, mut sum) = (0, 0u64);
    for _ in 0..20 {
        assert_eq!(b.cpu.run_loop(), Exit::Interrupted);
        let s = &b.cpu.state;
        assert!((HIGH + 0x1000..HIGH + 0x1014).contains(&s.rip), "{:#x}", s.rip);
        // The sum has the last number when its instruction has been executed.
        let now = s.gpr[0] - u64::from((HIGH + 0x1003..HIGH + 0x1012).contains(&s.rip));
        (before + 1..=now).for_each(|n| sum = sum.wrapping_add(n));
        before = now;
        assert_eq!(b.memory.read_int(0x30000, 8), sum);
        b.cpu.signals.take(irq::Event::Exit);
    }
    poster.join().expect("poster");
    assert!(before > 1000);
}

#[test]
fn processes_end_with_their_processor() {
    let mut b = user(&[0xf4], LaneB::Always);
    run(&mut b);
    let id = b.cpu.jit.identity.helpers[0].process.id();
    assert!(std::path::Path::new(&format!("/proc/{id}")).exists());
    drop(b);
    assert!(!std::path::Path::new(&format!("/proc/{id}")).exists());
}

/// As [`compare`], with words of memory from 0x30000 on, and hardly any way out of the process.
fn compare_data(code: &[u8], words: u64) -> Bench {
    let mut plain = high(code, LaneB::Off);
    let prepare = |b: &mut Bench| {
        b.cpu.state.seg[seg::GS].base = 0x30000;
        b.cpu.state.cr0 |= x86::reg::cr0::NE;
        b.cpu.state.cr4 |= x86::reg::cr4::OSFXSR;
        b.cpu.mode_changed();
    };
    prepare(&mut plain);
    let vector = run(&mut plain);
    let mut b = high(code, LaneB::Always);
    prepare(&mut b);
    assert_eq!(run(&mut b), vector);
    for n in 1..16 {
        assert_eq!(b.cpu.state.gpr[n], plain.cpu.state.gpr[n], "register {n}");
    }
    for at in (0x30000..0x30000 + 8 * words).step_by(8).chain((0x6fc0..0x7000).step_by(8)) {
        assert_eq!(b.memory.read_int(at, 8), plain.memory.read_int(at, 8), "at {at:#x}");
    }
    let (ours, theirs) = (b.cpu.state.x87, plain.cpu.state.x87);
    assert_eq!((ours.fcw, ours.fsw, ours.ftw), (theirs.fcw, theirs.fsw, theirs.ftw));
    if ours.fsw & 0x80 != 0 {
        // Some hosts tell where the last instruction is only when it is pending.
        assert_eq!(ours.fip, theirs.fip);
    }
    assert_eq!(ours.regs.map(|r| r[..10].to_vec()), theirs.regs.map(|r| r[..10].to_vec()));
    b
}

#[test]
fn the_x87_unit_is_the_process_s_own() {
    // fninit; fldz; mov ecx,5000; 1: fld1; faddp; fld st0; fsqrt; fstp qword [0x30000]; dec ecx; jnz 1b;
    // fistp dword [0x30008]; fldpi; fstp tbyte [0x30010]; fldl2e; fnstcw [0x30020]; fnstsw [0x30022]; pcmpeqd mm3,mm3; movq [0x30040],mm3; hlt
    let code = [
        0xdb, 0xe3, 0xd9, 0xee, 0xb9, 0x88, 0x13, 0, 0, 0xd9, 0xe8, 0xde, 0xc1, 0xd9, 0xc0, 0xd9, 0xfa, 0xdd,
        0x1c, 0x25, 0, 0, 3, 0, 0xff, 0xc9, 0x75, 0xed, 0xdb, 0x1c, 0x25, 8, 0, 3, 0, 0xd9, 0xeb, 0xdb, 0x3c,
        0x25, 0x10, 0, 3, 0, 0xd9, 0xea, 0xd9, 0x3c, 0x25, 0x20, 0, 3, 0, 0xdd, 0x3c, 0x25, 0x22, 0, 3, 0,
        0x0f, 0x76, 0xdb, 0x0f, 0x7f, 0x1c, 0x25, 0x40, 0, 3, 0, 0xf4,
    ];
    let b = compare_data(&code, 16);
    assert_eq!(b.memory.read_int(0x30008, 4), 5000);
    assert_eq!(f64::from_bits(b.memory.read_int(0x30000, 8)), 5000f64.sqrt());
    assert_eq!(b.memory.read_int(0x30040, 8), u64::MAX);
    let s = b.cpu.jit.identity.statistics;
    assert!(s.entries < 12, "{s:?}");
}

#[test]
fn an_exception_of_the_unit_is_the_guest_s() {
    // fninit; mov word [0x30000],0x37b; fldcw [0x30000]; fld1; fldz; fdivp; mov edi,3; fwait; hlt -- division by zero
    let code = [
        0xdb, 0xe3, 0x66, 0xc7, 0x04, 0x25, 0, 0, 3, 0, 0x7b, 3, 0xd9, 0x2c, 0x25, 0, 0, 3, 0, 0xd9, 0xe8,
        0xd9, 0xee, 0xde, 0xf9, 0xbf, 3, 0, 0, 0, 0x9b, 0xf4,
    ];
    let b = compare_data(&code, 2);
    assert_eq!(b.cpu.state.x87.fsw & 0x84, 0x84);
    assert_eq!(b.cpu.state.gpr[7], 3);
}

#[test]
fn operands_in_gs_are_where_its_base_says() {
    // mov ecx,300; 1: mov rax,gs:[8]; add rax,rcx; mov gs:[8],rax; mov ebx,16; inc dword gs:[rbx+8]; mov esi,2;
    // xadd gs:[rbx+rsi*8],rcx; xchg rcx,gs:[rbx+rsi*8]; push gs:[8]; pop gs:[rbx+rsi*4+0x20]; lea rdx,gs:[rbx+4];
    // cmp qword gs:[8],0; dec ecx; jnz 1b; mov rdi,1<<62; mov rax,gs:[rdi]; hlt
    let code = [
        0xb9, 0x2c, 1, 0, 0, 0x65, 0x48, 0x8b, 0x04, 0x25, 8, 0, 0, 0, 0x48, 0x01, 0xc8, 0x65, 0x48, 0x89,
        0x04, 0x25, 8, 0, 0, 0, 0xbb, 0x10, 0, 0, 0, 0x65, 0xff, 0x43, 0x08, 0xbe, 2, 0, 0, 0, 0x65, 0x48,
        0x0f, 0xc1, 0x0c, 0xf3, 0x65, 0x48, 0x87, 0x0c, 0xf3, 0x65, 0xff, 0x34, 0x25, 8, 0, 0, 0, 0x65, 0x8f,
        0x44, 0xb3, 0x20, 0x65, 0x48, 0x8d, 0x53, 4, 0x65, 0x48, 0x83, 0x3c, 0x25, 8, 0, 0, 0, 0, 0xff, 0xc9,
        0x75, 0xb2, 0x48, 0xbf, 0, 0, 0, 0, 0, 0, 0, 0x40, 0x65, 0x48, 0x8b, 0x07, 0xf4,
    ];
    let b = compare_data(&code, 32);
    assert_ne!(b.memory.read_int(0x30008, 8), 0);
    let s = b.cpu.jit.identity.statistics;
    assert!(s.entries < 6, "{s:?}");
}
