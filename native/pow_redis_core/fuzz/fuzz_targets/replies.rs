#![no_main]

use libfuzzer_sys::fuzz_target;
use pow_redis_core::fuzzing::replies;

fuzz_target!(|bytes: &[u8]| replies(bytes));
