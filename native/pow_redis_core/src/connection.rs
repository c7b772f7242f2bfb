//! A connection to Redis, on which every wait has a deadline.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use redis::Value;

use crate::address::Address;
use crate::clock::{Clock, unix_ms};
use crate::commands::{Commands, Replies};
use crate::error::{Error, ErrorKind};
use crate::failure::from_io;
use crate::resp;
use crate::server::Server;
use crate::server_info::{ServerInfo, version};
use crate::socket::Socket;
use crate::tls::TlsStream;

/// Up to so many replies are looked for before the thread sleeps. For more it need not be woken so often.
const FEW: usize = 4;

/// A connection that is logged in. After any error its position in the stream is in doubt: drop it.
pub struct Connection {
    stream: Stream,
    replies: resp::Replies,
    /// How many replies are to come.
    expected: usize,
    clock: Clock,
    version: Option<String>,
}

/// The bytes' way to a server.
pub(crate) enum Stream {
    Plain(Socket),
    Tls(Box<TlsStream>),
}

impl Connection {
    /// Connects, logs in, selects the database and reads the clock.
    pub fn open(server: &Server, deadline: Instant) -> Result<Self, Error> {
        let mut connection = Self::over(Stream::open(server, deadline)?);
        connection.log_in(server, deadline)?;
        Ok(connection)
    }

    /// A connection that is not logged in yet.
    pub(crate) fn over(stream: Stream) -> Self {
        Self {
            stream,
            replies: resp::Replies::default(),
            expected: 0,
            clock: Clock::local(Duration::ZERO),
            version: None,
        }
    }

    /// Logs in, selects the database and reads the clock.
    pub(crate) fn log_in(&mut self, server: &Server, deadline: Instant) -> Result<(), Error> {
        match self.log_in_as(server, server.username.as_deref(), deadline) {
            // Old URLs of Heroku carry a user that does not exist.
            Err(error) if server.username.is_some() && is_refused_pair(&error) => {
                // What is refused then too is the pair.
                self.log_in_as(server, None, deadline).or(Err(error))
            }
            outcome => outcome,
        }
    }

    fn log_in_as(
        &mut self,
        server: &Server,
        username: Option<&str>,
        deadline: Instant,
    ) -> Result<(), Error> {
        let mut commands = Commands::new();
        if let Some(password) = &server.password {
            commands.push("AUTH", |command| {
                command.arg(username).arg(password);
            });
        }
        if server.database != 0 {
            commands.push("SELECT", |command| {
                command.arg(server.database);
            });
        }
        let needed = commands.len();
        commands.push("INFO", |command| {
            command.arg("server");
        });
        commands.push("TIME", |_| ());
        let asked_at = Instant::now();
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
        self.set_clock(replies.next_value(), asked_at.elapsed())
    }

    /// Asks for the time: sets the clock, and shows that the server is there.
    pub fn read_clock(&mut self, deadline: Instant) -> Result<(), Error> {
        let mut commands = Commands::new();
        commands.push("TIME", |_| ());
        let asked_at = Instant::now();
        let mut replies = self.round_trip(&commands, deadline)?;
        self.set_clock(replies.next_value(), asked_at.elapsed())
    }

    fn set_clock(&mut self, time: Result<Value, Error>, took: Duration) -> Result<(), Error> {
        match time {
            Ok(Value::Array(parts)) => {
                let unix_ms = unix_ms(&parts).ok_or(ErrorKind::Protocol)?;
                self.clock = Clock::server(unix_ms, took);
                Ok(())
            }
            Ok(_) => Err(ErrorKind::Protocol.into()),
            Err(error) if is_refusal(&error) => {
                self.clock = Clock::local(took);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Sends one command and reads its reply, an error reply as an error.
    pub(crate) fn ask(
        &mut self,
        name: &str,
        arguments: &[&str],
        deadline: Instant,
    ) -> Result<Value, Error> {
        let mut commands = Commands::new();
        commands.push(name, |command| {
            command.arg(arguments);
        });
        self.round_trip(&commands, deadline)?.next_value()
    }

    /// Asks the server what it says of itself.
    pub(crate) fn ask_info(&mut self, deadline: Instant) -> Result<ServerInfo, Error> {
        match self.ask("INFO", &[], deadline)? {
            Value::BulkString(info) => Ok(ServerInfo::read(&info)),
            _ => Err(ErrorKind::Protocol.into()),
        }
    }

    /// Asks for the time, in milliseconds since 1970.
    pub(crate) fn ask_time(&mut self, deadline: Instant) -> Result<i64, Error> {
        match self.ask("TIME", &[], deadline)? {
            Value::Array(parts) => unix_ms(&parts).ok_or_else(|| ErrorKind::Protocol.into()),
            _ => Err(ErrorKind::Protocol.into()),
        }
    }

    pub(crate) fn round_trip(
        &mut self,
        commands: &Commands,
        deadline: Instant,
    ) -> Result<Replies, Error> {
        self.send(commands.as_bytes(), commands.len(), deadline)?;
        let values = (0..commands.len())
            .map(|_| self.receive(deadline))
            .collect::<Result<_, _>>()?;
        Ok(Replies::new(values))
    }

    /// Sends packed commands, which so many replies will answer. Refuses to where a reply lies that
    /// nobody has asked for: it would be taken for the answer.
    pub fn send(
        &mut self,
        commands: &[u8],
        replies: usize,
        deadline: Instant,
    ) -> Result<(), Error> {
        if self.expected == 0 && self.has_more() {
            return Err(ErrorKind::Protocol.into());
        }
        self.expected += replies;
        self.stream.socket().set_deadline(deadline);
        self.stream
            .write_all(commands)
            .and_then(|()| self.stream.flush())
            .map_err(|error| from_io(&error))
    }

    /// Reads the next reply. An error reply is a value here.
    pub fn receive(&mut self, deadline: Instant) -> Result<Value, Error> {
        let socket = self.stream.socket();
        socket.set_deadline(deadline);
        socket.set_spins(self.expected <= FEW);
        let reply = self.replies.next_reply(&mut self.stream)?;
        self.expected = self.expected.saturating_sub(1);
        reply.map_err(|error| from_io(&error))
    }

    /// Whether a reply has come, or a part of one.
    pub fn has_more(&self) -> bool {
        self.replies.has_more()
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

/// The user and password that belong together do not, or the server knows no users.
fn is_refused_pair(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Server(code) if matches!(code.as_str(), "WRONGPASS" | "ERR"))
}

impl Stream {
    fn open(server: &Server, deadline: Instant) -> Result<Self, Error> {
        let socket = Socket::open(&server.address, deadline).map_err(|error| from_io(&error))?;
        Self::over(server, socket)
    }

    /// Does the handshake, where the server is to speak TLS.
    pub(crate) fn over(server: &Server, socket: Socket) -> Result<Self, Error> {
        match (&server.tls, &server.address) {
            (Some(tls), Address::Tcp { host, .. }) => {
                Ok(Self::Tls(Box::new(tls.connect(host, socket)?)))
            }
            _ => Ok(Self::Plain(socket)),
        }
    }

    /// The certificate that the server showed, in DER.
    pub(crate) fn certificate(&self) -> Option<Vec<u8>> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => Some(stream.conn.peer_certificates()?.first()?.to_vec()),
        }
    }

    fn socket(&mut self) -> &mut Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &mut stream.sock,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;
    use std::time::Duration;

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
        // Who gives up before it connects leaves the peer waiting: nobody joins it.
        let (server, _handle) = peer(GREETING, Duration::from_millis(20));
        let begin = Instant::now();
        let outcome = Connection::open(&server, begin + Duration::from_millis(200));
        assert_eq!(outcome.err(), Some(ErrorKind::Timeout.into()));
        assert!(begin.elapsed() >= Duration::from_millis(200));
    }

    #[test]
    fn garbage_is_a_protocol_error() {
        let (server, handle) = peer(b"HTTP/1.1 400 Bad Request\r\n\r\n", Duration::ZERO);
        let soon = Instant::now() + Duration::from_secs(5);
        let outcome = Connection::open(&server, soon);
        assert_eq!(outcome.err(), Some(ErrorKind::Protocol.into()));
        handle.join().unwrap();
    }
}
