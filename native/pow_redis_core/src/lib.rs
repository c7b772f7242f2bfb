//! Everything of `pow_redis_cache` that is not Erlang.
//!
//! A [`Cache`](cache::Cache) owns worker threads, each with its own Redis connection. Callers submit
//! an [`Operation`](operation::Operation): a state machine without I/O that writes Redis commands and
//! reads their replies. Keys, patterns and values stay bytes of the Erlang external term format
//! ([`etf`]); no term is ever built here.
//!
//! Imports point downwards: [`cache`], `worker`, then [`doctor`], [`operation`] and [`options`], then
//! [`net`] and [`keyspace`] side by side, then [`resp`], [`error`] and, at the bottom, [`secret`], `spin`
//! and [`etf`]. `tests/architecture.rs` checks every import against that order.
#![forbid(unsafe_code)]

pub mod cache;
pub mod doctor;
pub mod error;
pub mod etf;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod keyspace;
pub mod net;
pub mod operation;
pub mod options;
pub mod resp;
pub mod seal;
pub mod secret;
mod spin;
mod worker;
