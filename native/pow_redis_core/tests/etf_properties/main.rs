//! Property tests of terms, keys and patterns, on generated terms.
//!
//! `PROPTEST_CASES` sets the number of cases.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot continue panics"
)]

mod bytes;
mod encoding;
mod keys;
mod patterns;
mod term;
mod terms;

use proptest::prelude::ProptestConfig;

/// The number of cases per property, unless `PROPTEST_CASES` is set.
const CASES: u32 = 32;

/// The configuration of all property tests. Failed cases are not persisted in files: they become lines of
/// [`bytes::regressions`].
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    let is_configured = std::env::var_os("PROPTEST_CASES").is_some();
    ProptestConfig {
        cases: if is_configured { default.cases } else { CASES },
        failure_persistence: None,
        ..default
    }
}
