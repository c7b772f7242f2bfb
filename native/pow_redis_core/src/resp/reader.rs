//! Reading replies from a stream, in version 2 or 3 of Redis's protocol (RESP2, RESP3).
//!
//! The protocol is described at <https://redis.io/docs/latest/develop/reference/protocol-spec/>. The redis
//! crate's own parser reads ahead and does not report how far. An unsolicited reply behind the last one would
//! then go unnoticed, and become the reply to the next command.

use std::io::{self, Read};
use std::sync::Arc;

use redis::{PushKind, ServerError, Value};

use super::parser::{Protocol, ReplyParser};
use crate::error::{Error, ErrorKind};
use crate::near::{EpochEnd, Validity};

/// The least number of bytes to read at once.
const READ_SIZE: usize = 16 << 10;
/// The most bytes to read at once.
const MAX_READ_SIZE: usize = 1 << 20;
/// A larger buffer is dropped once it is empty.
const MAX_RETAINED_BYTES: usize = 128 << 10;

/// What a push begins with.
const PUSH: u8 = b'>';

/// Reads replies from a stream, one by one. What the server tells between them about changed keys goes to
/// the [`Validity`] of what was read.
#[derive(Debug, Default)]
pub(crate) struct ReplyReader {
    buffer: Vec<u8>,
    /// The position of the bytes that have not been parsed.
    start: usize,
    /// The end of the bytes read. Free space follows.
    end: usize,
    /// How many bytes the last read has returned.
    last_read: usize,
    /// Has parsed a part of the next reply, if a read has failed in the middle.
    parser: ReplyParser,
    /// `None` in RESP2, which has no pushes.
    validity: Option<Arc<Validity>>,
}

impl ReplyReader {
    /// The replies that follow are of RESP3, with pushes between them.
    pub(crate) fn expect_pushes(&mut self, validity: &Arc<Validity>) {
        self.parser.set_protocol(Protocol::Resp3);
        self.validity = Some(Arc::clone(validity));
    }

    /// Whether a reply, or part of one, is buffered. A push may be buffered before it.
    pub(crate) fn has_buffered(&self) -> bool {
        self.start < self.end || self.parser.has_begun()
    }

    /// Reads the next reply. An error reply is a value, unless the server closes the connection after it.
    pub(crate) fn next_reply(&mut self, stream: &mut impl Read) -> Result<Value, Error> {
        loop {
            if let Some(reply) = self.next_parsed()? {
                return match &reply {
                    Value::ServerError(error) => unless_last(error).map(|()| reply),
                    _ => Ok(reply),
                };
            }
            self.fill(stream)?;
        }
    }

    /// Takes the pushes that are buffered, of which the last may be incomplete. Fails if there is a reply.
    pub(crate) fn take_pushes(&mut self) -> Result<(), Error> {
        if self.next_parsed()?.is_some() {
            return Err(ErrorKind::Protocol.into());
        }
        let next = self.buffer.get(self.start..self.end).unwrap_or_default();
        let is_push = match next.first() {
            Some(first) if !self.parser.has_begun() => *first == PUSH,
            _ => !self.parser.has_begun() || self.parser.is_in_push(),
        };
        is_push
            .then_some(())
            .ok_or_else(|| ErrorKind::Protocol.into())
    }

    /// Reads once, and takes the pushes. Fails if there is a reply.
    pub(crate) fn read_pushes(&mut self, stream: &mut impl Read) -> Result<(), Error> {
        self.fill(stream)?;
        self.take_pushes()
    }

    /// The next reply in the buffer. Takes the pushes before it.
    fn next_parsed(&mut self) -> Result<Option<Value>, Error> {
        loop {
            let unread = self.buffer.get(self.start..self.end).unwrap_or_default();
            if let Some(validity) = &self.validity
                && let Some((parsed, redis_key)) = self.parser.changed_key(unread)
            {
                validity.changed(redis_key);
                self.start += parsed;
                continue;
            }
            let (parsed, reply) = self.parser.parse(unread)?;
            self.start += parsed;
            if reply.is_some() && self.start == self.end && self.buffer.len() > MAX_RETAINED_BYTES {
                // One huge value must not keep its memory.
                self.buffer = Vec::new();
                (self.start, self.end) = (0, 0);
            }
            match (reply, &self.validity) {
                (Some(Value::Push { kind, data }), Some(validity)) => {
                    invalidate(validity, &kind, data)?;
                }
                (reply, _) => return Ok(reply),
            }
        }
    }

    /// Reads once, at most twice as many bytes as the last time: an announced length alone allocates nothing.
    fn fill(&mut self, stream: &mut impl Read) -> io::Result<()> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let most = (2 * self.last_read).clamp(READ_SIZE, MAX_READ_SIZE);
        let room = self.parser.missing().clamp(READ_SIZE, most);
        if self.buffer.len() < self.end + room {
            self.buffer.resize(self.end + room, 0);
        }
        let read = stream.read(self.buffer.get_mut(self.end..).unwrap_or_default())?;
        self.end += read;
        self.last_read = read;
        if let Some(validity) = &self.validity {
            validity.arrivals().are_read();
        }
        match read {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// Takes what the server tells about changed keys. Without keys, all have changed.
fn invalidate(validity: &Validity, kind: &PushKind, data: Vec<Value>) -> Result<(), Error> {
    let mut data = data.into_iter();
    match (kind, data.next(), data.next()) {
        (PushKind::Invalidate, Some(Value::Nil), None) => validity.restart(EpochEnd::Flushed),
        (PushKind::Invalidate, Some(Value::Array(keys)), None) => {
            for key in keys {
                let Value::BulkString(redis_key) = key else {
                    return Err(ErrorKind::Protocol.into());
                };
                validity.changed(&redis_key);
            }
        }
        _ => return Err(ErrorKind::Protocol.into()),
    }
    Ok(())
}

/// Fails if the server closes the connection after an error reply.
fn unless_last(reply: &ServerError) -> Result<(), Error> {
    let error = Error::from_reply(reply);
    if error.ends_connection() {
        return Err(error);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{ErrorKind, TlsProblem};

    /// Returns a few bytes per read.
    struct Trickle<'b>(&'b [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.1.min(self.0.len()).min(buffer.len());
            let (now, later) = self.0.split_at(length);
            buffer[..length].copy_from_slice(now);
            self.0 = later;
            Ok(length)
        }
    }

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn reads_replies_in_chunks_of_any_size() {
        let stream = b"+OK\r\n:-7\r\n$5\r\na\r\nbc\r\n$-1\r\n*2\r\n$1\r\n0\r\n*2\r\n$0\r\n\r\n*-1\r\n+PONG\r\n";
        let expected = [
            Value::Okay,
            Value::Int(-7),
            bulk("a\r\nbc"),
            Value::Nil,
            Value::Array(vec![bulk("0"), Value::Array(vec![bulk(""), Value::Nil])]),
            Value::SimpleString("PONG".to_owned()),
        ];
        for chunk in [1, 2, 3, 7, 1_000] {
            let mut trickle = Trickle(stream, chunk);
            let mut replies = ReplyReader::default();
            for value in &expected {
                let reply = replies.next_reply(&mut trickle).unwrap();
                assert_eq!(&reply, value, "in chunks of {chunk}");
            }
            assert!(!replies.has_buffered());
            let end = replies.next_reply(&mut trickle).unwrap_err();
            assert_eq!(end, ErrorKind::Disconnected.into());
        }
    }

    #[test]
    fn returns_error_replies_as_values() {
        let mut replies = ReplyReader::default();
        let reply = replies.next_reply(&mut &b"-OOM command not allowed\r\n"[..]);
        assert!(matches!(reply, Ok(Value::ServerError(error)) if error.code() == "OOM"));
    }

    #[test]
    fn reports_buffered_bytes() {
        let mut replies = ReplyReader::default();
        let mut stream = &b":1\r\n:2\r\n"[..];
        assert_eq!(replies.next_reply(&mut stream).unwrap(), Value::Int(1));
        assert!(replies.has_buffered());
    }

    #[test]
    fn rejects_garbage() {
        for bytes in [
            &b"HTTP/1.1 400\r\n"[..],
            b"\r\n",
            b"\0\0\0",
            b"$-7\r\n",
            b"$x\r\n",
            b"$1\r\nab\r\n\r\n",
            b"*-2\r\n",
            b":one\r\n",
            b"*99999999999\r\n",
            b"$99999999999\r\n",
        ] {
            let outcome = ReplyReader::default().next_reply(&mut &*bytes);
            assert_eq!(
                outcome.unwrap_err(),
                ErrorKind::Protocol.into(),
                "{bytes:?}"
            );
        }
    }

    #[test]
    fn continues_a_reply_after_a_failed_read() {
        let mut replies = ReplyReader::default();
        let bytes = b"*2\r\n$3\r\nabc\r\n:7\r\n";
        for half in [&bytes[..8], &bytes[8..14], &bytes[14..15]] {
            let mut stream = half;
            let outcome = replies.next_reply(&mut stream);
            assert_eq!(outcome, Err(ErrorKind::Disconnected.into()));
            assert!(replies.has_buffered());
        }
        let reply = replies.next_reply(&mut &bytes[15..]).unwrap();
        assert_eq!(reply, Value::Array(vec![bulk("abc"), Value::Int(7)]));
        assert!(!replies.has_buffered());
    }

    #[test]
    fn uses_little_memory_for_many_replies() {
        let number = 10_000;
        let stream = b"$9\r\nsomething\r\n".repeat(number);
        let mut trickle = Trickle(&stream, 1_000);
        let mut replies = ReplyReader::default();
        for _ in 0..number {
            let reply = replies.next_reply(&mut trickle).unwrap();
            assert_eq!(reply, bulk("something"));
            assert!(replies.buffer.capacity() <= 4 * READ_SIZE);
        }
    }

    #[test]
    fn frees_the_memory_of_a_huge_reply() {
        let text = "x".repeat(8 * MAX_RETAINED_BYTES);
        let stream = format!("${}\r\n{text}\r\n", text.len());
        let mut replies = ReplyReader::default();
        let reply = replies.next_reply(&mut stream.as_bytes()).unwrap();
        assert_eq!(reply, bulk(&text));
        assert_eq!(replies.buffer.capacity(), 0);
    }

    #[test]
    fn keeps_what_follows_a_huge_reply() {
        let text = "x".repeat(8 * MAX_RETAINED_BYTES);
        let stream = format!("${}\r\n{text}\r\n:1\r\n", text.len());
        let mut stream = stream.as_bytes();
        let mut replies = ReplyReader::default();
        assert_eq!(replies.next_reply(&mut stream).unwrap(), bulk(&text));
        assert!(replies.has_buffered());
        assert_eq!(replies.next_reply(&mut stream).unwrap(), Value::Int(1));
    }

    #[test]
    fn allocates_little_for_an_announced_length() {
        for bytes in [&b"$536870912\r\nabc"[..], b"*1000000\r\n:1\r\n"] {
            let mut replies = ReplyReader::default();
            let end = replies.next_reply(&mut &*bytes).unwrap_err();
            assert_eq!(end, ErrorKind::Disconnected.into());
            assert!(replies.buffer.capacity() <= 4 * READ_SIZE);
        }
    }

    /// Also when many reads wait for the bytes.
    #[test]
    fn a_slow_reply_needs_as_much_memory_as_has_arrived() {
        let mut trickle = Trickle(b"$536870912\r\nabcdefghijklmnopqrstuvwxyz", 1);
        let mut replies = ReplyReader::default();
        let end = replies.next_reply(&mut trickle).unwrap_err();
        assert_eq!(end, ErrorKind::Disconnected.into());
        assert!(replies.buffer.capacity() <= 2 * READ_SIZE);
    }

    #[test]
    fn an_alert_of_tls_and_the_end_of_a_connection_are_errors() {
        let read = |bytes: &[u8]| ReplyReader::default().next_reply(&mut &*bytes);
        let alert = read(&[21, 3, 1, 0, 2, 2, 70]);
        assert_eq!(alert, Err(ErrorKind::Tls(TlsProblem::TlsRequired).into()));
        for line in ["DENIED protected mode", "ERR max number of clients reached"] {
            let error = read(format!("-{line}\r\n").as_bytes()).unwrap_err();
            assert_eq!(error.details().reply.as_deref(), Some(line));
        }
        assert!(matches!(read(b"-ERR other\r\n"), Ok(Value::ServerError(_))));
    }

    /// Tells that these keys have changed.
    fn invalidation(keys: &[&str]) -> String {
        let keys: String = keys
            .iter()
            .map(|key| format!("${}\r\n{key}\r\n", key.len()))
            .collect();
        format!(
            ">2\r\n$10\r\ninvalidate\r\n*{}\r\n{keys}",
            keys.matches('$').count()
        )
    }

    const FLUSHED: &str = ">2\r\n$10\r\ninvalidate\r\n_\r\n";

    /// A reader of RESP3, and what it tells of changed keys.
    fn tracking_reader() -> (ReplyReader, Arc<Validity>) {
        let validity = Arc::new(Validity::new(std::time::Duration::from_secs(1)));
        validity.begin();
        let mut reader = ReplyReader::default();
        reader.expect_pushes(&validity);
        (reader, validity)
    }

    #[test]
    fn takes_pushes_between_replies_before_the_reply_behind_them() {
        let stream = [
            invalidation(&["a"]),
            ":1\r\n".to_owned(),
            invalidation(&["b", "c"]),
            FLUSHED.to_owned(),
            ":2\r\n".to_owned(),
            invalidation(&["d"]),
        ]
        .concat();
        for chunk in [1, 2, 3, 7, 1_000] {
            let (mut reader, validity) = tracking_reader();
            let stamp = |key: &str| validity.stamp(validity.shard(key.as_bytes())).unwrap();
            let before = stamp("c");
            let mut trickle = Trickle(stream.as_bytes(), chunk);
            assert_eq!(reader.next_reply(&mut trickle), Ok(Value::Int(1)));
            assert_eq!(validity.invalidations(), 1);
            assert_eq!(reader.next_reply(&mut trickle), Ok(Value::Int(2)));
            assert_eq!(validity.invalidations(), 3);
            assert_ne!(stamp("c").version, before.version);
            assert_ne!(stamp("c").epoch, before.epoch);
            let end = reader.next_reply(&mut trickle);
            assert_eq!(end, Err(ErrorKind::Disconnected.into()));
            assert_eq!(validity.invalidations(), 4);
        }
    }

    #[test]
    fn a_push_that_has_arrived_in_part_leaves_nothing_behind() {
        let push = invalidation(&["a"]);
        for length in 1..push.len() {
            let (mut reader, validity) = tracking_reader();
            let (first, second) = push.split_at(length);
            reader.read_pushes(&mut first.as_bytes()).unwrap();
            let rest = [second, "_\r\n"].concat();
            let reply = reader.next_reply(&mut rest.as_bytes());
            assert_eq!((reply, validity.invalidations()), (Ok(Value::Nil), 1));
        }
    }

    #[test]
    fn pushes_may_come_while_no_reply_is_expected() {
        let (mut reader, validity) = tracking_reader();
        let push = invalidation(&["a"]);
        for (chunk, invalidations) in [(push.as_str(), 1), (&push[..1], 1), (&push[1..9], 1)] {
            reader.read_pushes(&mut chunk.as_bytes()).unwrap();
            assert_eq!(validity.invalidations(), invalidations);
        }
        reader.read_pushes(&mut &push.as_bytes()[9..]).unwrap();
        assert_eq!(validity.invalidations(), 2);
        assert!(!reader.has_buffered());
        reader.take_pushes().unwrap();
    }

    #[test]
    fn replies_that_nobody_expects_are_no_pushes() {
        for bytes in [
            ":1\r\n",
            "$9\r\nabc",
            "*2\r\n:1\r\n",
            "+O",
            "-ERR x\r\n",
            "HTTP",
        ] {
            let (mut reader, _validity) = tracking_reader();
            let unexpected = [&invalidation(&["a"]), bytes].concat();
            let outcome = reader.read_pushes(&mut unexpected.as_bytes());
            assert_eq!(outcome, Err(ErrorKind::Protocol.into()), "{bytes}");
        }
    }

    #[test]
    fn other_pushes_are_refused() {
        let invalidate = ">2\r\n$10\r\ninvalidate\r\n";
        for end in [":1\r\n", "*1\r\n:1\r\n", "$1\r\na\r\n"] {
            let (mut reader, _validity) = tracking_reader();
            let bytes = [invalidate, end].concat();
            let outcome = reader.read_pushes(&mut bytes.as_bytes());
            assert_eq!(outcome, Err(ErrorKind::Protocol.into()), "{end}");
        }
        let mut reader = ReplyReader::default();
        let outcome = reader.next_reply(&mut FLUSHED.as_bytes());
        assert_eq!(outcome, Err(ErrorKind::Protocol.into()), "not in RESP2");
    }
}
