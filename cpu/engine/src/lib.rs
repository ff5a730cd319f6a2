//! The x86 CPU engine behind `-accel tcg`: tier 1, the interpreter.

pub mod fpu;
pub mod vector;
