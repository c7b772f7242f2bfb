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

/// A connection, logged in. After any error its position in the stream is unknown: drop it.
pub struct Connection {
    stream: Stream,
    reader: ReplyReader,
    /// The number of outstanding replies.
    expected: usize,
    clock: ServerClock,
    version: Option<String>,
    /// Whether the server knows no user of that name, and the password alone was right.
    user_is_ignored: bool,
}

/// The user in old URLs of Heroku. It does not exist.
const DUMMY_USER: &[u8] = b"h";

impl Connection {
    /// Connects, logs in, selects the database and reads the clock.
    pub fn open(endpoint: &Endpoint, deadline: Instant) -> Result<Self, Error> {
        let mut connection = Self::over(Stream::open(endpoint, deadline)?);
        connection.log_in(endpoint, deadline)?;
        Ok(connection)
    }

    /// A connection that is not logged in yet.
    pub(crate) fn over(stream: Stream) -> Self {
        Self {
            stream,
            reader: ReplyReader::default(),
            expected: 0,
            clock: ServerClock::local(Duration::ZERO),
            version: None,
            user_is_ignored: false,
        }
    }

    /// Logs in, selects the database and reads the clock.
    pub(crate) fn log_in(&mut self, endpoint: &Endpoint, deadline: Instant) -> Result<(), Error> {
        let username = endpoint.username.as_deref();
        match self.log_in_as(endpoint, username, deadline) {
            Err(error) if is_default_user(username) && is_wrong_pair(&error) => {
                // If that fails too, the first error is the one to report.
                self.log_in_as(endpoint, None, deadline).or(Err(error))?;
                self.user_is_ignored = username == Some(DUMMY_USER);
                Ok(())
            }
            outcome => outcome,
        }
    }

    fn log_in_as(
        &mut self,
        endpoint: &Endpoint,
        username: Option<&[u8]>,
        deadline: Instant,
    ) -> Result<(), Error> {
        let mut commands = Commands::new();
        // A user without a password is one that Redis asks for none.
        let password = endpoint.password.as_deref();
        if let Some(password) = password.or(username.and(Some(b""))) {
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
        self.stream.write_all(commands)?;
        self.stream.flush()?;
        Ok(())
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

    /// Whether the login is the default user's, though the endpoint names another.
    pub(crate) const fn user_is_ignored(&self) -> bool {
        self.user_is_ignored
    }
}

/// Whether the user may not run an optional command. Without any login, all commands fail.
fn is_denied(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Server(code) if !code.requires_reconnect() && code.as_str() != "NOAUTH")
}

/// Whether a user stands for the default user. Servers before Redis 6 know no other, and no names.
fn is_default_user(username: Option<&[u8]>) -> bool {
    matches!(username, Some(name) if name == DUMMY_USER || name == b"default")
}

/// Whether user and password do not match, or the server knows no users.
fn is_wrong_pair(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Server(code) if matches!(code.as_str(), "WRONGPASS" | "ERR"))
}

#[cfg(test)]
mod tests {
    use super::super::address::Address;
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;
    use std::thread;
    use std::time::Duration;

    /// Accepts one connection and writes `script` slowly.
    fn serve(script: &'static [u8], pause: Duration) -> (Endpoint, thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Tcp {
            host: "127.0.0.1".to_owned(),
            port: listener.local_addr().unwrap().port(),
        };
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
        (Endpoint::new(address), handle)
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

    const OK: &str = "+OK\r\n";
    const WRONG_PAIR: &str = "-WRONGPASS x\r\n-NOAUTH x\r\n-NOAUTH x\r\n";
    const NO_USERS: &str = "-ERR wrong number\r\n-NOAUTH x\r\n-NOAUTH x\r\n";

    /// Logs in at a server that replies to one pipeline after the other. Returns how that ended, whether the
    /// user is ignored, and the first command of each pipeline.
    fn log_in(
        login: [Option<&str>; 2],
        replies: &[&str],
    ) -> (Result<(), Error>, bool, Vec<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Tcp {
            host: "127.0.0.1".to_owned(),
            port: listener.local_addr().unwrap().port(),
        };
        let [username, password] = login.map(|text| text.map(|text| text.as_bytes().to_vec()));
        let endpoint = Endpoint {
            username,
            password,
            ..Endpoint::new(address)
        };
        let greeting = String::from_utf8(GREETING.to_vec()).unwrap();
        let replies: Vec<_> = replies
            .iter()
            .map(|reply| reply.replace(OK, &format!("{OK}{greeting}")))
            .collect();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut commands = Vec::new();
            for reply in replies {
                let mut buffer = [0; 4_096];
                let read = stream.read(&mut buffer).unwrap();
                let pipeline = String::from_utf8_lossy(&buffer[..read]);
                let words = pipeline
                    .lines()
                    .skip(1)
                    .filter(|line| !line.starts_with('$'));
                let first: Vec<_> = words.take_while(|line| !line.starts_with('*')).collect();
                commands.push(first.join(" "));
                stream.write_all(reply.as_bytes()).unwrap();
            }
            commands
        });
        let deadline = Instant::now() + Duration::from_secs(5);
        let stream = Stream::open(&endpoint, deadline).unwrap();
        let mut connection = Connection::over(stream);
        let outcome = connection.log_in(&endpoint, deadline);
        (
            outcome,
            connection.user_is_ignored(),
            server.join().unwrap(),
        )
    }

    #[test]
    fn the_default_user_replaces_only_the_dummy_user() {
        for refusal in [WRONG_PAIR, NO_USERS] {
            let (outcome, ignored, commands) = log_in([Some("h"), Some("pw")], &[refusal, OK]);
            assert_eq!((outcome, ignored), (Ok(()), true));
            assert_eq!(commands, ["AUTH h pw", "AUTH pw"]);

            let (outcome, ignored, commands) = log_in([Some("ann"), Some("pw")], &[refusal]);
            assert!(matches!(outcome.unwrap_err().kind(), ErrorKind::Server(_)));
            assert!(!ignored);
            assert_eq!(commands, ["AUTH ann pw"]);
        }
    }

    #[test]
    fn a_server_without_users_gets_the_password_alone() {
        let (outcome, ignored, commands) = log_in([Some("default"), Some("pw")], &[NO_USERS, OK]);
        assert_eq!((outcome, ignored), (Ok(()), false));
        assert_eq!(commands, ["AUTH default pw", "AUTH pw"]);

        let (outcome, _, commands) = log_in([None, Some("pw")], &[OK]);
        assert_eq!(outcome, Ok(()));
        assert_eq!(commands, ["AUTH pw"]);
    }

    #[test]
    fn the_first_refusal_is_reported() {
        let (outcome, ignored, _) = log_in([Some("h"), Some("pw")], &[WRONG_PAIR, NO_USERS]);
        let error = outcome.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Server(code) if code.as_str() == "WRONGPASS"));
        assert!(!ignored);
    }

    #[test]
    fn a_user_without_a_password_has_an_empty_one() {
        let (outcome, _, commands) = log_in([Some("open"), None], &[OK]);
        assert_eq!(outcome, Ok(()));
        assert_eq!(commands, ["AUTH open "]);
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

    #[test]
    fn garbage_is_a_protocol_error() {
        let (endpoint, handle) = serve(b"HTTP/1.1 400 Bad Request\r\n\r\n", Duration::ZERO);
        let soon = Instant::now() + Duration::from_secs(5);
        let outcome = Connection::open(&endpoint, soon);
        assert_eq!(outcome.err(), Some(ErrorKind::Protocol.into()));
        handle.join().unwrap();
    }
}
