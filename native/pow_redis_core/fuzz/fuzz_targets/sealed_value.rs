#![no_main]

use libfuzzer_sys::fuzz_target;
use pow_redis_core::fuzzing::sealed_value;

fuzz_target!(|bytes: &[u8]| sealed_value(bytes));
