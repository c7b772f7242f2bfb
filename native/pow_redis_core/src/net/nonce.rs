//! Values that mark the ends of rounds.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Values for `ECHO`, each different, that no reply to another command resembles by chance.
#[derive(Debug)]
pub(super) struct Nonce(u64);

impl Nonce {
    /// Starts at a random number.
    pub(super) fn new() -> Self {
        Self(RandomState::new().build_hasher().finish())
    }

    /// The next value.
    pub(super) fn next(&mut self) -> String {
        self.0 = self.0.wrapping_add(1);
        format!("{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_different() {
        let mut nonce = Nonce::new();
        let (first, second) = (nonce.next(), nonce.next());
        assert_ne!(first, second);
        assert_ne!(first, Nonce::new().next());
        assert_eq!((first.len(), second.len()), (16, 16));
    }
}
