//! A server that follows a script, for behaviour that a Redis server rarely shows.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

/// What the server does after a command.
#[derive(Clone, Copy)]
pub enum Action {
    /// Sends these bytes.
    Reply(&'static [u8]),
    /// Sends these bytes and closes the connection.
    ReplyAndClose(&'static [u8]),
    /// Sends nothing.
    Ignore,
}

/// Receives the number of the connection, starting at 0, and the name of the command. `None` sends the
/// usual reply.
type Script = dyn Fn(usize, &str) -> Option<Action> + Send + Sync;

/// A server that follows a script, on a free port.
pub struct FakeServer {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FakeServer {
    pub fn start(script: impl Fn(usize, &str) -> Option<Action> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let script: Arc<Script> = Arc::new(script);
        let connections = Arc::new(AtomicUsize::new(0));
        let stopping = Arc::new(AtomicBool::new(false));
        let (counter, stop) = (Arc::clone(&connections), Arc::clone(&stopping));
        let thread = thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stop.load(Ordering::Acquire) {
                    return;
                }
                let number = counter.fetch_add(1, Ordering::AcqRel);
                let script = Arc::clone(&script);
                // The thread ends with the connection.
                thread::spawn(move || serve(stream, number, &*script));
            }
        });
        Self {
            address,
            connections,
            stopping,
            thread: Some(thread),
        }
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// The number of connections it has accepted.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Acquire)
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        // Wakes the thread, which waits for a connection.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(stream: TcpStream, number: usize, script: &Script) {
    let mut reader = BufReader::new(stream);
    while let Some(command) = read_command(&mut reader) {
        let name = command.first().map_or("", String::as_str);
        let stream = reader.get_mut();
        let written = match script(number, name) {
            None => stream.write_all(&usual_reply(&command)),
            Some(Action::Reply(bytes)) => stream.write_all(bytes),
            Some(Action::Ignore) => Ok(()),
            Some(Action::ReplyAndClose(bytes)) => {
                let _ = stream.write_all(bytes);
                return;
            }
        };
        if written.is_err() {
            return;
        }
    }
}

fn usual_reply(command: &[String]) -> Vec<u8> {
    let words: Vec<_> = command.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["INFO", ..] => b"$22\r\nredis_version:7.0.15\r\n\r\n".to_vec(),
        ["TIME"] => b"*2\r\n$10\r\n1700000000\r\n$1\r\n0\r\n".to_vec(),
        ["CLIENT", ..] => b"-ERR unknown command\r\n".to_vec(),
        ["ECHO", word] => format!("${}\r\n{word}\r\n", word.len()).into_bytes(),
        ["GET", ..] => b"$3\r\n\x83a\x07\r\n".to_vec(),
        _ => b":1\r\n".to_vec(),
    }
}

/// Reads a command.
fn read_command(reader: &mut impl BufRead) -> Option<Vec<String>> {
    let words = read_number(reader, "*")?;
    (0..words)
        .map(|_| {
            let length = read_number(reader, "$")?;
            let mut word = vec![0; length + 2];
            reader.read_exact(&mut word).ok()?;
            word.truncate(length);
            Some(String::from_utf8_lossy(&word).into_owned())
        })
        .collect()
}

fn read_number(reader: &mut impl BufRead, sign: &str) -> Option<usize> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    line.trim_end().strip_prefix(sign)?.parse().ok()
}
