//! A connection to Redis, on which every wait has a deadline.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use redis::{ConnectionAddr, Parser, Value};

use crate::clock::Clock;
use crate::commands::{Commands, Replies};
use crate::error::{Error, ErrorKind};
use crate::options::Server;

/// A connection that is logged in. After any error its position in the stream is in doubt: drop it.
pub struct Connection {
    stream: Stream,
    parser: Parser,
    clock: Clock,
    version: Option<String>,
}

enum Stream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Connection {
    /// Connects, logs in, selects the database and reads the clock.
    pub fn open(server: &Server, deadline: Instant) -> Result<Self, Error> {
        let mut connection = Self {
            stream: Stream::open(server.address(), deadline).map_err(from_io)?,
            parser: Parser::new(),
            clock: Clock::local(),
            version: None,
        };
        connection.log_in(server, deadline)?;
        Ok(connection)
    }

    fn log_in(&mut self, server: &Server, deadline: Instant) -> Result<(), Error> {
        let mut commands = Commands::new();
        if let Some(password) = server.password() {
            commands.push("AUTH", |command| {
                command.arg(server.username()).arg(password);
            });
        }
        if server.database() != 0 {
            commands.push("SELECT", |command| {
                command.arg(server.database());
            });
        }
        let needed = commands.len();
        commands.push("INFO", |command| {
            command.arg("server");
        });
        commands.push("TIME", |_| ());
        let mut replies = self.round_trip(&commands, deadline)?;
        for _ in 0..needed {
            replies.next_value()?;
        }
        // A user may lack the permission for what is not needed.
        match replies.next_bytes() {
            Ok(info) => self.version = info.as_deref().and_then(version),
            Err(error) if is_refusal(&error) => {}
            Err(error) => return Err(error),
        }
        self.set_clock(replies.next_value())
    }

    /// Asks for the time: sets the clock, and shows that the server is there.
    pub fn read_clock(&mut self, deadline: Instant) -> Result<(), Error> {
        let mut commands = Commands::new();
        commands.push("TIME", |_| ());
        let mut replies = self.round_trip(&commands, deadline)?;
        self.set_clock(replies.next_value())
    }

    fn set_clock(&mut self, time: Result<Value, Error>) -> Result<(), Error> {
        match time {
            Ok(Value::Array(parts)) => {
                let unix_ms = unix_ms(&parts).ok_or(ErrorKind::Protocol)?;
                self.clock = Clock::server(unix_ms);
                Ok(())
            }
            Ok(_) => Err(ErrorKind::Protocol.into()),
            Err(error) if is_refusal(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn round_trip(&mut self, commands: &Commands, deadline: Instant) -> Result<Replies, Error> {
        self.send(commands, deadline)?;
        let values = (0..commands.len())
            .map(|_| self.receive(deadline))
            .collect::<Result<_, _>>()?;
        Ok(Replies::new(values))
    }

    /// Sends commands.
    pub fn send(&mut self, commands: &Commands, deadline: Instant) -> Result<(), Error> {
        Timed::new(&mut self.stream, deadline)
            .write_all(commands.as_bytes())
            .map_err(from_io)
    }

    /// Reads the next reply. An error reply is a value here.
    pub fn receive(&mut self, deadline: Instant) -> Result<Value, Error> {
        self.parser
            .parse_value(Timed::new(&mut self.stream, deadline))
            .map_err(|error| {
                if error.is_timeout() {
                    ErrorKind::Timeout.into()
                } else if error.is_io_error() {
                    ErrorKind::Disconnected.into()
                } else {
                    ErrorKind::Protocol.into()
                }
            })
    }

    /// The server's clock.
    pub const fn clock(&self) -> Clock {
        self.clock
    }

    /// The server's version, where it says it.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }
}

fn is_refusal(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Server(code) if !code.calls_for_reconnect() && code.as_str() != "NOAUTH")
}

fn from_io(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ErrorKind::Timeout.into(),
        _ => ErrorKind::Disconnected.into(),
    }
}

fn version(info: &[u8]) -> Option<String> {
    let info = std::str::from_utf8(info).ok()?;
    let field = |name: &str| {
        info.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
    };
    match (field("valkey_version"), field("redis_version")) {
        (Some(version), _) => Some(format!("Valkey {version}")),
        (None, Some(version)) => Some(format!("Redis {version}")),
        (None, None) => None,
    }
}

fn unix_ms(time: &[Value]) -> Option<i64> {
    let number = |value: &Value| match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?.parse::<i64>().ok(),
        _ => None,
    };
    match time {
        [seconds, microseconds] => number(seconds)?
            .checked_mul(1_000)?
            .checked_add(number(microseconds)? / 1_000),
        _ => None,
    }
}

impl Stream {
    fn open(address: &ConnectionAddr, deadline: Instant) -> io::Result<Self> {
        match address {
            ConnectionAddr::Tcp(host, port) => {
                let mut failure = io::Error::from(io::ErrorKind::NotFound);
                for address in (host.as_str(), *port).to_socket_addrs()? {
                    match TcpStream::connect_timeout(&address, left(deadline)?) {
                        Ok(stream) => {
                            stream.set_nodelay(true)?;
                            return Ok(Self::Tcp(stream));
                        }
                        Err(error) => failure = error,
                    }
                }
                Err(failure)
            }
            #[cfg(unix)]
            ConnectionAddr::Unix(path) => UnixStream::connect(path).map(Self::Unix),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

/// The time that is left; an error when there is none.
fn left(deadline: Instant) -> io::Result<Duration> {
    match deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
        left => Ok(left),
    }
}

/// A stream on which each read and write waits until one deadline at most, however many there are.
struct Timed<'s> {
    stream: &'s mut Stream,
    deadline: Instant,
}

impl<'s> Timed<'s> {
    const fn new(stream: &'s mut Stream, deadline: Instant) -> Self {
        Self { stream, deadline }
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let timeout = Some(left(self.deadline)?);
        match self.stream {
            Stream::Tcp(stream) => {
                stream.set_read_timeout(timeout)?;
                stream.read(buffer)
            }
            #[cfg(unix)]
            Stream::Unix(stream) => {
                stream.set_read_timeout(timeout)?;
                stream.read(buffer)
            }
        }
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let timeout = Some(left(self.deadline)?);
        match self.stream {
            Stream::Tcp(stream) => {
                stream.set_write_timeout(timeout)?;
                stream.write(bytes)
            }
            #[cfg(unix)]
            Stream::Unix(stream) => {
                stream.set_write_timeout(timeout)?;
                stream.write(bytes)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    /// A server that accepts once, reads what comes, and writes `script` slowly.
    fn peer(script: &'static [u8], pause: Duration) -> (Server, thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let handle = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for byte in script {
                if stream.write_all(&[*byte]).is_err() {
                    return;
                }
                thread::sleep(pause);
            }
            // Holds the connection until the client lets go.
            let _ = stream.read_to_end(&mut Vec::new());
        });
        (Server::from_url(&url).unwrap(), handle)
    }

    const GREETING: &[u8] =
        b"$22\r\nredis_version:7.0.15\r\n\r\n*2\r\n$4\r\n1700\r\n$6\r\n500000\r\n";

    #[test]
    fn reads_version_and_clock() {
        let (server, handle) = peer(GREETING, Duration::ZERO);
        let soon = Instant::now() + Duration::from_secs(5);
        let connection = Connection::open(&server, soon).unwrap();
        assert_eq!(connection.version(), Some("Redis 7.0.15"));
        assert!((1_700_500..1_760_500).contains(&connection.clock().now_ms()));
        drop(connection);
        handle.join().unwrap();
    }

    #[test]
    fn many_small_reads_share_one_deadline() {
        let (server, handle) = peer(GREETING, Duration::from_millis(20));
        let begin = Instant::now();
        let outcome = Connection::open(&server, begin + Duration::from_millis(200));
        assert_eq!(outcome.err(), Some(ErrorKind::Timeout.into()));
        assert!(begin.elapsed() >= Duration::from_millis(200));
        handle.join().unwrap();
    }

    #[test]
    fn garbage_is_a_protocol_error() {
        let (server, handle) = peer(b"HTTP/1.1 400 Bad Request\r\n\r\n", Duration::ZERO);
        let soon = Instant::now() + Duration::from_secs(5);
        let outcome = Connection::open(&server, soon);
        assert_eq!(outcome.err(), Some(ErrorKind::Protocol.into()));
        handle.join().unwrap();
    }

    #[test]
    fn versions() {
        assert_eq!(
            version(b"redis_version:7.0.15\r\n").as_deref(),
            Some("Redis 7.0.15")
        );
        let valkey = b"redis_version:7.2.4\r\nvalkey_version:8.1.1\r\n";
        assert_eq!(version(valkey).as_deref(), Some("Valkey 8.1.1"));
        assert_eq!(version(b""), None);
    }
}
