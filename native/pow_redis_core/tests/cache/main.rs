//! A running cache in front of a Redis server of its own, and in front of peers that misbehave.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on says so by a panic"
)]

mod calls;
mod failures;
mod fake_server;
mod listing;
mod order;
mod outages;
mod queues;
mod records;
mod redis_server;
mod stopping;
