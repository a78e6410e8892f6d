//! placeholder
pub mod clock;
pub mod disk;
