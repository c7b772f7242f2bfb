//! Properties that hold for any bytes. The fuzz targets in `fuzz/` search for bytes that break one, and the
//! tests here replay their corpora.
//!
//! Exists only in tests and in fuzzers, and is above all rooms. Terms are checked against a simple and slow
//! reference implementation.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a property that does not hold panics"
)]

mod cluster_nodes;
mod cluster_slots;
mod key_and_pattern;
mod redis_key;
mod replies;
mod sealed_value;
mod sentinel_master;
mod server_info;
mod term;
mod value;

pub use cluster_nodes::cluster_nodes;
pub use cluster_slots::cluster_slots;
pub use key_and_pattern::key_and_pattern;
pub use redis_key::redis_key;
pub use replies::replies;
pub use sealed_value::sealed_value;
pub use sentinel_master::sentinel_master;
pub use server_info::server_info;
pub use value::{canonical_form, value};

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Calls a property with each file of a corpus.
    fn replay(corpus: &str, property: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fuzz/corpus")
            .join(corpus);
        let mut files = 0;
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            // Names the file of a failure.
            println!("{}", path.display());
            property(&fs::read(&path).unwrap());
            files += 1;
        }
        assert!(files >= 10, "{} has {files} files", folder.display());
    }

    #[test]
    fn value_corpus() {
        replay("value", value);
    }

    #[test]
    fn canonical_form_corpus() {
        replay("canonical_form", canonical_form);
    }

    #[test]
    fn key_and_pattern_corpus() {
        replay("key_and_pattern", key_and_pattern);
    }

    #[test]
    fn redis_key_corpus() {
        replay("redis_key", redis_key);
    }

    #[test]
    fn replies_corpus() {
        replay("replies", replies);
    }

    #[test]
    fn cluster_slots_corpus() {
        replay("cluster_slots", cluster_slots);
    }

    #[test]
    fn cluster_nodes_corpus() {
        replay("cluster_nodes", cluster_nodes);
    }

    #[test]
    fn sealed_value_corpus() {
        replay("sealed_value", sealed_value);
    }

    #[test]
    fn sentinel_master_corpus() {
        replay("sentinel_master", sentinel_master);
    }

    #[test]
    fn server_info_corpus() {
        replay("server_info", server_info);
    }

    /// Every corpus belongs to a target, and every target to a function that is replayed here.
    #[test]
    fn every_target_has_a_corpus() {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
        let names = |folder: &str| {
            let mut names: Vec<_> = fs::read_dir(fuzz.join(folder))
                .unwrap()
                .map(|entry| entry.unwrap().path().file_stem().unwrap().to_owned())
                .collect();
            names.sort();
            names
        };
        assert_eq!(names("fuzz_targets"), names("corpus"));
        let tests = include_str!("mod.rs");
        for name in names("corpus") {
            let name = name.to_str().unwrap();
            let call = format!("replay(\"{name}\", {name});");
            assert!(tests.contains(&call), "no test replays {name}");
        }
    }
}
