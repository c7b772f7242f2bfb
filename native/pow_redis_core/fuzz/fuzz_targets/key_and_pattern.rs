#![no_main]

use libfuzzer_sys::fuzz_target;
use pow_redis_core::fuzzing::key_and_pattern;

fuzz_target!(|bytes: &[u8]| key_and_pattern(bytes));
