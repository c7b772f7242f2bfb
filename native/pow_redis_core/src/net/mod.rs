//! The connection to Redis: where it is, how to log in, and how commands get there and replies back.
//!
//! Knows nothing of the keys that the commands carry.

pub mod address;
pub(crate) mod client;
pub(crate) mod cluster;
pub mod config;
pub mod connection;
pub(crate) mod deadline;
pub mod endpoint;
pub(crate) mod sentinel;
pub mod server_clock;
pub mod server_info;
pub(crate) mod slot_map;
pub(crate) mod socket;
pub(crate) mod stream;
pub mod tls;
