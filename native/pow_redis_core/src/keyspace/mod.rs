//! The data model in Redis: keys, index sets, and patterns of keys.
//!
//! This room only writes commands: it does not depend on the connection that sends them.

pub mod index;
pub mod index_pattern;
pub mod key;
pub mod layout;
pub mod pattern;
pub mod redis_key;
pub(crate) mod testing;
pub mod ttl;
