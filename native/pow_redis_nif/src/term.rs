//! Terms from the bytes of external terms.

use rustler::{Env, Term};

/// Which of the external terms that passed the check become terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decoding {
    /// All.
    Checked,
    /// Those whose atoms the VM knows.
    Safe,
}

impl Decoding {
    /// The term; `None` where the VM refuses it. It refuses rarities like a map that has a key twice.
    pub(crate) fn term<'a>(self, env: Env<'a>, bytes: &[u8]) -> Option<Term<'a>> {
        let decoded = match self {
            // SAFETY: The VM takes any bytes here, as `binary_to_term/1` does. That makes atoms, which
            // this decoding is for.
            Self::Checked => unsafe { env.binary_to_term_trusted(bytes) },
            Self::Safe => env.binary_to_term(bytes),
        };
        decoded.map(|(term, _length)| term)
    }
}
