#![no_main]

use libfuzzer_sys::fuzz_target;
use pow_redis_core::fuzzing::redis_key;

fuzz_target!(|bytes: &[u8]| redis_key(bytes));
