//! The connection to Redis: endpoints, credentials, TLS, Sentinel and Cluster.
//!
//! Knows nothing about the keys in the commands that it sends.

pub mod address;
pub(crate) mod client;
pub(crate) mod cluster;
pub(crate) mod cluster_view;
pub mod config;
mod connect_race;
pub mod connection;
pub(crate) mod deadline;
pub mod endpoint;
pub(crate) mod fence;
mod login;
pub(crate) mod lookup;
mod nonce;
mod optional_reply;
pub mod patience;
pub(crate) mod primary_watch;
mod redirection;
pub(crate) mod sentinel;
pub mod server_clock;
pub mod server_info;
pub(crate) mod slot_map;
pub(crate) mod socket;
pub(crate) mod standalone;
pub(crate) mod stream;
pub(crate) mod testing;
pub mod tls;
pub mod tracking;
