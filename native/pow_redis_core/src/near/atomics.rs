//! The atomics of [`super::validity`]. `tests/validity.rs` has those of loom instead.

pub(super) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
