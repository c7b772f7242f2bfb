//! Test support: a few keys and their encodings.

use super::key::Key;
use super::pattern::Pattern;

/// The namespace `"n"` in a Redis key.
pub(crate) const N: &str = "g20AAAABbg";
/// The part `1` in a Redis key.
pub(crate) const ONE: &str = "g2EB";
/// The part `2` in a Redis key.
pub(crate) const TWO: &str = "g2EC";
/// The atom `a` in a Redis key.
pub(crate) const A: &str = "g3cBYQ";
/// The atom `a` in a legacy Redis key.
pub(crate) const LEGACY_A: &str = "g2QAAWE";

// Terms without their version byte.
pub(crate) const INT_1: &[u8] = &[97, 1];
pub(crate) const INT_2: &[u8] = &[97, 2];
pub(crate) const ATOM_A: &[u8] = &[119, 1, b'a'];
pub(crate) const ANY: &[u8] = &[119, 1, b'_'];
const NAMESPACE: &[u8] = &[109, 0, 0, 0, 1, b'n'];

/// The key with these parts in the namespace `"n"`.
pub(crate) fn key(parts: &[&[u8]]) -> Key {
    Key::from_external(&namespaced(parts)).unwrap()
}

/// The pattern with these parts in the namespace `"n"`.
pub(crate) fn pattern(parts: &[&[u8]]) -> Pattern {
    Pattern::from_external(&namespaced(parts)).unwrap()
}

fn namespaced(parts: &[&[u8]]) -> Vec<u8> {
    let count = u32::try_from(parts.len() + 1).unwrap().to_be_bytes();
    [&[131, 108], &count[..], NAMESPACE, &parts.concat(), &[106]].concat()
}
