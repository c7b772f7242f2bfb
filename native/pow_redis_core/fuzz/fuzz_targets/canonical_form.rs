#![no_main]

use libfuzzer_sys::fuzz_target;
use pow_redis_core::fuzzing::canonical_form;

fuzz_target!(|bytes: &[u8]| canonical_form(bytes));
