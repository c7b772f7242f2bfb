//! Test support: a few keys and their encodings.

#![cfg(test)]

use std::fmt::Debug;
use std::sync::Arc;

use super::index::Index;
use super::index_pattern::IndexPattern;
use super::key::Key;
use super::layout::Layout;
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
pub(crate) const VARIABLE: &[u8] = &[119, 2, b'$', b'1'];
const NAMESPACE: &[u8] = &[109, 0, 0, 0, 1, b'n'];

/// The key with these parts in the namespace `"n"`.
pub(crate) fn key(parts: &[&[u8]]) -> Key {
    valid(Key::from_external(&namespaced(parts)))
}

/// The pattern with these parts in the namespace `"n"`.
pub(crate) fn pattern(parts: &[&[u8]]) -> Pattern {
    valid(Pattern::from_external(&namespaced(parts)))
}

/// The pattern with these parts, and any number of further ones.
pub(crate) fn improper_pattern(parts: &[&[u8]]) -> Pattern {
    let mut list = namespaced(parts);
    list.pop();
    list.extend(ANY);
    valid(Pattern::from_external(&list))
}

/// The index pattern with these parts.
pub(crate) fn index_pattern(parts: &[&[u8]]) -> IndexPattern {
    valid(IndexPattern::from_external(&list(parts)).ok_or(parts))
}

/// One server, with an index set for each prefix.
pub(crate) fn every_prefix() -> Arc<Layout> {
    Arc::new(Layout::standalone(Index::EveryPrefix))
}

/// One server, without index sets.
pub(crate) fn no_index() -> Arc<Layout> {
    Arc::new(Layout::standalone(Index::Patterns(Vec::new())))
}

/// What a test's parts are decoded to.
fn valid<T>(decoded: Result<T, impl Debug>) -> T {
    decoded.unwrap_or_else(|error| panic!("expected valid parts, got: {error:?}"))
}

fn namespaced(parts: &[&[u8]]) -> Vec<u8> {
    list(&[&[NAMESPACE], parts].concat())
}

fn list(elements: &[&[u8]]) -> Vec<u8> {
    let count = valid(u32::try_from(elements.len())).to_be_bytes();
    [&[131, 108], &count[..], &elements.concat(), &[106]].concat()
}
