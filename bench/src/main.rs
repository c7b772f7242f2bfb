//! A TCP proxy on loopback that simulates network latency.
//!
//! It delays each direction by half of the round trip and does not limit the bytes in flight.
//! `pow_redis_bench UPSTREAM_PORT ROUND_TRIP_US` prints the port that it listens on, and ends when its
//! standard input closes.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};
use std::{env, process, thread};

const BUFFER: usize = 64 << 10;
/// How much longer than requested a thread sleeps (Linux's default timer slack).
const TIMER_SLACK: Duration = Duration::from_micros(50);

fn main() -> io::Result<()> {
    let Some((upstream, delay)) = arguments() else {
        eprintln!("usage: pow_redis_bench UPSTREAM_PORT ROUND_TRIP_US");
        process::exit(2);
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", listener.local_addr()?.port());
    thread::spawn(|| {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        process::exit(0);
    });
    for client in listener.incoming() {
        let client = client?;
        if let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, upstream)) {
            client.set_nodelay(true)?;
            server.set_nodelay(true)?;
            pump(client.try_clone()?, server.try_clone()?, delay);
            pump(server, client, delay);
        }
    }
    Ok(())
}

/// The upstream port, and the delay of one direction.
fn arguments() -> Option<(u16, Duration)> {
    let mut arguments = env::args().skip(1);
    let upstream = arguments.next()?.parse().ok()?;
    let round_trip = Duration::from_micros(arguments.next()?.parse().ok()?);
    Some((upstream, round_trip / 2))
}

/// Forwards the bytes of one direction after the delay.
fn pump(from: TcpStream, to: TcpStream, delay: Duration) {
    let (sender, receiver) = channel();
    thread::spawn(move || read(from, delay, &sender));
    thread::spawn(move || write(to, &receiver));
}

fn read(mut from: TcpStream, delay: Duration, sender: &Sender<(Instant, Vec<u8>)>) {
    let mut buffer = vec![0; BUFFER];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let due = Instant::now() + delay;
        if sender.send((due, buffer[..length].to_vec())).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Read);
}

fn write(mut to: TcpStream, receiver: &Receiver<(Instant, Vec<u8>)>) {
    while let Ok((due, bytes)) = receiver.recv() {
        let left = due.saturating_duration_since(Instant::now());
        thread::sleep(left.saturating_sub(TIMER_SLACK));
        if to.write_all(&bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
