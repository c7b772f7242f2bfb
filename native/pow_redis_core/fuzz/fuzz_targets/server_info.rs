#![no_main]

use libfuzzer_sys::fuzz_target;
use pow_redis_core::fuzzing::server_info;

fuzz_target!(|bytes: &[u8]| server_info(bytes));
