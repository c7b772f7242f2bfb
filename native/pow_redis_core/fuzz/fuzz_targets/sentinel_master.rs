#![no_main]

use libfuzzer_sys::fuzz_target;
use pow_redis_core::fuzzing::sentinel_master;

fuzz_target!(|bytes: &[u8]| sentinel_master(bytes));
