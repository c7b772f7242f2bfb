//! Erlang's external term format, read and written as bytes.
//!
//! The format is described at <https://www.erlang.org/doc/apps/erts/erl_ext_dist.html>. Bytes come
//! from the Erlang VM or from Redis; the latter are not trusted: whatever they hold, reading them
//! ends in a value or an [`Error`] with the offset, in time and memory in proportion to their
//! length.

mod canonical;
mod check;
mod cursor;
mod error;
mod head;
mod list;
mod tag;
mod walk;

pub use canonical::{AtomForm, canonical, external};
pub use check::check;
pub use cursor::Cursor;
pub use error::{Error, ErrorKind};
pub use head::{Atom, Head, Integer, Opaque};
pub use list::{Element, Elements, ListWriter};
pub use tag::VERSION;
pub use walk::{MAX_DEPTH, skip, term_after_version};
