//! What a helper process consists of: where its own memory lies, and the few instructions that are not the guest's.
//!
//! All of it is reached by addresses in one slot of the top-level page table, which the guest's user space must not
//! use. What says where the process goes on is read-only or executable there; the guest's code can write to the page
//! of spilled registers and to the signal stack only, and no frame is on that stack while the guest's code runs.

use super::frame::{FLAGS, REGISTERS, RIP, VECTORS, components};
use crate::translator::asm::*;

/// Spilled registers and what the signal handler tells; GS points here.
pub(super) const SPILLS: u64 = 0;
/// The signal stack, and a frame below it.
pub(super) const STACK: u64 = 0x1000;
pub(super) const STACK_SIZE: u64 = 0x2_0000;
/// At its bottom, which is not for signals: the registers as in a signal frame.
pub(super) const FRAME: u64 = STACK;
const VECTORS_AT: u64 = FRAME + 0x400;
const FRAME_SIZE: u64 = 0x1000;
/// Bytes of room for the vector state.
pub(super) const VECTORS_SIZE: u64 = FRAME + FRAME_SIZE - VECTORS_AT;
/// The end of a few words of stack for the fixed code.
const OWN_STACK: u64 = SPILLS + 0xff0;
/// What the engine writes and the process reads.
pub(super) const CONTROL: u64 = STACK + STACK_SIZE;
const CONTROL_SIZE: u64 = 0x8000;
/// Where indirect jumps lead: one entry for each value of the low 16 bits of the target.
pub(super) const TABLE: u64 = CONTROL + CONTROL_SIZE;
pub(super) const TABLE_ENTRIES: u64 = 1 << 16;
/// Instructions.
pub(super) const CODE: u64 = TABLE + TABLE_ENTRIES * 8;
pub(super) const CODE_SIZE: u64 = 32 << 20;
/// Bytes of all that.
pub(super) const AREA: u64 = CODE + CODE_SIZE;
/// Where the program that starts the process lies, from the area's start.
const PROGRAM: u64 = 1 << 30;

/// RCX while an indirect jump is under way.
pub(super) const SPILL_RCX: u64 = SPILLS;
/// R11 then.
pub(super) const SPILL_R11: u64 = SPILLS + 8;
/// Another register.
pub(super) const SPILL_OTHER: u64 = SPILLS + 16;
/// Where the signal frame is.
pub(super) const CONTEXT: u64 = SPILLS + 24;
/// The signal's number.
pub(super) const SIGNAL: u64 = SPILLS + 32;
/// All results of the last system calls, OR'ed.
pub(super) const RESULTS: u64 = SPILLS + 40;
/// Not 0: a signal came while the process was not in guest code.
const CALLED: u64 = SPILLS + 48;
/// Where the indirect jump began, from the area's start.
pub(super) const ORIGIN: u64 = SPILLS + 56;

/// How many system calls are to be made.
pub(super) const COUNT: u64 = CONTROL;
/// Not 0: report again after them.
pub(super) const AGAIN: u64 = CONTROL + 8;
/// The guest's FS base.
pub(super) const FS_BASE: u64 = CONTROL + 16;
/// What the guest's time-stamp counter is ahead of the host's.
pub(super) const TSC_OFFSET: u64 = CONTROL + 24;
/// What RDTSCP gives in ECX.
pub(super) const TSC_AUX: u64 = CONTROL + 32;
/// A byte to send.
const LETTER: u64 = CONTROL + 40;
/// Where guest code goes on after a planned way out.
pub(super) const TARGET: u64 = CONTROL + 48;
/// Changes when the process is to go on.
pub(super) const TURN: u64 = CONTROL + 56;
/// The guest's GS base.
pub(super) const GS_BASE: u64 = CONTROL + 64;
/// The filter program's descriptor, signal actions and the signal stack's description for the start.
pub(super) const START_DATA: u64 = CONTROL + 0x7000;
/// System calls: number and six arguments each.
pub(super) const CALLS: u64 = CONTROL + 128;
/// Most of them at once.
pub(super) const MOST_CALLS: usize = 500;
const _: () = assert!(CALLS + 56 * MOST_CALLS as u64 <= START_DATA);

/// A descriptor of the process: the pipe that the engine reads.
const PIPE: u64 = 0;
/// The file that holds the area.
const OWN: u64 = 1;
/// The guest's RAM.
pub(super) const RAM: u64 = 2;

/// Where parts of the fixed code are, from the area's start.
#[derive(Clone, Copy)]
pub(super) struct Parts {
    /// The signal handler.
    pub(super) handler: u64,
    /// Returns from it.
    pub(super) restorer: u64,
    /// Makes the system calls that [`CALLS`] lists and goes on from there.
    batch: u64,
    /// Where an indirect jump ends whose target is not known.
    pub(super) miss: u64,
    /// A planned way out of guest code: jumped to with its own place in the frame's RIP.
    pub(super) leave: u64,
    /// The first byte behind.
    pub(super) end: u64,
}

/// How the process goes on: values of R15 in the fixed code. A new process has 1.
const FROM_SIGNAL: i32 = 0;
const FROM_FRAME: i32 = 2;
const SYSCALL: [u8; 2] = [0x0f, 0x05];
const UD2: [u8; 2] = [0x0f, 0x0b];

fn gs(at: u64) -> Mem {
    Mem::Cpu(at as u32)
}

/// The fixed code, for an area at `base`; it lies at [`CODE`].
///
/// A planned way out of guest code stores all registers where a signal frame would have them, and loads them from
/// there again: no signal is needed. Signals are not blocked meanwhile. The handler only notes those that find the
/// process here; the last part, which leads to guest code, looks at that note and is then given up for another report.
pub(super) fn fixed(base: u64) -> (Vec<u8>, Parts) {
    let origin = base + CODE;
    let mut a = Assembler::new(origin, false);
    let (report, wait, batch, next, done, die, finish, commit, again) =
        (a.label(), a.label(), a.label(), a.label(), a.label(), a.label(), a.label(), a.label(), a.label());
    let (leave, normal, quiet, restore) = (a.label(), a.label(), a.label(), a.label());
    let part = |a: &Assembler| a.here() - base;
    // With R15 = how to go on: by the end of the signal handler, by a trap, or from the frame.
    a.bind(report);
    a.store_imm(gs(CALLED), 0);
    a.load(14, gs(TURN));
    a.imm(RAX, libc::SYS_write.cast_unsigned());
    a.imm(RDI, PIPE);
    a.imm(RSI, base + LETTER);
    a.imm(RDX, 1);
    a.bytes(&SYSCALL);
    a.cmp_imm(RAX, 1);
    a.jcc(CC_NE, die);
    a.bind(wait);
    a.cmp(14, gs(TURN));
    a.jcc(CC_NE, batch);
    a.imm(RAX, libc::SYS_futex.cast_unsigned());
    a.imm(RDI, base + TURN);
    a.imm(RSI, libc::FUTEX_WAIT as u64);
    a.mov(RDX, 14);
    a.imm(R10, 0);
    a.bytes(&SYSCALL);
    a.jmp(wait);
    a.bind(batch);
    let batch_at = part(&a);
    a.store_imm(gs(RESULTS), 0);
    a.load(12, gs(COUNT));
    a.imm(RBX, base + CALLS);
    a.bind(next);
    a.cmp_imm(12, 0);
    a.jcc(CC_E, done);
    for (n, r) in [RAX, RDI, RSI, RDX, R10, 8, R9].into_iter().enumerate() {
        a.load(r, Mem::Base(RBX, 8 * n as i32));
    }
    a.bytes(&SYSCALL);
    a.load(RDX, gs(RESULTS));
    a.alu(true, OR_RR, RAX, RDX);
    a.store(gs(RESULTS), RAX);
    a.lea(RBX, RBX, 56);
    // R12 is not a base here, whose encoding would need more.
    a.mov(RAX, 12);
    a.lea(RAX, RAX, -1);
    a.mov(12, RAX);
    a.jmp(next);
    a.bind(done);
    a.load(RAX, gs(AGAIN));
    a.cmp_imm(RAX, 0);
    a.jcc(CC_NE, report);
    a.load(RAX, gs(FS_BASE));
    a.bytes(&[0xf3, 0x48, 0x0f, 0xae, 0xd0]); // wrfsbase rax
    a.cmp_imm(15, FROM_SIGNAL);
    a.jcc(CC_E, finish);
    a.cmp_imm(15, FROM_FRAME);
    a.jcc(CC_E, commit);
    a.bytes(&UD2);
    a.bind(die);
    a.imm(RAX, libc::SYS_exit_group.cast_unsigned());
    a.imm(RDI, 1);
    a.bytes(&SYSCALL);
    a.bytes(&UD2);

    let miss = part(&a);
    a.store_imm32(gs(FRAME + RIP), miss as i32);
    let leave_at = part(&a);
    a.bind(leave);
    for (n, at) in (0..).zip(REGISTERS) {
        a.store(gs(FRAME + at), n);
    }
    a.imm(RSP, base + OWN_STACK);
    a.bytes(&[0x9c]); // pushfq
    a.pop(RAX);
    a.store(gs(FRAME + FLAGS), RAX);
    // What XSAVE does not write all of, and XRSTOR looks at.
    for word in 0..8 {
        a.store_imm(gs(VECTORS_AT + 512 + 8 * word), 0);
    }
    let state = |a: &mut Assembler| {
        a.imm(RAX, components());
        a.imm(RDX, 0);
    };
    state(&mut a);
    a.xsave(gs(VECTORS_AT));
    a.imm(RAX, base + VECTORS_AT);
    a.store(gs(FRAME + VECTORS), RAX);
    a.store_imm(gs(SIGNAL), 0);
    a.bind(restore);
    a.imm(RAX, base + FRAME);
    a.store(gs(CONTEXT), RAX);
    a.imm(15, FROM_FRAME as u64);
    a.jmp(report);
    a.bind(again);
    a.load(RAX, gs(TARGET));
    a.store(gs(FRAME + RIP), RAX);
    a.store_imm(gs(SIGNAL), libc::SIGUSR1);
    a.jmp(restore);

    a.bind(commit);
    let commit_at = a.here();
    a.cmp32_mem(gs(CALLED), 0);
    a.jcc(CC_NE, again);
    state(&mut a);
    a.xrstor(gs(VECTORS_AT));
    a.imm(RSP, base + OWN_STACK);
    a.load(RAX, gs(FRAME + FLAGS));
    a.push(RAX);
    a.bytes(&[0x9d]); // popfq
    for (n, at) in (0..).zip(REGISTERS) {
        a.load(n, gs(FRAME + at));
    }
    a.jmp_mem(gs(TARGET));
    let length = a.here() - origin;

    // handler(edi = signal, rsi = information, rdx = context), with every signal blocked
    let handler = part(&a);
    a.load(RCX, Mem::Base(RDX, RIP as i32));
    a.imm(RAX, origin.wrapping_neg());
    a.lea_sum(RAX, RAX, RCX);
    a.cmp_imm(RAX, length as i32);
    a.jcc(CC_AE, normal);
    a.cmp_imm(RDI, libc::SIGUSR1);
    a.jcc(CC_E, quiet);
    a.cmp_imm(RDI, libc::SIGTRAP);
    a.jcc(CC_NE, normal);
    a.bind(quiet);
    a.store_imm(gs(CALLED), 1);
    a.and_mem32(Mem::Base(RDX, FLAGS as i32), !(x86::reg::flags::TF as i32));
    a.cmp_imm(RAX, (commit_at - origin) as i32);
    a.jcc(CC_B, finish);
    if let Some(again) = a.address_of(again) {
        a.imm(RAX, again);
    }
    a.store(Mem::Base(RDX, RIP as i32), RAX);
    a.bind(finish);
    a.lea(RSP, RSP, 8);
    let restorer = part(&a);
    a.imm(RAX, libc::SYS_rt_sigreturn.cast_unsigned());
    a.bytes(&SYSCALL);
    a.bind(normal);
    a.store(gs(CONTEXT), RDX);
    a.store(gs(SIGNAL), RDI);
    a.imm(15, FROM_SIGNAL as u64);
    a.jmp(report);
    a.finish();
    let end = part(&a);
    (a.code, Parts { handler, restorer, batch: batch_at, miss, leave: leave_at, end })
}

/// The program that starts a process with its area at `base`: an ELF file that maps the area and goes there.
pub(super) fn program(base: u64, parts: &Parts) -> Vec<u8> {
    const HEADERS: usize = 64 + 56;
    let at = base + PROGRAM;
    let mut a = Assembler::new(at + HEADERS as u64, false);
    let read_write = libc::PROT_READ | libc::PROT_WRITE;
    let parts_of_area = [
        (SPILLS, CONTROL, read_write),
        (CONTROL, CODE - CONTROL, libc::PROT_READ),
        (CODE, CODE_SIZE, libc::PROT_READ | libc::PROT_EXEC),
    ];
    for (from, len, rights) in parts_of_area {
        let call = [
            libc::SYS_mmap.cast_unsigned(),
            base + from,
            len,
            rights as u64,
            (libc::MAP_SHARED | libc::MAP_FIXED) as u64,
            OWN,
            from,
        ];
        for (r, v) in [RAX, RDI, RSI, RDX, R10, 8, R9].into_iter().zip(call) {
            a.imm(r, v);
        }
        a.bytes(&SYSCALL);
    }
    a.imm(RAX, base);
    a.bytes(&[0xf3, 0x48, 0x0f, 0xae, 0xd8]); // wrgsbase rax
    a.imm(15, 1);
    a.imm(RAX, base + parts.batch);
    a.bytes(&[0xff, 0xe0]); // jmp rax
    let size = (HEADERS + a.code.len()) as u64;
    let mut file = Vec::with_capacity(size as usize);
    let mut put = |bytes: &[u8]| file.extend_from_slice(bytes);
    put(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    for half in [2u16, 62] {
        put(&half.to_le_bytes()); // executable, x86-64
    }
    put(&1u32.to_le_bytes());
    for word in [at + HEADERS as u64, 64, 0] {
        put(&word.to_le_bytes()); // entry, program headers, section headers
    }
    put(&0u32.to_le_bytes());
    for half in [64u16, 56, 1, 64, 0, 0] {
        put(&half.to_le_bytes());
    }
    put(&1u32.to_le_bytes()); // PT_LOAD
    put(&5u32.to_le_bytes()); // readable, executable
    for word in [0, at, at, size, size, 0x1000] {
        put(&word.to_le_bytes());
    }
    put(&a.code);
    file
}

/// A system call: number and arguments.
pub(super) type Call = [u64; 7];

/// The bytes at [`START_DATA`] and the system calls with which a process begins.
pub(super) fn start(base: u64, parts: &Parts) -> (Vec<u8>, Vec<Call>) {
    const END: u64 = 0x7fff_ffff_f000;
    let mut data = Vec::new();
    let mut put = |words: &[u64]| {
        let at = base + START_DATA + data.len() as u64;
        words.iter().for_each(|w| data.extend_from_slice(&w.to_le_bytes()));
        at
    };
    let call = |n: libc::c_long, a: &[u64]| {
        let mut call = [0; 7];
        call[0] = n.cast_unsigned();
        call[1..=a.len()].copy_from_slice(a);
        call
    };
    let mut calls = vec![
        call(libc::SYS_munmap, &[0, base]),
        call(libc::SYS_munmap, &[base + AREA, END - base - AREA]),
        call(libc::SYS_close, &[OWN]),
        call(libc::SYS_prctl, &[libc::PR_SET_PDEATHSIG as u64, libc::SIGKILL as u64]),
        // Not to be looked into, nor to leave guest memory in a file.
        call(libc::SYS_prctl, &[libc::PR_SET_DUMPABLE as u64, 0]),
    ];
    let name = put(&[u64::from_le_bytes(*b"tinamou-"), u64::from_le_bytes(*b"user\0\0\0\0")]);
    calls.push(call(libc::SYS_prctl, &[libc::PR_SET_NAME as u64, name]));
    let stack = put(&[base + STACK + FRAME_SIZE, 0, STACK_SIZE - FRAME_SIZE]);
    calls.push(call(libc::SYS_sigaltstack, &[stack, 0]));
    const SA_RESTORER: u64 = 0x0400_0000;
    let flags = (libc::SA_SIGINFO | libc::SA_ONSTACK) as u64 | SA_RESTORER;
    let action = put(&[base + parts.handler, flags, base + parts.restorer, u64::MAX]);
    for signal in super::process::SIGNALS {
        calls.push(call(libc::SYS_rt_sigaction, &[signal as u64, action, 0, 8]));
    }
    let none = put(&[0]);
    calls.push(call(libc::SYS_rt_sigprocmask, &[libc::SIG_SETMASK as u64, none, 0, 8]));
    calls.push(call(libc::SYS_prctl, &[libc::PR_SET_NO_NEW_PRIVS as u64, 1, 0, 0, 0]));
    let filter = super::filter::program();
    let words: Vec<u64> = filter
        .iter()
        .map(|f| u64::from(f.code) | u64::from(f.jt) << 16 | u64::from(f.jf) << 24 | u64::from(f.k) << 32)
        .collect();
    let list = put(&words);
    let filter = put(&[words.len() as u64, list]);
    calls.push(call(
        libc::SYS_prctl,
        &[libc::PR_SET_SECCOMP as u64, libc::SECCOMP_MODE_FILTER as u64, filter],
    ));
    (data, calls)
}

/// The byte that the process sends, which is not 0.
pub(super) const LETTER_AT: u64 = LETTER;
