//! Erlang's external term format, read and written as bytes.
//!
//! The format is described at <https://www.erlang.org/doc/apps/erts/erl_ext_dist.html>. Bytes come from the
//! Erlang VM or from Redis. Bytes from Redis are untrusted: reading any bytes yields a value or an [`Error`]
//! with an offset, in time and memory proportional to their length.

mod canonical;
mod check;
mod cursor;
mod error;
mod head;
mod list;
mod memory;
mod tag;
mod walk;

pub use canonical::{AtomEncoding, canonicalize, write_canonical};
pub use check::{MAX_VALUE_LEN, check, measure};
pub use cursor::Cursor;
pub use error::{Error, ErrorKind};
pub use head::{Atom, Head, Integer, Opaque};
pub use list::{Element, Elements, ListWriter};
pub use memory::{MAX_VALUE_ATOMS, MAX_VALUE_MEMORY, off_heap_bytes, term_memory};
pub use tag::VERSION;
pub use walk::{MAX_DEPTH, skip, term_after_version};
