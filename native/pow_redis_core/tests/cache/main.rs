//! A running cache with a Redis server of its own, or with a fake server that misbehaves.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot continue panics"
)]

mod calls;
mod failures;
mod fake_server;
mod listing;
mod near;
mod order;
mod outages;
mod queues;
mod records;
mod redis_server;
mod secrets;
mod stopping;
