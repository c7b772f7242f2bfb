//! Redis's protocol (RESP): packing commands and reading replies.

pub mod commands;
pub(crate) mod parser;
pub(crate) mod reader;
pub mod replies;
pub(crate) mod testing;
