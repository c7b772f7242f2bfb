//! A small namespace whose keys are known by heart, for tests.

use super::key::Key;
use super::pattern::Pattern;

/// The redis_key of the namespace `"n"`.
pub(crate) const N: &str = "g20AAAABbg";
/// The redis_key of the part `1`.
pub(crate) const ONE: &str = "g2EB";
/// The redis_key of the part `2`.
pub(crate) const TWO: &str = "g2EC";
/// The redis_key of the atom `a`, and where Erlang/OTP 25 and earlier wrote it.
pub(crate) const A: &str = "g3cBYQ";
pub(crate) const OLD_A: &str = "g2QAAWE";

/// Terms without their version byte.
pub(crate) const INT_1: &[u8] = &[97, 1];
pub(crate) const INT_2: &[u8] = &[97, 2];
pub(crate) const ATOM_A: &[u8] = &[119, 1, b'a'];
pub(crate) const ANY: &[u8] = &[119, 1, b'_'];
const NAMESPACE: &[u8] = &[109, 0, 0, 0, 1, b'n'];

/// The key of these parts in the namespace `"n"`.
pub(crate) fn key(parts: &[&[u8]]) -> Key {
    Key::from_external(&namespaced(parts)).unwrap()
}

/// The pattern of these parts in the namespace `"n"`.
pub(crate) fn pattern(parts: &[&[u8]]) -> Pattern {
    Pattern::from_external(&namespaced(parts)).unwrap()
}

fn namespaced(parts: &[&[u8]]) -> Vec<u8> {
    let number = u32::try_from(parts.len() + 1).unwrap().to_be_bytes();
    [&[131, 108], &number[..], NAMESPACE, &parts.concat(), &[106]].concat()
}
