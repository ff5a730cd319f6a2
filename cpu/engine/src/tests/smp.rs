//! Two processors on one memory.

use super::*;
use crate::shared::Peers;

/// Processors that share `memory`, in 64-bit mode as [`long`] sets it up; each starts at its own address.
fn pair(code: [(u64, &[u8]); 2]) -> (Vec<Cpu>, AddressSpace) {
    let first = long(&[]);
    let mut state = first.cpu.state.clone();
    let memory = first.memory.clone();
    let peers = Arc::new(Peers::default());
    let mut cpus = Vec::new();
    for (index, (at, bytes)) in (0u32..).zip(code) {
        memory.write(at, bytes);
        let setup = VcpuSetup {
            index,
            apic_id: index,
            signals: Arc::new(CpuSignals::new()),
            io: first.world.clone(),
            memory: memory.clone(),
            model: first.cpu.model.clone(),
        };
        let mut cpu = Cpu::new(setup, peers.clone());
        state.rip = at;
        state.gpr[4] = 0x8000 - 0x800 * u64::from(index);
        cpu.load_state(&state);
        cpus.push(cpu);
    }
    (cpus, memory)
}

/// Runs both to their HLT.
fn run_both(cpus: Vec<Cpu>) -> Vec<Cpu> {
    let threads: Vec<_> = cpus
        .into_iter()
        .map(|mut cpu| {
            std::thread::spawn(move || {
                assert_eq!(cpu.run_loop(), Exit::Halted);
                cpu
            })
        })
        .collect();
    threads.into_iter().map(|t| t.join().expect("vCPU")).collect()
}

/// mov ecx,count; l: lock inc dword [at]; dec ecx; jnz l; hlt
fn counting(count: u32, at: u32) -> Vec<u8> {
    let mut code = vec![0xb9];
    code.extend(count.to_le_bytes());
    code.extend([0xf0, 0xff, 0x04, 0x25]);
    code.extend(at.to_le_bytes());
    code.extend([0xff, 0xc9, 0x75, 0xf4, 0xf4]);
    code
}

#[test]
fn locked_increments_are_not_lost() {
    // Aligned, across cache lines, across pages, and in a page that holds code.
    for (at, count) in [(0x5000, 20_000), (0x503e, 20_000), (0x5ffe, 500), (0x1800, 5000), (0x1ffd, 500)] {
        let code = counting(count, at);
        let (cpus, memory) = pair([(0x1000, &code), (0x3000, &code)]);
        let before = memory.read_int(at.into(), 4);
        run_both(cpus);
        assert_eq!(memory.read_int(at.into(), 4) - before, u64::from(2 * count), "{at:#x}");
    }
}

#[test]
fn code_written_by_another_processor_is_seen() {
    // Writer: mov ecx,2000; l: mov [0x3001],cl; dec ecx; jnz l; mov byte [0x3001],0x77; hlt
    let writer = [
        0xb9, 0xd0, 0x07, 0, 0, 0x88, 0x0c, 0x25, 1, 0x30, 0, 0, 0xff, 0xc9, 0x75, 0xf5, 0xc6, 0x04, 0x25, 1,
        0x30, 0, 0, 0x77, 0xf4,
    ];
    // Reader: l: mov al,0; cmp al,0x77; jne l; hlt -- 0x77 is also written on the way, and then again
    let reader = [0xb0, 0, 0x3c, 0x77, 0x75, 0xfa, 0xf4];
    for _ in 0..20 {
        let (cpus, _) = pair([(0x1000, &writer), (0x3000, &reader)]);
        let cpus = run_both(cpus);
        assert_eq!(cpus[1].state.gpr[0] & 0xff, 0x77);
    }
}

#[test]
fn stores_before_a_fence_are_seen_by_loads_after_it() {
    // Dekker: mov dword [own],1; mfence; mov eax,[other]; hlt. Both reading 0 would be wrong.
    let code = |own: u8, other: u8| {
        [
            0xc7, 0x04, 0x25, own, 0x50, 0, 0, 1, 0, 0, 0, 0x0f, 0xae, 0xf0, 0x8b, 0x04, 0x25, other, 0x50,
            0, 0, 0xf4,
        ]
    };
    for _ in 0..200 {
        let (cpus, _) = pair([(0x1000, &code(0, 0x80)), (0x3000, &code(0x80, 0))]);
        let cpus = run_both(cpus);
        assert!(cpus.iter().any(|c| c.state.gpr[0] == 1));
    }
}

#[test]
fn a_store_ends_the_wait_for_it() {
    // Waiter: xor ecx,ecx; xor edx,edx; mov eax,0x5000; l: monitor; cmp dword [0x5000],1; je e; xor eax,eax; mwait;
    // mov eax,0x5000; jmp l; e: hlt
    let waiter = [
        0x31, 0xc9, 0x31, 0xd2, 0xb8, 0, 0x50, 0, 0, 0x0f, 0x01, 0xc8, 0x83, 0x3c, 0x25, 0, 0x50, 0, 0, 1,
        0x74, 0x0c, 0x31, 0xc0, 0x0f, 0x01, 0xc9, 0xb8, 0, 0x50, 0, 0, 0xeb, 0xe7, 0xf4,
    ];
    // Writer: mov ecx,1000000; l: dec ecx; jnz l; mov dword [0x5000],1; hlt
    let writer = [
        0xb9, 0x40, 0x42, 0x0f, 0, 0xff, 0xc9, 0x75, 0xfc, 0xc7, 0x04, 0x25, 0, 0x50, 0, 0, 1, 0, 0, 0, 0xf4,
    ];
    for _ in 0..3 {
        let (cpus, _) = pair([(0x1000, &waiter), (0x3000, &writer)]);
        let cpus = run_both(cpus);
        assert_eq!(cpus[0].state.rip, 0x1000 + waiter.len() as u64);
    }
}

#[test]
fn a_wait_that_nothing_ends_does_not_last() {
    // mov eax,0x5000; xor ecx,ecx; xor edx,edx; monitor; mwait; hlt -- the other halts at once
    let waiter = [0xb8, 0, 0x50, 0, 0, 0x31, 0xc9, 0x31, 0xd2, 0x0f, 0x01, 0xc8, 0x0f, 0x01, 0xc9, 0xf4];
    let (cpus, _) = pair([(0x1000, &waiter), (0x3000, &[0xf4])]);
    let cpus = run_both(cpus);
    assert_eq!(cpus[0].state.rip, 0x1000 + waiter.len() as u64);
}
