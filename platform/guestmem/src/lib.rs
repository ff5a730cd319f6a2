//! Guest memory: RAM blocks, the tree of regions, the flat view that accesses use, and DMA.
//!
//! Boards build a tree of [`Region`]s (RAM, ROM, I/O, alias, container; priorities; enable bits). An [`AddressSpace`]
//! renders its tree to an immutable [`FlatView`] whenever the tree changes and swaps it in atomically, so that an
//! access never takes a lock. Subscribers (accelerators) are told of each new view.
//!
//! Unsafe code is confined to `ram`: everything that touches guest RAM does so through bounds-checked methods there,
//! with relaxed atomic or volatile accesses, since guest code may write the same bytes at any time.

mod describe;
mod dma;
mod engine;
mod io;
mod ram;
mod region;
mod space;
mod view;

pub use describe::describe;
pub use dma::Dma;
pub use engine::{FileEngine, NativeContext};
pub use io::{IoHandler, IoRules};
pub use ram::{PAGE_SIZE, RamBlock, RamSlice};
pub use region::Region;
pub use space::AddressSpace;
pub use view::{FlatRange, FlatView, Target};
