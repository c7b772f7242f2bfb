//! Passwords leave no copy in memory. Linux shows a process its own memory as a file.
#![cfg(target_os = "linux")]

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;

use pow_redis_core::net::address::Address;
use pow_redis_core::net::endpoint::Endpoint;
use pow_redis_core::operation::{Operation, Ping};
use pow_redis_core::options::Options;
use pow_redis_core::secret::Secret;
use zeroize::Zeroizing;

use crate::calls::{call, start};
use crate::redis_server::{DEADLINE, RedisServer, wait_until};

const CHUNK: usize = 1 << 16;

/// A random secret, kept in a form that does not contain it.
struct Masked([u8; 32]);

impl Masked {
    fn random() -> Self {
        let mut bytes = [0; 32];
        let mut random = File::open("/dev/urandom").unwrap();
        random.read_exact(&mut bytes).unwrap();
        Self(bytes)
    }

    fn secret(&self) -> Secret {
        let bytes: Zeroizing<Vec<u8>> = Zeroizing::new(self.0.iter().map(|byte| !byte).collect());
        Secret::from(&bytes[..])
    }

    /// How often the secret is in the memory of this process.
    fn copies(&self) -> usize {
        let memory = File::open("/proc/self/mem").unwrap();
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let writable = maps.lines().filter(|line| line.contains(" rw"));
        writable
            .map(|line| {
                let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
                let address = |text| u64::from_str_radix(text, 16).unwrap();
                self.copies_in(&memory, address(from), address(to))
            })
            .sum()
    }

    fn copies_in(&self, memory: &File, from: u64, to: u64) -> usize {
        let (mut copies, mut at) = (0, from);
        let mut chunk = vec![0; CHUNK];
        let own = chunk.as_ptr_range();
        let own = own.start.addr()..own.end.addr();
        while at < to {
            // Another thread may have freed this memory.
            let Ok(read @ 1..) = memory.read_at(&mut chunk, at) else {
                break;
            };
            // At once, so that the chunk is no copy when it is freed.
            chunk.iter_mut().for_each(|byte| *byte = !*byte);
            let start = usize::try_from(at).unwrap();
            let read = read.min(usize::try_from(to - at).unwrap());
            let windows = chunk[..read].windows(self.0.len()).zip(start..);
            // What has just been read into the chunk is no copy either.
            copies += windows
                .filter(|(window, address)| *window == self.0 && !own.contains(address))
                .count();
            // The next chunk overlaps, for copies across their border.
            let step = if read == CHUNK {
                read - self.0.len() + 1
            } else {
                read
            };
            at += u64::try_from(step).unwrap();
        }
        copies
    }
}

#[test]
fn a_password_is_in_memory_once_and_is_wiped_with_its_cache() {
    let server = RedisServer::start();
    // This user has any password.
    server.command::<()>("ACL SETUSER ann on nopass ~* +@all");
    let masked = Masked::random();
    assert_eq!(masked.copies(), 0);
    let endpoint = Endpoint {
        username: Some(b"ann".to_vec()),
        password: Some(masked.secret()),
        ..Endpoint::new(Address::Unix(server.socket()))
    };
    let (cache, _) = start(Options {
        timeout: DEADLINE,
        ..Options::for_endpoint(endpoint)
    });
    // Logs in again over new connections.
    for _ in 0..3 {
        call(&cache, Operation::Ping(Ping)).unwrap();
        server.kill_connections();
    }
    call(&cache, Operation::Ping(Ping)).unwrap();
    wait_until("the logins are over", || masked.copies() == 1);
    drop(cache);
    wait_until("the password is wiped", || masked.copies() == 0);
}
