//! What lies under which key in Redis: keys, index sets, and patterns on them.
//!
//! Knows nothing of the connection that the commands are sent over.

pub mod index;
pub mod index_maintenance;
pub mod key;
pub mod layout;
pub mod pattern;
pub mod redis_key;
#[cfg(test)]
pub(crate) mod testing;
pub mod ttl;
