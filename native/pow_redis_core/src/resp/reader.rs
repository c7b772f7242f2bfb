//! Reading replies from a stream, in version 2 of Redis's protocol (RESP2).
//!
//! The protocol is described at <https://redis.io/docs/latest/develop/reference/protocol-spec/>. The redis
//! crate's own parser reads ahead and does not report how far. An unsolicited reply behind the last one would
//! then go unnoticed, and become the reply to the next command.

use std::io::{self, Read};

use redis::{ServerError, Value};

use super::parser::ReplyParser;
use crate::error::Error;

/// The least number of bytes to read at once.
const READ_SIZE: usize = 16 << 10;
/// The most bytes to read at once.
const MAX_READ_SIZE: usize = 1 << 20;
/// A larger buffer is dropped once it is empty.
const MAX_RETAINED_BYTES: usize = 128 << 10;

/// Reads replies from a stream, one by one.
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
}

impl ReplyReader {
    /// Whether a reply, or part of one, is buffered.
    pub(crate) fn has_buffered(&self) -> bool {
        self.start < self.end || self.parser.has_begun()
    }

    /// Reads the next reply. An error reply is a value, unless the server closes the connection after it.
    pub(crate) fn next_reply(&mut self, stream: &mut impl Read) -> Result<Value, Error> {
        loop {
            let unread = self.buffer.get(self.start..self.end).unwrap_or_default();
            let (parsed, reply) = self.parser.parse(unread)?;
            self.start += parsed;
            if let Some(reply) = reply {
                if self.start == self.end && self.buffer.len() > MAX_RETAINED_BYTES {
                    // One huge value must not keep its memory.
                    self.buffer = Vec::new();
                    (self.start, self.end) = (0, 0);
                }
                return match &reply {
                    Value::ServerError(error) => unless_last(error).map(|()| reply),
                    _ => Ok(reply),
                };
            }
            self.fill(stream)?;
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
        match read {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
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
}
