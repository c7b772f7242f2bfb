//! A connection to one Redis server, on which every wait has a deadline.

use std::io::Write;
use std::time::{Duration, Instant};

use redis::Value;

use super::endpoint::Endpoint;
use super::server_clock::{ServerClock, unix_ms};
use super::server_info::{ServerInfo, version};
use super::stream::Stream;
use crate::error::{Error, ErrorKind};
use crate::resp::commands::Commands;
use crate::resp::reader::ReplyReader;
use crate::resp::replies::Replies;

/// How long to wait for what the server said before it closed the connection. It has arrived with the close.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_millis(50);

/// A connection, logged in. After any error its position in the stream is unknown: drop it.
pub struct Connection {
    stream: Stream,
    reader: ReplyReader,
    /// The number of outstanding replies.
    expected: usize,
    clock: ServerClock,
    version: Option<String>,
}

impl Connection {
    /// Connects, logs in, selects the database and reads the clock.
    pub fn open(endpoint: &Endpoint, deadline: Instant) -> Result<Self, Error> {
        let connection = Stream::open(endpoint, deadline).and_then(|stream| {
            let mut connection = Self::over(stream);
            connection.log_in(endpoint, deadline)?;
            Ok(connection)
        });
        connection.map_err(|error| error.at(&endpoint.address))
    }

    /// A connection that is not logged in yet.
    pub(crate) fn over(stream: Stream) -> Self {
        Self {
            stream,
            reader: ReplyReader::default(),
            expected: 0,
            clock: ServerClock::local(Duration::ZERO),
            version: None,
        }
    }

    /// Logs in, selects the database and reads the clock.
    pub(crate) fn log_in(&mut self, endpoint: &Endpoint, deadline: Instant) -> Result<(), Error> {
        let outcome = match self.log_in_as(endpoint, endpoint.username.as_deref(), deadline) {
            // Old URLs of Heroku name a user that does not exist.
            Err(error) if endpoint.username.is_some() && is_wrong_pair(&error) => {
                // If that fails too, the first error is the one to report.
                self.log_in_as(endpoint, None, deadline).or(Err(error))
            }
            outcome => outcome,
        };
        let password = endpoint.password.as_deref().unwrap_or_default();
        outcome.map_err(|error| error.without(password))
    }

    fn log_in_as(
        &mut self,
        endpoint: &Endpoint,
        username: Option<&str>,
        deadline: Instant,
    ) -> Result<(), Error> {
        let mut commands = Commands::new();
        if let Some(password) = &endpoint.password {
            commands.push_keyless("AUTH", |command| {
                command.arg(username).arg(password);
            });
        }
        if endpoint.database != 0 {
            commands.push_keyless("SELECT", |command| {
                command.arg(endpoint.database);
            });
        }
        let required = commands.len();
        commands.push_keyless("INFO", |command| {
            command.arg("server");
        });
        commands.push_keyless("TIME", |_| ());
        let sent_at = Instant::now();
        let mut replies = self.round_trip(&commands, deadline)?;
        for _ in 0..required {
            replies.next_value()?;
        }
        // The user may lack permission for the optional commands.
        match replies.next_bytes() {
            Ok(info) => self.version = info.as_deref().and_then(version),
            Err(error) if is_denied(&error) => {}
            Err(error) => return Err(error),
        }
        self.set_clock(replies.next_value(), sent_at.elapsed())
    }

    /// Reads the server's clock, which also shows that the server answers.
    pub fn read_clock(&mut self, deadline: Instant) -> Result<(), Error> {
        let mut commands = Commands::new();
        commands.push_keyless("TIME", |_| ());
        let sent_at = Instant::now();
        let mut replies = self.round_trip(&commands, deadline)?;
        self.set_clock(replies.next_value(), sent_at.elapsed())
    }

    fn set_clock(&mut self, time: Result<Value, Error>, round_trip: Duration) -> Result<(), Error> {
        match time {
            Ok(Value::Array(parts)) => {
                let unix_ms = unix_ms(&parts).ok_or(ErrorKind::Protocol)?;
                self.clock = ServerClock::server(unix_ms, round_trip);
                Ok(())
            }
            Ok(_) => Err(ErrorKind::Protocol.into()),
            Err(error) if is_denied(&error) => {
                self.clock = ServerClock::local(round_trip);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Sends one command without a key and receives its reply. An error reply is an error.
    pub(crate) fn command(
        &mut self,
        name: &str,
        arguments: &[&str],
        deadline: Instant,
    ) -> Result<Value, Error> {
        let mut commands = Commands::new();
        commands.push_keyless(name, |command| {
            command.arg(arguments);
        });
        self.round_trip(&commands, deadline)?.next_value()
    }

    /// Sends `INFO`.
    pub(crate) fn info(&mut self, deadline: Instant) -> Result<ServerInfo, Error> {
        match self.command("INFO", &[], deadline)? {
            Value::BulkString(info) => Ok(ServerInfo::parse(&info)),
            _ => Err(ErrorKind::Protocol.into()),
        }
    }

    /// Sends `TIME`. Returns Unix milliseconds.
    pub(crate) fn time(&mut self, deadline: Instant) -> Result<i64, Error> {
        match self.command("TIME", &[], deadline)? {
            Value::Array(parts) => unix_ms(&parts).ok_or_else(|| ErrorKind::Protocol.into()),
            _ => Err(ErrorKind::Protocol.into()),
        }
    }

    fn round_trip(&mut self, commands: &Commands, deadline: Instant) -> Result<Replies, Error> {
        self.send(commands.as_bytes(), commands.len(), deadline)?;
        let values = (0..commands.len())
            .map(|_| self.receive(deadline))
            .collect::<Result<_, _>>()?;
        Ok(Replies::new(values))
    }

    /// Sends packed commands and expects `replies` replies. Fails if unexpected bytes are buffered: they
    /// would be taken for the reply.
    pub fn send(
        &mut self,
        commands: &[u8],
        replies: usize,
        deadline: Instant,
    ) -> Result<(), Error> {
        if self.expected == 0 && self.has_buffered() {
            return Err(ErrorKind::Protocol.into());
        }
        self.expected += replies;
        self.stream.socket().set_deadline(deadline);
        let written = self.stream.write_all(commands);
        written
            .and_then(|()| self.stream.flush())
            .map_err(|error| self.last_words(error.into()))
    }

    /// Why the server has closed the connection, if it said so. Or else `error`, with which a write failed.
    fn last_words(&mut self, error: Error) -> Error {
        let soon = Instant::now() + LAST_WORDS_TIMEOUT;
        self.stream.socket().set_deadline(soon);
        loop {
            match self.reader.next_reply(&mut self.stream) {
                Ok(_) => {}
                Err(said) if said.explains_close() => return said,
                Err(_) => return error,
            }
        }
    }

    /// Receives the next reply. An error reply is a value.
    pub fn receive(&mut self, deadline: Instant) -> Result<Value, Error> {
        self.stream.socket().set_deadline(deadline);
        let reply = self.reader.next_reply(&mut self.stream)?;
        self.expected = self.expected.saturating_sub(1);
        Ok(reply)
    }

    /// Whether a reply, or part of one, is buffered.
    pub fn has_buffered(&self) -> bool {
        self.reader.has_buffered()
    }

    /// The server's clock.
    pub const fn clock(&self) -> ServerClock {
        self.clock
    }

    /// The server's product and version, if it reports them.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }
}

/// Whether the user may not run an optional command. Without any login, all commands fail.
fn is_denied(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Server(code) if !code.requires_reconnect() && code.as_str() != "NOAUTH")
}

/// Whether user and password do not match, or the server knows no users.
fn is_wrong_pair(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Server(code) if matches!(code.as_str(), "WRONGPASS" | "ERR"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ConnectFailure;
    use std::io::Read;
    use std::net::TcpListener;
    use std::thread;
    use std::time::Duration;

    /// Accepts one connection and writes `script` slowly.
    fn serve(script: &'static [u8], pause: Duration) -> (Endpoint, thread::JoinHandle<()>) {
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
            // Keeps the connection until the client closes it.
            let _ = stream.read_to_end(&mut Vec::new());
        });
        (Endpoint::from_url(&url).unwrap(), handle)
    }

    const GREETING: &[u8] =
        b"$22\r\nredis_version:7.0.15\r\n\r\n*2\r\n$4\r\n1700\r\n$6\r\n500000\r\n";

    #[test]
    fn reads_version_and_clock() {
        let (endpoint, handle) = serve(GREETING, Duration::ZERO);
        let soon = Instant::now() + Duration::from_secs(5);
        let connection = Connection::open(&endpoint, soon).unwrap();
        assert_eq!(connection.version(), Some("Redis 7.0.15"));
        assert!((1_700_500..1_760_500).contains(&connection.clock().now_ms()));
        drop(connection);
        handle.join().unwrap();
    }

    #[test]
    fn many_small_reads_share_one_deadline() {
        // The client times out before the script ends, so the thread is not joined.
        let (endpoint, _handle) = serve(GREETING, Duration::from_millis(20));
        let begin = Instant::now();
        let outcome = Connection::open(&endpoint, begin + Duration::from_millis(200));
        assert_eq!(outcome.err(), Some(ErrorKind::Timeout.into()));
        assert!(begin.elapsed() >= Duration::from_millis(200));
    }

    /// Accepts one connection, reads its first bytes, writes `words` and closes.
    fn serve_and_close(words: &'static [u8]) -> (Endpoint, thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let handle = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            assert!(stream.read(&mut [0; 16]).unwrap() > 0);
            stream.write_all(words).unwrap();
        });
        (Endpoint::from_url(&url).unwrap(), handle)
    }

    #[test]
    fn keeps_what_the_server_said_before_it_closed_the_connection() {
        let soon = Instant::now() + Duration::from_secs(30);
        for words in [
            "ERR max number of clients reached",
            "DENIED Redis is running in protected mode.",
        ] {
            let line = format!("-{words}\r\n").leak().as_bytes();
            let (endpoint, handle) = serve_and_close(line);
            let error = Connection::open(&endpoint, soon).err().unwrap();
            assert_eq!(error.details().reply.as_deref(), Some(words));
            let address = endpoint.address.to_string();
            assert_eq!(error.details().address, Some(address));
            assert!(!error.keeps_connection());
            handle.join().unwrap();
        }
    }

    #[test]
    fn keeps_what_the_server_said_while_a_write_failed() {
        let soon = Instant::now() + Duration::from_secs(30);
        let (endpoint, handle) =
            serve_and_close(b"+OK\r\n-ERR Protocol error: invalid bulk length\r\n");
        let mut connection = Connection::over(Stream::open(&endpoint, soon).unwrap());
        let mut commands = Commands::new();
        commands.push("SET", b"key", |command| {
            command.arg(vec![b'x'; 64 << 20]);
        });
        let sent = connection.send(commands.as_bytes(), 1, soon);
        let error = sent.unwrap_err();
        assert_eq!(
            error.details().reply.as_deref(),
            Some("ERR Protocol error: invalid bulk length")
        );
        handle.join().unwrap();
    }

    #[test]
    fn a_failed_write_without_words_is_a_lost_connection() {
        let soon = Instant::now() + Duration::from_secs(30);
        let (endpoint, handle) = serve_and_close(b"-OOM command not allowed\r\n+OK\r\n");
        let mut connection = Connection::over(Stream::open(&endpoint, soon).unwrap());
        let bytes = vec![b'x'; 64 << 20];
        let error = connection.send(&bytes, 1, soon).unwrap_err();
        assert_eq!(error, ErrorKind::Disconnected.into());
        assert_eq!(error.details().cause, Some(ConnectFailure::Closed));
        handle.join().unwrap();
    }

    #[test]
    fn a_reply_with_the_password_is_left_out() {
        let soon = Instant::now() + Duration::from_secs(30);
        for (words, shown) in [
            ("-ERR wrong password tomorrow\r\n", None),
            ("-ERR wrong password\r\n", Some("ERR wrong password")),
        ] {
            let line = words.repeat(3).leak().as_bytes();
            let (endpoint, handle) = serve_and_close(line);
            let endpoint = endpoint.with_credentials(None, Some("tomorrow".to_owned()));
            let error = Connection::open(&endpoint, soon).err().unwrap();
            assert_eq!(error.details().reply.as_deref(), shown);
            handle.join().unwrap();
        }
    }

    #[test]
    fn garbage_is_a_protocol_error() {
        let (endpoint, handle) = serve(b"HTTP/1.1 400 Bad Request\r\n\r\n", Duration::ZERO);
        let soon = Instant::now() + Duration::from_secs(5);
        let outcome = Connection::open(&endpoint, soon);
        assert_eq!(outcome.err(), Some(ErrorKind::Protocol.into()));
        handle.join().unwrap();
    }
}
