#![no_main]

use libfuzzer_sys::fuzz_target;
use pow_redis_core::fuzzing::cluster_nodes;

fuzz_target!(|bytes: &[u8]| cluster_nodes(bytes));
