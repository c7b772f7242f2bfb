//! What near values are valid by: versions, epochs and time, without I/O.

mod atomics;
pub mod boot_clock;
mod tally;
mod validity;

pub use validity::{EpochEnd, Shard, Stamp, Validity, Version};
