//! Properties of terms, keys and patterns, on terms that the tests make up themselves.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on says so by a panic"
)]

mod bytes;
mod encoding;
mod keys;
mod patterns;
mod term;
mod terms;

use proptest::prelude::ProptestConfig;

/// What a case once failed for becomes a line of a table in these files, not a file of its own.
fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 512,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}
