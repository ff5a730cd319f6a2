//! Chores of this repository: guests for the tests, checks, measurements. `cargo xtask help` lists them.

#![forbid(unsafe_code)]

fn main() -> anyhow::Result<()> {
    anyhow::bail!("no task yet")
}
