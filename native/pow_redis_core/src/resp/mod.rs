//! Redis's protocol (RESP): commands packed for sending, and replies read from a stream.

pub mod commands;
pub(crate) mod reader;
pub mod replies;
#[cfg(test)]
pub(crate) mod testing;
