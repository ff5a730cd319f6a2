//! The system calls that a helper process may make.

use super::image::RAM;
use libc::sock_filter;

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const ANY_BIT: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const RETURN: u16 = 0x06;
const ARCH_X86_64: u32 = 0xc000_003e;

/// Offset of the low half of argument `n` in what filters look at.
const fn argument(n: u32) -> u32 {
    16 + 8 * n
}

fn statement(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

/// Goes on when the comparison holds, else skips to the next `RETURN` of KILL.
#[derive(Clone, Copy)]
enum Check {
    /// The argument has this value.
    Is(u32, u32),
    /// The argument has none of these bits.
    Lacks(u32, u32),
}

/// The program: messages to the engine, waiting for it, mapping parts of the guest's RAM without the right to execute them,
/// unmapping, the end of a signal handler, and the end. Anything else kills the process.
pub(super) fn program() -> Vec<sock_filter> {
    let not_executable = |n| Check::Lacks(n, !(libc::PROT_READ | libc::PROT_WRITE).cast_unsigned());
    let rules: [(libc::c_long, Vec<Check>); 7] = [
        (libc::SYS_futex, vec![Check::Is(1, libc::FUTEX_WAIT.cast_unsigned())]),
        (libc::SYS_write, vec![Check::Is(0, 0)]),
        (libc::SYS_rt_sigreturn, vec![]),
        (
            libc::SYS_mmap,
            vec![
                not_executable(2),
                Check::Is(3, (libc::MAP_SHARED | libc::MAP_FIXED | libc::MAP_POPULATE).cast_unsigned()),
                Check::Is(4, RAM as u32),
            ],
        ),
        (libc::SYS_munmap, vec![]),
        (libc::SYS_mprotect, vec![not_executable(2)]),
        (libc::SYS_exit_group, vec![]),
    ];
    let kill = statement(RETURN, libc::SECCOMP_RET_KILL_PROCESS);
    let mut out = vec![statement(LOAD, 4), sock_filter { code: EQUAL, jt: 1, jf: 0, k: ARCH_X86_64 }, kill];
    for (call, checks) in rules {
        // Loads and compares the number; what does not match goes to the next rule.
        let body = 2 * checks.len() as u8 + 2;
        out.push(statement(LOAD, 0));
        out.push(sock_filter { code: EQUAL, jt: 0, jf: body, k: call as u32 });
        for (n, check) in checks.iter().enumerate() {
            let to_kill = 2 * (checks.len() - n) as u8 - 1;
            let (argument_n, code, k, jt, jf) = match *check {
                Check::Is(n, v) => (n, EQUAL, v, 0, to_kill),
                Check::Lacks(n, bits) => (n, ANY_BIT, bits, to_kill, 0),
            };
            out.push(statement(LOAD, argument(argument_n)));
            out.push(sock_filter { code, jt, jf, k });
        }
        out.push(statement(RETURN, libc::SECCOMP_RET_ALLOW));
        out.push(kill);
    }
    out.push(kill);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program says about a system call.
    fn verdict(call: libc::c_long, arguments: [u64; 6]) -> bool {
        let program = program();
        let mut data = [0u8; 64];
        data[..4].copy_from_slice(&(call as u32).to_le_bytes());
        data[4..8].copy_from_slice(&ARCH_X86_64.to_le_bytes());
        for (n, a) in arguments.iter().enumerate() {
            data[16 + 8 * n..24 + 8 * n].copy_from_slice(&a.to_le_bytes());
        }
        let (mut at, mut a) = (0, 0);
        loop {
            let i = program[at];
            at += 1;
            match i.code {
                LOAD => {
                    let word = data[i.k as usize..i.k as usize + 4].try_into().expect("four bytes");
                    a = u32::from_le_bytes(word);
                }
                EQUAL => at += usize::from(if a == i.k { i.jt } else { i.jf }),
                ANY_BIT => at += usize::from(if a & i.k != 0 { i.jt } else { i.jf }),
                _ => return i.k == libc::SECCOMP_RET_ALLOW,
            }
        }
    }

    #[test]
    fn only_ram_is_mapped_and_never_to_be_executed() {
        let shared = (libc::MAP_SHARED | libc::MAP_FIXED | libc::MAP_POPULATE) as u64;
        assert!(verdict(libc::SYS_mmap, [0x1000, 0x1000, 3, shared, RAM, 0]));
        assert!(!verdict(libc::SYS_mmap, [0x1000, 0x1000, 5, shared, RAM, 0]));
        assert!(!verdict(libc::SYS_mmap, [0x1000, 0x1000, 3, shared, 1, 0]));
        assert!(!verdict(libc::SYS_mmap, [0x1000, 0x1000, 3, 0x22, RAM, 0]));
        assert!(verdict(libc::SYS_mprotect, [0x1000, 0x1000, 1, 0, 0, 0]));
        assert!(!verdict(libc::SYS_mprotect, [0x1000, 0x1000, 4, 0, 0, 0]));
        assert!(verdict(libc::SYS_write, [0; 6]) && !verdict(libc::SYS_write, [3, 0, 0, 0, 0, 0]));
        assert!(
            verdict(libc::SYS_futex, [0x1000, 0, 0, 0, 0, 0])
                && !verdict(libc::SYS_futex, [0x1000, 1, 0, 0, 0, 0])
        );
        assert!(verdict(libc::SYS_rt_sigreturn, [0; 6]));
        for call in [libc::SYS_openat, libc::SYS_execve, libc::SYS_clone, libc::SYS_ptrace, libc::SYS_read] {
            assert!(!verdict(call, [0; 6]));
        }
    }
}
