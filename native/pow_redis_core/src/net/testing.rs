//! Test support: servers whose replies are written by hand.

#![cfg(test)]

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::address::Address;
use super::endpoint::Endpoint;

/// A deadline that no test reaches.
pub(super) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

/// Waits until something is so.
pub(crate) fn wait_until(mut is_so: impl FnMut() -> bool) {
    let deadline = soon();
    while !is_so() {
        assert!(Instant::now() < deadline);
        thread::sleep(Duration::from_millis(1));
    }
}

/// A reply that closes the connection.
pub(super) const CLOSE: &str = "";

/// A server that replies what a function says, on any number of connections.
pub(crate) struct FakeServer {
    pub(crate) port: u16,
    received: Received,
    stopped: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

/// The words of all commands received.
type Received = Arc<Mutex<Vec<Vec<String>>>>;

/// The reply to the words of a command. Without one, the server stays silent. After [`CLOSE`], it closes the
/// connection.
type Respond = dyn FnMut(&[String]) -> Option<String> + Send;

impl FakeServer {
    /// A server that replies to what a connection sends by itself, and leaves the rest to `respond`.
    pub(crate) fn start(respond: impl FnMut(&[String]) -> Option<String> + Send + 'static) -> Self {
        Self::serve(TcpListener::bind("127.0.0.1:0").unwrap(), respond)
    }

    /// The same, behind a listener.
    pub(crate) fn serve(
        listener: TcpListener,
        respond: impl FnMut(&[String]) -> Option<String> + Send + 'static,
    ) -> Self {
        Self::behind(listener, greeting, respond)
    }

    /// A server that leaves all commands to `respond`.
    pub(super) fn scripted(
        respond: impl FnMut(&[String]) -> Option<String> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self::behind(listener, |_| None, respond)
    }

    /// What `greeting` does not reply to, `respond` does, which may hang.
    fn behind(
        listener: TcpListener,
        greeting: fn(&[String]) -> Option<String>,
        respond: impl FnMut(&[String]) -> Option<String> + Send + 'static,
    ) -> Self {
        let port = listener.local_addr().unwrap().port();
        let respond: Arc<Mutex<Respond>> = Arc::new(Mutex::new(respond));
        let (received, stopped) = (Received::default(), Arc::new(AtomicBool::new(false)));
        let streams = Arc::<Mutex<Vec<TcpStream>>>::default();
        let server = Self {
            port,
            received: Arc::clone(&received),
            stopped: Arc::clone(&stopped),
            streams: Arc::clone(&streams),
        };
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (respond, received) = (Arc::clone(&respond), Arc::clone(&received));
                let stream = stream.unwrap();
                streams.lock().unwrap().push(stream.try_clone().unwrap());
                thread::spawn(move || {
                    let reply =
                        |words: &_| greeting(words).or_else(|| respond.lock().unwrap()(words));
                    serve(&stream, reply, &received);
                    let _ = stream.shutdown(Shutdown::Both);
                });
            }
        });
        server
    }

    /// A server that tracks what is read, and leaves commands on keys to `respond`.
    pub(crate) fn tracking(
        respond: impl FnMut(&[String]) -> Option<String> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self::behind(listener, tracking_greeting, respond)
    }

    /// Sends this on all connections, though nobody has asked.
    pub(crate) fn say(&self, words: &str) {
        for mut stream in self.streams.lock().unwrap().iter() {
            // Those that were closed do not matter.
            let _ = stream.write_all(words.as_bytes());
        }
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::new(Address::Tcp {
            host: "127.0.0.1".to_owned(),
            port: self.port,
        })
    }

    /// How many commands of this name it has received.
    pub(crate) fn received(&self, name: &str) -> usize {
        self.commands(name).len()
    }

    /// The commands of this name that it has received.
    pub(super) fn commands(&self, name: &str) -> Vec<String> {
        let received = self.received.lock().unwrap();
        let commands = received.iter().filter(|words| words[0] == name);
        commands.map(|words| words.join(" ")).collect()
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(stream: &TcpStream, reply: impl Fn(&[String]) -> Option<String>, received: &Received) {
    stream.set_nodelay(true).unwrap();
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    while let Some(count) = lines.next() {
        let count: usize = count[1..].parse().unwrap();
        let packed: Vec<_> = lines.by_ref().take(2 * count).collect();
        let words: Vec<_> = packed.into_iter().skip(1).step_by(2).collect();
        received.lock().unwrap().push(words.clone());
        let reply = reply(&words);
        if reply.as_deref() == Some(CLOSE) {
            return;
        }
        if reply.is_some_and(|reply| { stream }.write_all(reply.as_bytes()).is_err()) {
            return;
        }
    }
}

/// The reply to what a connection sends by itself.
pub(super) fn greeting(words: &[String]) -> Option<String> {
    match words[0].as_str() {
        "INFO" => Some(bulk("redis_version:7.0.15\r\n")),
        "TIME" => Some(array(&["1700", "500000"])),
        "CLIENT" => Some("-ERR unknown command\r\n".to_owned()),
        "ECHO" => Some(bulk(&words[1])),
        _ => None,
    }
}

/// The same of a server that tracks what is read.
fn tracking_greeting(words: &[String]) -> Option<String> {
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["HELLO", "3"] => Some("%1\r\n$5\r\nproto\r\n:3\r\n".to_owned()),
        ["CLIENT", "TRACKING", "ON"] => Some("+OK\r\n".to_owned()),
        ["INFO", "server"] => Some(bulk("redis_version:7.0.15\r\nrun_id:abc\r\n")),
        ["INFO", "replication"] => Some(bulk("role:master\r\n")),
        _ => greeting(words),
    }
}

pub(crate) fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

pub(crate) fn array(texts: &[&str]) -> String {
    let items: String = texts.iter().map(|text| bulk(text)).collect();
    format!("*{}\r\n{items}", texts.len())
}
