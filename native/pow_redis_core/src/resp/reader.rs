//! Reading replies from a stream, in version 2 of Redis's protocol (RESP2).
//!
//! The protocol is described at <https://redis.io/docs/latest/develop/reference/protocol-spec/>. The redis
//! crate's own parser reads ahead and does not report how far. An unsolicited reply behind the last one would
//! then go unnoticed, and become the reply to the next command.

use std::io::{self, Read};

use redis::Value;

use crate::error::{Error, ErrorKind, TlsProblem};

/// The longest string that Redis stores: 512 MB.
const MAX_STRING_LEN: usize = 512 << 20;
/// The most elements of one reply, including those of nested arrays.
const MAX_ELEMENTS: usize = 1 << 24;
/// How deep arrays may be nested. The replies to the commands of this crate have at most three levels.
const MAX_DEPTH: usize = 8;
/// The longest line, in bytes.
const MAX_LINE_LEN: usize = 64 << 10;
/// The least number of bytes to read at once.
const READ_SIZE: usize = 16 << 10;
/// A larger buffer is dropped once it is empty.
const MAX_RETAINED_BYTES: usize = 1 << 20;

/// Reads replies from a stream, one by one.
#[derive(Debug, Default)]
pub(crate) struct ReplyReader {
    buffer: Vec<u8>,
    /// The position of the next reply.
    start: usize,
    /// The end of the bytes read. Free space follows.
    end: usize,
}

/// The progress of the search for the end of the next reply.
struct Search {
    position: usize,
    /// The number of elements still to find.
    elements: usize,
}

/// What a search needs to continue.
enum Need {
    Nothing,
    /// At least this many bytes.
    Bytes(usize),
}

impl ReplyReader {
    /// Whether unread bytes are buffered.
    pub(crate) const fn has_buffered(&self) -> bool {
        self.start < self.end
    }

    /// Reads the next reply. An error reply is a value, unless the server closes the connection after it.
    pub(crate) fn next_reply(&mut self, stream: &mut impl Read) -> Result<Value, Error> {
        let mut search = Search {
            position: 0,
            elements: 1,
        };
        while let Need::Bytes(number) = search.run(self.unread())? {
            self.fill(stream, number)?;
        }
        let reply = self.unread().get(..search.position).unwrap_or_default();
        let value = Lines(reply).value(MAX_DEPTH)?;
        self.start += search.position;
        if !self.has_buffered() && self.buffer.len() > MAX_RETAINED_BYTES {
            // One huge value must not keep its memory.
            *self = Self::default();
        }
        if let Value::ServerError(reply) = &value {
            let error = Error::from_reply(reply);
            if error.ends_connection() {
                return Err(error);
            }
        }
        Ok(value)
    }

    fn unread(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Reads once. The buffer at most doubles with each read: an announced length alone allocates nothing.
    fn fill(&mut self, stream: &mut impl Read, wanted: usize) -> io::Result<()> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let room = wanted.clamp(READ_SIZE, self.end.max(READ_SIZE));
        if self.buffer.len() < self.end + room {
            self.buffer.resize(self.end + room, 0);
        }
        let read = stream.read(self.buffer.get_mut(self.end..).unwrap_or_default())?;
        self.end += read;
        match read {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

impl Search {
    /// Continues until the end of the reply or of the bytes. Does not search bytes twice.
    fn run(&mut self, buffer: &[u8]) -> Result<Need, Error> {
        while let Some(left) = self.elements.checked_sub(1) {
            let rest = buffer.get(self.position..).unwrap_or_default();
            let Some((line, after)) = split_line(rest) else {
                return match rest {
                    [] | [b'+' | b'-' | b':' | b'$' | b'*', ..] if rest.len() < MAX_LINE_LEN => {
                        Ok(Need::Bytes(1))
                    }
                    _ => Err(not_a_reply(rest)),
                };
            };
            let mut length = rest.len() - after.len();
            let mut elements = 0;
            match line {
                [b'+' | b'-' | b':', ..] => {}
                [b'$', number @ ..] => {
                    if let Some(bytes) = size(number, MAX_STRING_LEN)? {
                        length += bytes + 2;
                    }
                }
                [b'*', number @ ..] => elements = size(number, MAX_ELEMENTS)?.unwrap_or(0),
                _ => return Err(ErrorKind::Protocol.into()),
            }
            if let Some(missing) = length
                .checked_sub(rest.len())
                .filter(|&missing| missing > 0)
            {
                return Ok(Need::Bytes(missing));
            }
            self.position += length;
            self.elements = left + elements;
            if self.elements > MAX_ELEMENTS {
                return Err(ErrorKind::Protocol.into());
            }
        }
        Ok(Need::Nothing)
    }
}

/// Parses a complete reply line by line.
struct Lines<'r>(&'r [u8]);

impl Lines<'_> {
    fn value(&mut self, depth: usize) -> Result<Value, Error> {
        let protocol = || Error::from(ErrorKind::Protocol);
        let (line, rest) = split_line(self.0).ok_or_else(protocol)?;
        let whole_line = self.0.get(..line.len() + 2).unwrap_or_default();
        self.0 = rest;
        match line {
            // The redis crate parses statuses and errors.
            [b'+' | b'-', ..] => redis::parse_redis_value(whole_line).map_err(|_| protocol()),
            [b':', number @ ..] => number_of(number).map(Value::Int).ok_or_else(protocol),
            [b'$', number @ ..] => match size(number, MAX_STRING_LEN)? {
                None => Ok(Value::Nil),
                Some(length) => {
                    let (bytes, rest) = self.0.split_at_checked(length).ok_or_else(protocol)?;
                    self.0 = rest.strip_prefix(b"\r\n").ok_or_else(protocol)?;
                    Ok(Value::BulkString(bytes.to_vec()))
                }
            },
            [b'*', number @ ..] => match size(number, MAX_ELEMENTS)? {
                None => Ok(Value::Nil),
                Some(elements) => {
                    let below = depth.checked_sub(1).ok_or_else(protocol)?;
                    let values: Result<_, _> = (0..elements).map(|_| self.value(below)).collect();
                    values.map(Value::Array)
                }
            },
            _ => Err(protocol()),
        }
    }
}

/// The error of bytes that start no reply.
fn not_a_reply(bytes: &[u8]) -> Error {
    match bytes {
        // An alert: the server has expected a TLS handshake.
        [21, ..] => ErrorKind::Tls(TlsProblem::TlsRequired).into(),
        _ => ErrorKind::Protocol.into(),
    }
}

/// A line without its CRLF, and the bytes after it.
fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    Some((bytes.get(..end)?, bytes.get(end + 2..)?))
}

fn number_of(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A length, or `None` for nil (-1).
fn size(text: &[u8], max: usize) -> Result<Option<usize>, Error> {
    match number_of(text) {
        Some(-1) => Ok(None),
        Some(number) => usize::try_from(number)
            .ok()
            .filter(|&number| number <= max)
            .map(Some)
            .ok_or_else(|| ErrorKind::Protocol.into()),
        None => Err(ErrorKind::Protocol.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let deep = b"*1\r\n".repeat(MAX_DEPTH + 1);
        let outcome = ReplyReader::default().next_reply(&mut &[&deep[..], b":1\r\n"].concat()[..]);
        assert_eq!(outcome.unwrap_err(), ErrorKind::Protocol.into());
        let endless = vec![b'+'; MAX_LINE_LEN + 1];
        let outcome = ReplyReader::default().next_reply(&mut &endless[..]);
        assert_eq!(outcome.unwrap_err(), ErrorKind::Protocol.into());
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
        }
        assert!(replies.buffer.capacity() <= 4 * READ_SIZE);
    }

    #[test]
    fn frees_the_memory_of_a_huge_reply() {
        let text = "x".repeat(2 * MAX_RETAINED_BYTES);
        let stream = format!("${}\r\n{text}\r\n", text.len());
        let mut replies = ReplyReader::default();
        let reply = replies.next_reply(&mut stream.as_bytes()).unwrap();
        assert_eq!(reply, bulk(&text));
        assert_eq!(replies.buffer.capacity(), 0);
    }

    #[test]
    fn allocates_little_for_an_announced_length() {
        for bytes in [&b"$536870912\r\nabc"[..], b"*16777216\r\n:1\r\n"] {
            let mut replies = ReplyReader::default();
            let end = replies.next_reply(&mut &*bytes).unwrap_err();
            assert_eq!(end, ErrorKind::Disconnected.into());
            assert!(replies.buffer.capacity() <= 4 * READ_SIZE);
        }
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
