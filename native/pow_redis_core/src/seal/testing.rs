//! Test support: keyrings.

#![cfg(test)]

use super::{KeyId, Keyring, PlainValues, SealKey, WriteForm};

/// A key that is different for each number.
pub(crate) fn key(id: &str, number: u8) -> SealKey {
    SealKey::new(KeyId::new(id.as_bytes()).unwrap(), &[number; 32]).unwrap()
}

/// A keyring that seals with the first of the keys with these ids, and accepts plain values.
pub(crate) fn sealing(ids: &[&str]) -> Keyring {
    keyring(ids, WriteForm::Sealed, PlainValues::Accept)
}

/// A keyring with keys with these ids. The keys differ with the first bytes of their ids.
pub(crate) fn keyring(ids: &[&str], writes: WriteForm, plain: PlainValues) -> Keyring {
    let keys = ids.iter().map(|id| key(id, id.as_bytes()[0]));
    Keyring::new(keys.collect(), writes, plain).unwrap()
}
