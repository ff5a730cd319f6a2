//! `info mtree`: the address spaces of processors and of the PCI functions.

use guestmem::Region;
use pc::Pc;

/// All trees of the board.
pub(crate) fn memory_trees(board: &Pc, disabled: bool) -> String {
    let (memory, ports) = (&board.memory.memory, &board.memory.ports);
    let system = memory.root();
    let mut out = String::new();
    for index in 0..board.cpus.len() {
        out.push_str(&format!("address-space: cpu-memory-{index}\n"));
    }
    // A function reaches memory through a window that the guest opens.
    let functions: Vec<(String, Region)> = board
        .pci
        .functions()
        .iter()
        .map(|function| {
            let all = Region::whole("bus master container");
            let window = Region::alias("bus master", system, 0, u64::MAX);
            window.set_enabled(function.dma().is_enabled());
            all.add(&window, 0);
            (function.name().to_owned(), all)
        })
        .collect();
    let functions = functions.iter().map(|(name, region)| (name.as_str(), region));
    let spaces: Vec<_> =
        [(memory.name(), system), (ports.name(), ports.root())].into_iter().chain(functions).collect();
    out + &guestmem::describe(&spaces, disabled)
}
