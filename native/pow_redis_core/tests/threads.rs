//! The threads of a cache end with it. In a process of its own, since it counts threads.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot continue panics")]

use std::fs;
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use pow_redis_core::cache::Cache;
use pow_redis_core::net::address::Address;
use pow_redis_core::net::config::ConnectConfig;
use pow_redis_core::net::endpoint::Endpoint;
use pow_redis_core::operation::{Operation, Ping};
use pow_redis_core::options::Options;

/// The number of threads of this process that are workers.
fn workers() -> usize {
    let threads = fs::read_dir("/proc/self/task").unwrap();
    threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("comm")).ok())
        .filter(|name| name.starts_with("pow_redis_"))
        .count()
}

fn wait_for_workers(count: usize) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while workers() != count {
        assert!(Instant::now() < deadline, "{} workers", workers());
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn worker_threads_end_with_the_cache() {
    // Accepts connections, but never replies.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = listener.local_addr().unwrap().port();
    let refusing = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    for port in [silent, refusing] {
        let endpoint = Endpoint::new(Address::Tcp {
            host: "127.0.0.1".to_owned(),
            port,
        });
        let options = Options {
            pool_size: 4,
            max_queue: 16,
            timeout: Duration::from_secs(30),
            connect: ConnectConfig::for_endpoint(endpoint.clone(), Duration::from_millis(500)),
            ..Options::for_endpoint(endpoint)
        };
        let cache = Cache::start(options, Box::new(|_| ())).unwrap();
        wait_for_workers(4);
        for _ in 0..16 {
            let ping = Operation::Ping(Ping);
            cache.submit(ping, Box::new(|_| ())).unwrap();
        }
        drop(cache);
        wait_for_workers(0);
    }
}
