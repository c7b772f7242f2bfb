//! Everything of `pow_redis_cache` that is not Erlang.
//!
//! A [`Cache`](cache::Cache) holds worker threads, each with a Redis connection of its own. What a
//! caller asks for is an [`Operation`](operation::Operation): a state machine without I/O that
//! writes Redis commands and reads their replies. Keys, patterns and values are handled as bytes of
//! the Erlang external term format ([`etf`]); no term is ever built here.
//!
//! Arrows point one way: `etf → key → pattern → operation → worker → cache`.
#![forbid(unsafe_code)]

pub mod address;
mod backoff;
pub mod cache;
pub mod census;
pub mod clock;
mod cluster;
pub mod commands;
pub mod connection;
mod deadline;
pub mod error;
pub mod etf;
pub mod examination;
mod failure;
mod inbox;
pub mod index;
pub mod key;
mod link;
pub mod operation;
pub mod options;
mod pace;
pub mod path;
pub mod pattern;
mod pipeline;
pub mod records;
mod repairs;
pub mod request;
mod resp;
mod route;
mod sentinel;
pub mod server;
pub mod server_info;
mod shared;
mod socket;
mod spin;
pub mod tls;
pub mod upkeep;
mod worker;
