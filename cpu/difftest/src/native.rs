//! The host's side.

use libc::{c_int, c_void, siginfo_t, ucontext_t};
use std::cell::UnsafeCell;
use std::sync::{Mutex, MutexGuard, PoisonError};
use x86::reg::flags;

/// Where the code page lies.
pub const CODE: u64 = 0x10_0000_0000;
/// Bytes of it; an instruction that ends here falls off into a page that faults.
pub const CODE_SIZE: usize = 4096;
/// Where the data pages lie; the pages before and behind fault.
pub const SCRATCH: u64 = 0x20_0000_0000;
/// Bytes of them.
pub const SCRATCH_SIZE: usize = 2 * 4096;
/// Bytes of the XSAVE area that are exchanged: legacy, header, upper halves of YMM.
const XSAVE: usize = 832;
/// RFLAGS bits that a test may set: the arithmetic ones, DF and ID.
const SETTABLE: u64 = flags::ARITH | flags::DF | flags::ID;
/// What the kernel writes at byte 464 of a signal's FXSAVE area when XSAVE state follows.
const MAGIC: u32 = 0x4650_5853;

/// The registers that user code can use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15.
    pub gpr: [u64; 16],
    /// Where the instruction is; afterwards, where the next or the faulting one is.
    pub rip: u64,
    /// RFLAGS: the arithmetic flags, DF and ID; other bits are the host's.
    pub rflags: u64,
    /// The XSAVE area in standard format: x87, SSE, AVX (SDM vol. 1, 13.4). Bytes 28 to 31 (MXCSR_MASK) and the header are
    /// not used.
    pub xsave: Box<[u8; XSAVE]>,
}

impl Default for State {
    /// Zeros, x87 and SSE as after reset, the instruction at [`CODE`].
    fn default() -> Self {
        let mut xsave = Box::new([0; XSAVE]);
        xsave[0..2].copy_from_slice(&0x37fu16.to_le_bytes());
        xsave[24..28].copy_from_slice(&0x1f80u32.to_le_bytes());
        Self { gpr: [0; 16], rip: CODE, rflags: flags::FIXED, xsave }
    }
}

/// An exception that the instruction raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its vector.
    pub vector: u8,
    /// Its error code, as the kernel shows it.
    pub code: u64,
    /// CR2, for page faults.
    pub address: u64,
}

/// What the handlers work on.
struct Exchange {
    /// The registers to load, then those that came out.
    state: State,
    /// The context to go back to. (Not all of `ucontext_t`: the kernel's is shorter than the C library's.)
    home: Option<[libc::greg_t; 23]>,
    home_xsave: Vec<u8>,
    fault: Option<Fault>,
}

struct Shared(UnsafeCell<Option<Exchange>>);

// SAFETY: only the thread that holds `OWNER` touches it, and the handlers that run on that thread meanwhile.
unsafe impl Sync for Shared {}

static SHARED: Shared = Shared(UnsafeCell::new(None));
static OWNER: Mutex<()> = Mutex::new(());

/// gregs indices of `State::gpr`, in its order.
const ORDER: [c_int; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

/// The XSAVE area of a signal's context, and its size.
///
/// # Safety
/// `context` is what the kernel gave to a handler that is still running.
unsafe fn xsave_area<'a>(context: &ucontext_t) -> &'a mut [u8] {
    let start = context.uc_mcontext.fpregs.cast::<u8>();
    // SAFETY: 512 bytes are there always; the kernel's own note in them says how many more (Linux, sigcontext.h).
    unsafe {
        let word = |at: usize| start.add(at).cast::<u32>().read_unaligned();
        let size = if word(464) == MAGIC { word(480) as usize } else { 512 };
        std::slice::from_raw_parts_mut(start, size)
    }
}

/// The signal that starts a run: keeps the context and loads the wanted one.
extern "C" fn start(_: c_int, _: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel gives a valid context; `run` has filled SHARED on this thread, and waits in `raise`.
    let (context, shared) = unsafe { (&mut *context.cast::<ucontext_t>(), &mut *SHARED.0.get()) };
    let Some(exchange) = shared else { return };
    // SAFETY: the context is this handler's.
    let area = unsafe { xsave_area(context) };
    exchange.home = Some(context.uc_mcontext.gregs);
    exchange.home_xsave.clear();
    exchange.home_xsave.extend_from_slice(area);
    let gregs = &mut context.uc_mcontext.gregs;
    for (value, index) in exchange.state.gpr.iter().zip(ORDER) {
        gregs[index as usize] = *value as i64;
    }
    gregs[libc::REG_RIP as usize] = exchange.state.rip as i64;
    let own = gregs[libc::REG_EFL as usize] as u64;
    gregs[libc::REG_EFL as usize] = (own & !SETTABLE | exchange.state.rflags & SETTABLE) as i64;
    // The kernel's note at 464 and what lies behind the AVX part stay.
    let from = &exchange.state.xsave;
    area[..416].copy_from_slice(&from[..416]);
    if area.len() >= XSAVE {
        area[576..XSAVE].copy_from_slice(&from[576..]);
        area[512] |= 7;
    }
}

/// The signal that ends it: keeps the result and goes back.
extern "C" fn finish(signal: c_int, _: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: as in `start`.
    let (context, shared) = unsafe { (&mut *context.cast::<ucontext_t>(), &mut *SHARED.0.get()) };
    let home = shared.as_mut().and_then(|exchange| exchange.home.take().map(|home| (exchange, home)));
    let Some((exchange, home)) = home else {
        // A fault of our own code: the default action when the instruction runs again.
        // SAFETY: plain call.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        return;
    };
    // SAFETY: the context is this handler's.
    let area = unsafe { xsave_area(context) };
    let gregs = &mut context.uc_mcontext.gregs;
    for (value, index) in exchange.state.gpr.iter_mut().zip(ORDER) {
        *value = gregs[index as usize] as u64;
    }
    exchange.state.rip = gregs[libc::REG_RIP as usize] as u64;
    exchange.state.rflags = gregs[libc::REG_EFL as usize] as u64 & SETTABLE | flags::FIXED;
    let to = &mut exchange.state.xsave;
    // A component that is not marked has its initial value and need not be written.
    let marked = if area.len() >= XSAVE { area[512] } else { 3 };
    let initial = State::default().xsave;
    let parts = [(0..24, 1), (24..28, 2), (32..160, 1), (160..416, 2), (576..XSAVE, 4)];
    for (range, bit) in parts {
        let from = if marked & bit != 0 && range.end <= area.len() { &*area } else { &initial[..] };
        let kept_mxcsr = range.start == 24;
        let from = if kept_mxcsr { &*area } else { from };
        to[range.clone()].copy_from_slice(&from[range]);
    }
    let vector = gregs[libc::REG_TRAPNO as usize] as u8;
    exchange.fault = (vector != x86::reg::vector::BP).then_some(Fault {
        vector,
        code: gregs[libc::REG_ERR as usize] as u64,
        address: gregs[libc::REG_CR2 as usize] as u64,
    });
    area.copy_from_slice(&exchange.home_xsave);
    *gregs = home;
}

/// The host processor, ready to run instructions. One at a time in a process.
pub struct Native {
    _owner: MutexGuard<'static, ()>,
    _stack: Vec<u8>,
}

impl Native {
    /// Maps the pages and installs the handlers.
    ///
    /// # Errors
    /// The system call that failed.
    pub fn new() -> std::io::Result<Self> {
        let owner = OWNER.lock().unwrap_or_else(PoisonError::into_inner);
        map(CODE, CODE_SIZE, libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC)?;
        map(SCRATCH, SCRATCH_SIZE, libc::PROT_READ | libc::PROT_WRITE)?;
        let mut stack = vec![0u8; 256 << 10];
        let alternative =
            libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: stack.len() };
        // SAFETY: the stack lives as long as the runner, which takes it away when dropped.
        check(unsafe { libc::sigaltstack(&raw const alternative, std::ptr::null_mut()) })?;
        install(libc::SIGUSR1, start)?;
        for signal in [libc::SIGSEGV, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGBUS] {
            install(signal, finish)?;
        }
        Ok(Self { _owner: owner, _stack: stack })
    }

    /// The data pages.
    pub fn scratch(&mut self) -> &mut [u8] {
        // SAFETY: mapped in `new`, and only reached through `self`.
        unsafe { std::slice::from_raw_parts_mut(SCRATCH as *mut u8, SCRATCH_SIZE) }
    }

    /// Runs the instruction in `code` from `state`, at `state.rip`; gives its exception.
    ///
    /// # Panics
    /// `state.rip` and `code` must lie in the code page with one byte to spare.
    ///
    /// # Safety
    /// The instruction must not leave the code page, use FS or GS, enter the kernel, or write outside
    /// [`Native::scratch`].
    pub unsafe fn run(&mut self, code: &[u8], state: &mut State) -> Option<Fault> {
        let at = usize::try_from(state.rip.wrapping_sub(CODE)).unwrap_or(CODE_SIZE);
        assert!(at + code.len() < CODE_SIZE, "the code page ends");
        // SAFETY: within the code page, which only this function uses. The breakpoints behind the instruction end it.
        let page = unsafe { std::slice::from_raw_parts_mut(CODE as *mut u8, CODE_SIZE) };
        page.fill(0xcc);
        page[at..at + code.len()].copy_from_slice(code);
        let exchange = Exchange {
            state: state.clone(),
            home: None,
            home_xsave: Vec::with_capacity(16 << 10),
            fault: None,
        };
        // SAFETY: this thread holds OWNER, and no handler runs yet.
        unsafe { *SHARED.0.get() = Some(exchange) };
        // SAFETY: the handlers come back here with all registers as they were.
        unsafe { libc::raise(libc::SIGUSR1) };
        // SAFETY: no handler runs any more.
        let exchange = unsafe { (*SHARED.0.get()).take() }?;
        *state = exchange.state;
        if exchange.fault.is_none() {
            // Back from behind the breakpoint.
            state.rip -= 1;
        }
        exchange.fault
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        let none = libc::stack_t { ss_sp: std::ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
        // SAFETY: the handlers do not run now; nobody else refers to the pages once `self` is gone.
        unsafe {
            for signal in
                [libc::SIGUSR1, libc::SIGSEGV, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGBUS]
            {
                libc::signal(signal, libc::SIG_DFL);
            }
            libc::sigaltstack(&raw const none, std::ptr::null_mut());
            libc::munmap(CODE as *mut c_void, CODE_SIZE);
            libc::munmap(SCRATCH as *mut c_void, SCRATCH_SIZE);
        }
    }
}

fn check(result: c_int) -> std::io::Result<()> {
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

fn map(at: u64, size: usize, protection: c_int) -> std::io::Result<()> {
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: a fresh mapping that replaces nothing.
    let result = unsafe { libc::mmap(at as *mut c_void, size, protection, kind, -1, 0) };
    if result == libc::MAP_FAILED { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

fn install(signal: c_int, handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void)) -> std::io::Result<()> {
    // SAFETY: all zeros is a valid sigaction; the handler has the signature that SA_SIGINFO asks for.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        check(libc::sigaction(signal, &raw const action, std::ptr::null_mut()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use x86::reg::{gpr, vector};

    fn run(native: &mut Native, code: &[u8], state: &mut State) -> Option<Fault> {
        // SAFETY: the tests' instructions keep to the rules.
        unsafe { native.run(code, state) }
    }

    #[test]
    fn registers_go_in_and_come_out() {
        let mut native = Native::new().unwrap();
        let mut state = State { gpr: std::array::from_fn(|n| 0x1000 + n as u64), ..State::default() };
        let before = state.clone();
        state.gpr[gpr::RAX] = u64::MAX;
        state.gpr[gpr::RCX] = 1;
        assert_eq!(run(&mut native, &[0x48, 0x01, 0xc8], &mut state), None); // add rax, rcx
        assert_eq!(state.gpr[gpr::RAX], 0);
        assert_eq!(state.rflags & flags::ARITH, flags::CF | flags::PF | flags::AF | flags::ZF);
        assert_eq!((state.rip, &state.gpr[4..]), (CODE + 3, &before.gpr[4..]));
    }

    #[test]
    fn vectors_and_x87_go_in_and_come_out() {
        let mut native = Native::new().unwrap();
        let mut state = State::default();
        state.xsave[160..176].copy_from_slice(&[3; 16]);
        state.xsave[176..192].copy_from_slice(&[4; 16]);
        assert_eq!(run(&mut native, &[0x66, 0x0f, 0xfc, 0xc1], &mut state), None); // paddb xmm0, xmm1
        assert_eq!(state.xsave[160..192], [[7; 16], [4; 16]].concat());
        assert_eq!(run(&mut native, &[0xd9, 0xe8], &mut state), None); // fld1
        assert_eq!(
            (state.xsave[4], &state.xsave[32..42]),
            (0x80, &[0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f][..])
        );
        assert_eq!(state.xsave[160..176], [7; 16]);
        if is_x86_feature_detected!("avx2") {
            state.xsave[576..592].copy_from_slice(&[5; 16]);
            assert_eq!(run(&mut native, &[0xc5, 0xfd, 0xfc, 0xc0], &mut state), None); // vpaddb ymm0, ymm0, ymm0
            assert_eq!((&state.xsave[160..176], &state.xsave[576..592]), (&[14; 16][..], &[10; 16][..]));
        }
    }

    #[test]
    fn faults_are_caught() {
        let mut native = Native::new().unwrap();
        let mut state = State::default();
        state.gpr[gpr::RBX] = SCRATCH + SCRATCH_SIZE as u64 - 4;
        let before = state.clone();
        let fault = run(&mut native, &[0x48, 0x89, 0x03], &mut state).unwrap(); // mov [rbx], rax
        assert_eq!(
            (fault.vector, fault.code & 2, fault.address),
            (vector::PF, 2, SCRATCH + SCRATCH_SIZE as u64)
        );
        assert_eq!(state, before);
        assert_eq!(run(&mut native, &[0x0f, 0x0b], &mut state).unwrap().vector, vector::UD);
        assert_eq!(run(&mut native, &[0x48, 0xf7, 0xf1], &mut state).unwrap().vector, vector::DE); // div rcx
        state.gpr[gpr::RBX] = SCRATCH;
        state.gpr[gpr::RAX] = 0x1122_3344;
        assert_eq!(run(&mut native, &[0x89, 0x03], &mut state), None);
        assert_eq!(native.scratch()[..4], [0x44, 0x33, 0x22, 0x11]);
        state.gpr[gpr::RBX] = 1 << 63;
        assert_eq!(run(&mut native, &[0x89, 0x03], &mut state).unwrap().vector, vector::GP);
    }
}
