//! Decoding external terms.

use rustler::{Env, Term};

/// Which of the values that passed the check are decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decoding {
    /// All of them.
    Checked,
    /// Those whose atoms exist in the VM.
    Safe,
}

impl Decoding {
    /// Decodes a term. `None` if the VM cannot: a map with a duplicate key, say.
    pub(crate) fn term<'a>(self, env: Env<'a>, bytes: &[u8]) -> Option<Term<'a>> {
        let decoded = match self {
            // SAFETY: the VM accepts any bytes here, as `binary_to_term/1` does. It creates atoms, which is
            // what this decoding is for.
            Self::Checked => unsafe { env.binary_to_term_trusted(bytes) },
            Self::Safe => env.binary_to_term(bytes),
        };
        decoded.map(|(term, _length)| term)
    }
}
