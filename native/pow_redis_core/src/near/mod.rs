//! What near values are valid by: versions, epochs, time, and what has arrived.

mod arrivals;
mod atomics;
pub mod boot_clock;
mod tally;
mod validity;

pub(crate) use arrivals::Watched;
pub use validity::{EpochEnd, Shard, Stamp, Validity, Version};
