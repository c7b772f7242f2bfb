//! A peer that answers as a script says, for what a Redis server does on bad days alone.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

/// What the peer does with a command.
#[derive(Clone, Copy)]
pub enum Answer {
    /// Writes this.
    Reply(&'static [u8]),
    /// Writes this and closes the connection.
    Last(&'static [u8]),
    /// Waits for the next command.
    Silence,
}

/// Number of the connection, from 0, and the name of the command; nothing for the usual answer.
type Script = dyn Fn(usize, &str) -> Option<Answer> + Send + Sync;

/// A peer on a port of its own.
pub struct FakeServer {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FakeServer {
    pub fn start(script: impl Fn(usize, &str) -> Option<Answer> + Send + Sync + 'static) -> Self {
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
                // Ends when the client lets go, or at once when the script says so.
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

    /// How many times it was connected to.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Acquire)
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        // Wakes the thread that waits for a connection.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(stream: TcpStream, number: usize, script: &Script) {
    let mut reader = BufReader::new(stream);
    while let Some(command) = read_command(&mut reader) {
        let answer = script(number, &command).unwrap_or(Answer::Reply(usual_reply(&command)));
        let stream = reader.get_mut();
        match answer {
            Answer::Reply(bytes) if stream.write_all(bytes).is_ok() => {}
            Answer::Last(bytes) => {
                let _ = stream.write_all(bytes);
                return;
            }
            Answer::Silence => {}
            Answer::Reply(_) => return,
        }
    }
}

fn usual_reply(command: &str) -> &'static [u8] {
    match command {
        "INFO" => b"$22\r\nredis_version:7.0.15\r\n\r\n",
        "TIME" => b"*2\r\n$10\r\n1700000000\r\n$1\r\n0\r\n",
        "GET" => b"$3\r\n\x83a\x07\r\n",
        _ => b":1\r\n",
    }
}

/// The name of the next command.
fn read_command(reader: &mut impl BufRead) -> Option<String> {
    let words = read_number(reader, "*")?;
    let mut name = None;
    for _ in 0..words {
        let length = read_number(reader, "$")?;
        let mut word = vec![0; length + 2];
        reader.read_exact(&mut word).ok()?;
        word.truncate(length);
        name = name.or_else(|| String::from_utf8(word).ok());
    }
    name
}

fn read_number(reader: &mut impl BufRead, sign: &str) -> Option<usize> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    line.trim_end().strip_prefix(sign)?.parse().ok()
}
