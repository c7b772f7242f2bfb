//! A connection to one Redis server, on which every wait has a deadline.

mod pushes;

use std::collections::VecDeque;
use std::io::Write;
use std::time::{Duration, Instant};

use redis::Value;

use super::endpoint::Endpoint;
use super::fence::{ConnectionId, Fence};
use super::login::Login;
use super::nonce::Nonce;
use super::optional_reply::{optional, optional_bytes};
use super::patience::Patience;
use super::server_clock::{ServerClock, unix_ms};
use super::server_info::ServerInfo;
use super::stream::Stream;
use super::tracking::{Question, Tracker};
use crate::error::{Error, ErrorKind, TlsProblem};
use crate::resp::commands::Commands;
use crate::resp::reader::ReplyReader;
use crate::resp::replies::Replies;
use crate::secret::Secret;

/// How many connections may fail at the commands of [`Connection::fence`].
const FENCE_TRIES: usize = 2;
/// The server's clock is read again when the last reading is this old.
const CLOCK_INTERVAL: Duration = Duration::from_secs(3);
/// How long to wait for what the server said before it closed the connection. It has arrived with the close.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_millis(50);

/// A connection, logged in. After any error its position in the stream is unknown: drop it.
///
/// Commands are sent in rounds. Replies carry no number, so each round ends with an `ECHO` of a nonce: if a
/// reply too many or too few has come before it, none of the round is returned.
///
/// A connection that is dropped after an error, or before all replies have come, is reset, so that the kernel
/// does not deliver what it has not sent yet, and left to the [`Fence`].
pub struct Connection {
    stream: Stream,
    reader: ReplyReader,
    /// The rounds without replies yet.
    rounds: VecDeque<Round>,
    /// `None` if the server does not reply to `ECHO` as it should.
    nonce: Option<Nonce>,
    logged_in: bool,
    failed: bool,
    clock: ServerClock,
    version: Option<String>,
    run_id: Option<String>,
    /// `None` if the server does not tell it.
    id: Option<ConnectionId>,
    fence: Fence,
    /// Whether the server knows no user of that name, and the password alone was right.
    user_is_ignored: bool,
    tracker: Option<Tracker>,
    /// Why the server does not track, though it was to.
    tracking_refusal: Option<Error>,
}

/// Commands that were sent together.
struct Round {
    replies: usize,
    sent_at: Instant,
    /// Whether `TIME` follows the commands.
    reads_clock: bool,
    /// What follows about the server.
    question: Option<Question>,
    /// What `ECHO` returns at the end.
    nonce: Option<String>,
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
            rounds: VecDeque::new(),
            nonce: None,
            logged_in: false,
            failed: false,
            clock: ServerClock::local(Duration::ZERO),
            version: None,
            run_id: None,
            id: None,
            fence: Fence::default(),
            user_is_ignored: false,
            tracker: None,
            tracking_refusal: None,
        }
    }

    /// Logs in, selects the database and reads the clock.
    pub(crate) fn log_in(&mut self, endpoint: &Endpoint, deadline: Instant) -> Result<(), Error> {
        let login = Login::at(endpoint);
        let outcome = self.log_in_as(&login, deadline).or_else(|error| {
            let Some(nameless) = login.without_user(&error) else {
                return Err(error);
            };
            // If that fails too, the first error is the one to report.
            self.log_in_as(&nameless, deadline).or(Err(error))?;
            self.user_is_ignored = login.has_dummy_user();
            Ok(())
        });
        let password = endpoint.password.as_ref().map(Secret::as_bytes);
        outcome.map_err(|error| error.without(password.unwrap_or_default()))
    }

    fn log_in_as(&mut self, login: &Login<'_>, deadline: Instant) -> Result<(), Error> {
        let mut commands = Commands::new();
        login.write(&mut commands);
        let sent_at = Instant::now();
        let mut replies = self.round_trip(&mut commands, deadline)?;
        let greeting = login.read(&mut replies)?;
        self.version = greeting.version;
        self.run_id = greeting.run_id;
        self.clock = ServerClock::local(sent_at.elapsed());
        if let Some(time) = &greeting.time {
            self.take_clock(time, sent_at)?;
        }
        self.logged_in = true;
        Ok(())
    }

    /// Connects and logs in. Replies that come out of place are noticed, and what is lost with this connection
    /// or was lost with an earlier one is ended before anything is sent again.
    ///
    /// A proxy may close the connection at a command that it does not know. Then both is left out. A reply that
    /// is out of place already here is an error.
    pub(crate) fn open_fenced(
        endpoint: &Endpoint,
        fence: &Fence,
        deadline: Instant,
    ) -> Result<Self, Error> {
        let mut connection = Self::open_marked(endpoint, fence, deadline)?;
        match connection.track(endpoint, deadline) {
            Ok(()) => Ok(connection),
            Err(error) if is_unknown_command(&error) => {
                let mut untracked = Self::open_marked(endpoint, fence, deadline)?;
                untracked.tracking_refusal = Some(error);
                Ok(untracked)
            }
            Err(error) => Err(error.at(&endpoint.address)),
        }
    }

    /// The same, without tracking.
    fn open_marked(endpoint: &Endpoint, fence: &Fence, deadline: Instant) -> Result<Self, Error> {
        for _ in 0..FENCE_TRIES {
            let mut connection = Self::open(endpoint, deadline)?;
            match connection.fence(fence, deadline) {
                Ok(()) => return Ok(connection),
                Err(error) if !is_unknown_command(&error) || fence.is_supported() => {
                    return Err(error.at(&endpoint.address));
                }
                Err(_) => {}
            }
        }
        Self::open(endpoint, deadline)
    }

    /// Ends the connections to the same server process that were lost with something under way. If the user
    /// may not do that, it is left out.
    fn fence(&mut self, fence: &Fence, deadline: Instant) -> Result<(), Error> {
        let mut nonce = Nonce::new();
        let expected_echo = nonce.next();
        let mut commands = Commands::new();
        push_keyless(&mut commands, "CLIENT", &["INFO"]);
        push_keyless(&mut commands, "ECHO", &[&expected_echo]);
        let mut replies = self.round_trip(&mut commands, deadline)?;
        let client_info = optional_bytes(replies.next_value())?;
        let echo = optional(replies.next_value())?;
        let is_echo =
            matches!(&echo, Some(Value::BulkString(echo)) if echo == expected_echo.as_bytes());
        if echo.is_some() && !is_echo {
            return Err(self.fail(ErrorKind::Protocol));
        }
        self.nonce = is_echo.then_some(nonce);
        self.id = client_info.and_then(|info| ConnectionId::parse(self.run_id.as_deref(), &info));
        if is_echo || self.id.is_some() {
            fence.support();
        }
        self.fence = fence.clone();
        self.end_lost(deadline)
    }

    /// Ends the lost connections to the same server process.
    fn end_lost(&mut self, deadline: Instant) -> Result<(), Error> {
        let fence = self.fence.clone();
        let Some(id) = &self.id else {
            return Ok(());
        };
        let lost = fence.lost(&id.run_id);
        let mut commands = Commands::new();
        for lost in &lost {
            let arguments = ["KILL", "ID", &lost.id, "ADDR", &lost.address];
            push_keyless(&mut commands, "CLIENT", &arguments);
        }
        if lost.is_empty() {
            return Ok(());
        }
        let mut replies = self.round_trip(&mut commands, deadline)?;
        for _ in &lost {
            optional(replies.next_value())?;
        }
        fence.remove(&lost);
        Ok(())
    }

    /// Reads the server's clock, which also shows that the server answers.
    pub fn read_clock(&mut self, patience: impl Into<Patience>) -> Result<(), Error> {
        let patience = patience.into();
        self.send_round(&mut Commands::new(), true, patience)?;
        self.receive_round(patience).map(drop)
    }

    /// Takes the reply to `TIME`. If the server does not tell its time now, the last reading goes on.
    fn take_clock(&mut self, time: &Value, sent_at: Instant) -> Result<(), Error> {
        self.clock = match (unix_ms(time), time) {
            (Some(unix_ms), _) => ServerClock::server(unix_ms, sent_at.elapsed()),
            (None, Value::ServerError(_)) => self.clock.kept(),
            (None, _) => return Err(ErrorKind::Protocol.into()),
        };
        Ok(())
    }

    /// Sends one command without a key and receives its reply. An error reply is an error.
    pub(crate) fn command(
        &mut self,
        name: &str,
        arguments: &[&str],
        deadline: Instant,
    ) -> Result<Value, Error> {
        let mut commands = Commands::new();
        push_keyless(&mut commands, name, arguments);
        self.round_trip(&mut commands, deadline)?.next_value()
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
        let time = self.command("TIME", &[], deadline)?;
        unix_ms(&time).ok_or_else(|| ErrorKind::Protocol.into())
    }

    fn round_trip(
        &mut self,
        commands: &mut Commands,
        patience: impl Into<Patience>,
    ) -> Result<Replies, Error> {
        let patience = patience.into();
        self.send(commands, patience)?;
        self.receive_round(patience).map(Replies::new)
    }

    /// Sends a round of commands, and appends those that the connection itself needs. Fails if bytes have
    /// come that nobody asked for: they would be taken for the replies.
    pub fn send(
        &mut self,
        commands: &mut Commands,
        patience: impl Into<Patience>,
    ) -> Result<(), Error> {
        let reads_clock = self.logged_in && self.clock.age() >= CLOCK_INTERVAL;
        self.send_round(commands, reads_clock, patience.into())
    }

    /// Why the server has closed the connection, if it said so. Or else `error`, with which a write failed.
    fn last_words(&mut self, error: Error) -> Error {
        self.stream
            .set_patience((Instant::now() + LAST_WORDS_TIMEOUT).into());
        loop {
            match self.reader.next_reply(&mut self.stream) {
                Ok(_) => {}
                Err(said) if said.explains_close() => return said,
                Err(_) => return error,
            }
        }
    }

    fn send_round(
        &mut self,
        commands: &mut Commands,
        reads_clock: bool,
        patience: Patience,
    ) -> Result<(), Error> {
        if self.logged_in && self.rounds.is_empty() && self.has_unexpected()? {
            return Err(self.fail(ErrorKind::Protocol));
        }
        let replies = commands.len();
        if reads_clock {
            push_keyless(commands, "TIME", &[]);
        }
        let tracker = self.tracker.as_mut();
        let now = Instant::now();
        let question = tracker.and_then(|tracker| tracker.ask(commands, now));
        let nonce = self.nonce.as_mut().map(Nonce::next);
        if let Some(nonce) = &nonce {
            push_keyless(commands, "ECHO", &[nonce]);
        }
        self.rounds.push_back(Round {
            replies,
            sent_at: now,
            reads_clock,
            question,
            nonce,
        });
        self.stream.set_patience(patience);
        let written = self.stream.write_all(commands.as_bytes());
        let flushed = written.and_then(|()| self.stream.flush());
        flushed.map_err(|error| {
            let error = self.fail(error);
            self.last_words(error)
        })
    }

    /// Whether something has come although no reply is outstanding. Pushes are expected where keys are
    /// tracked.
    fn has_unexpected(&mut self) -> Result<bool, Error> {
        if self.tracker.is_some() {
            return self.read_pushes().map(|()| false);
        }
        if self.reader.has_buffered() {
            return Ok(true);
        }
        let unread = self.stream.has_unread();
        unread.map_err(|error| self.fail(error))
    }

    /// Receives the replies to the first round without replies. An error reply is a value.
    pub fn receive_round(&mut self, patience: impl Into<Patience>) -> Result<Vec<Value>, Error> {
        let round = self.rounds.pop_front().ok_or(ErrorKind::Protocol)?;
        self.stream.set_patience(patience.into());
        let received = self.receive_replies(&round);
        received.map_err(|error| match error.kind() {
            // After the login, this is no handshake that the server has missed.
            ErrorKind::Tls(TlsProblem::TlsRequired) if self.logged_in => {
                self.fail(ErrorKind::Protocol)
            }
            _ => self.fail(error),
        })
    }

    fn receive_replies(&mut self, round: &Round) -> Result<Vec<Value>, Error> {
        let replies = (0..round.replies)
            .map(|_| self.reader.next_reply(&mut self.stream))
            .collect::<Result<Vec<_>, _>>()?;
        let time = if round.reads_clock {
            Some(self.reader.next_reply(&mut self.stream)?)
        } else {
            None
        };
        let answer = (0..round.question.map_or(0, |_| Question::REPLIES))
            .map(|_| self.reader.next_reply(&mut self.stream))
            .collect::<Result<Vec<_>, _>>()?;
        if let Some(nonce) = &round.nonce {
            match self.reader.next_reply(&mut self.stream)? {
                Value::BulkString(echo) if echo == nonce.as_bytes() => {}
                // While a script runs, for example, the server refuses any command.
                Value::ServerError(error) => return Err(Error::from_reply(&error)),
                _ => return Err(ErrorKind::Protocol.into()),
            }
        }
        if let Some(time) = time {
            self.take_clock(&time, round.sent_at)?;
        }
        if let (Some(question), Some(tracker)) = (round.question, &mut self.tracker) {
            tracker.take_answer(question, &mut Replies::new(answer))?;
        }
        Ok(replies)
    }

    /// Whether a reply, or part of one, is buffered.
    pub fn has_buffered(&self) -> bool {
        self.reader.has_buffered()
    }

    /// Whether something was sent that has not been answered.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.logged_in && (self.failed || !self.rounds.is_empty())
    }

    /// Notes that the connection cannot be used any more.
    fn fail(&mut self, error: impl Into<Error>) -> Error {
        self.failed = true;
        error.into()
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

impl Drop for Connection {
    fn drop(&mut self) {
        if self.is_unfinished() {
            // Without it, the fence alone has to do.
            let _ = self.stream.socket().reset_on_close();
            if let Some(id) = self.id.take() {
                self.fence.add(id);
            }
        }
    }
}

fn push_keyless(commands: &mut Commands, name: &str, arguments: &[&str]) {
    commands.push_keyless(name, |command| {
        command.arg(arguments);
    });
}

/// Whether the error may come of a proxy that does not know a command.
fn is_unknown_command(error: &Error) -> bool {
    error.kind() == &ErrorKind::Disconnected
}

#[cfg(test)]
mod tests;
