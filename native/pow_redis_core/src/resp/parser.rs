//! Parsing replies from bytes that arrive in any portions.

use redis::Value;

use crate::error::{Error, ErrorKind, TlsProblem};
use crate::etf::MAX_VALUE_LEN;
use crate::seal;

/// The longest string that Redis stores: 512 MB. No server announces a longer one.
const MAX_STRING_LEN: usize = 512 << 20;
/// The longest string outside of arrays. A longer one is cut to one byte more: no value is that long.
pub(crate) const MAX_TOP_LEVEL_LEN: usize = MAX_VALUE_LEN + seal::OVERHEAD;
/// The longest string in arrays. A longer one is cut to one byte more: no key is that long.
pub(crate) const MAX_ITEM_LEN: usize = 64 << 10;
/// The most memory of one reply. A page of keys may have some thousand of the longest.
const MAX_REPLY_MEMORY: usize = 128 << 20;
/// How deep arrays may be nested. The replies to the commands of this crate have at most three levels.
const MAX_DEPTH: usize = 8;
/// The longest line, in bytes.
const MAX_LINE_LEN: usize = 64 << 10;
/// The first byte of a TLS record that is an alert.
const TLS_ALERT: u8 = 21;
/// The end of a line: carriage return and line feed.
const CRLF: &[u8] = b"\r\n";

/// Parses replies, one after the other. Looks at each byte a constant number of times.
///
/// Invariant: while it waits for more bytes, it holds at most [`MAX_REPLY_MEMORY`], however much has been
/// announced.
#[derive(Debug, Default)]
pub(crate) struct ReplyParser {
    state: State,
    /// The arrays around the next element, from the outermost to the innermost.
    arrays: Vec<OpenArray>,
    /// What the reply takes so far.
    memory: usize,
}

#[derive(Debug)]
enum State {
    /// In a line, whose first bytes are known to have no end.
    Line { searched: usize },
    /// In a string.
    String(OpenString),
}

impl Default for State {
    fn default() -> Self {
        Self::Line { searched: 0 }
    }
}

/// An array whose elements are being parsed.
#[derive(Debug)]
struct OpenArray {
    elements: Vec<Value>,
    missing: usize,
}

/// A string that is being parsed.
#[derive(Debug)]
struct OpenString {
    bytes: Vec<u8>,
    /// How many bytes are still to be kept.
    missing: usize,
    /// How many bytes after those are to be skipped.
    cut: usize,
}

/// What a step has found.
enum Found {
    /// More bytes are needed.
    Nothing,
    /// A line that only announces elements.
    Announcement,
    Element(Value),
}

impl ReplyParser {
    /// Whether it has parsed a part of a reply.
    pub(crate) fn has_begun(&self) -> bool {
        !self.arrays.is_empty() || matches!(self.state, State::String(_))
    }

    /// How many more bytes the current string needs.
    pub(crate) const fn missing(&self) -> usize {
        match &self.state {
            State::Line { .. } => 0,
            State::String(string) => string.missing + string.cut + CRLF.len(),
        }
    }

    /// Parses up to the end of a reply. Returns how many bytes it has parsed. The others, and more, are to
    /// be given to it next.
    pub(crate) fn parse(&mut self, bytes: &[u8]) -> Result<(usize, Option<Value>), Error> {
        let mut rest = bytes;
        let parsed = |rest: &[u8]| bytes.len() - rest.len();
        loop {
            let found = match &mut self.state {
                State::Line { searched } => {
                    let Some(line) = split_line(&mut rest, searched)? else {
                        return Ok((parsed(rest), None));
                    };
                    self.line(line)?
                }
                State::String(string) => string.parse(&mut rest)?,
            };
            match found {
                Found::Nothing => return Ok((parsed(rest), None)),
                Found::Announcement => {}
                Found::Element(value) => {
                    self.state = State::default();
                    if let Some(reply) = self.close(value)? {
                        self.memory = 0;
                        return Ok((parsed(rest), Some(reply)));
                    }
                }
            }
        }
    }

    /// Parses a line without its end.
    fn line(&mut self, line: &[u8]) -> Result<Found, Error> {
        let value = match line {
            b"+OK" => Value::Okay,
            // The redis crate parses other statuses, and errors.
            [b'+' | b'-', ..] => redis::parse_redis_value(&[line, CRLF].concat())
                .map_err(|_| Error::from(ErrorKind::Protocol))?,
            [b':', number @ ..] => number_of(number).map(Value::Int).ok_or_else(protocol)?,
            [b'$', number @ ..] => match size(number)? {
                None => Value::Nil,
                Some(length) if length <= MAX_STRING_LEN => {
                    self.open_string(length)?;
                    return Ok(Found::Announcement);
                }
                Some(_) => return Err(protocol()),
            },
            [b'*', number @ ..] => match size(number)? {
                None => Value::Nil,
                Some(0) => Value::Array(Vec::new()),
                Some(elements) => {
                    self.open_array(elements)?;
                    return Ok(Found::Announcement);
                }
            },
            _ => return Err(protocol()),
        };
        self.take_memory(line.len())?;
        Ok(Found::Element(value))
    }

    fn open_string(&mut self, length: usize) -> Result<(), Error> {
        let longest = if self.arrays.is_empty() {
            MAX_TOP_LEVEL_LEN
        } else {
            MAX_ITEM_LEN
        };
        let kept = length.min(longest + 1);
        self.take_memory(kept)?;
        self.state = State::String(OpenString {
            bytes: Vec::new(),
            missing: kept,
            cut: length - kept,
        });
        Ok(())
    }

    fn open_array(&mut self, elements: usize) -> Result<(), Error> {
        let least = elements.saturating_mul(size_of::<Value>());
        if self.arrays.len() == MAX_DEPTH || self.memory.saturating_add(least) > MAX_REPLY_MEMORY {
            return Err(protocol());
        }
        self.take_memory(0)?;
        self.arrays.push(OpenArray {
            elements: Vec::new(),
            missing: elements,
        });
        Ok(())
    }

    /// Adds an element, and closes the arrays that it completes. Returns the reply if there is none left.
    fn close(&mut self, mut value: Value) -> Result<Option<Value>, Error> {
        loop {
            let Some(array) = self.arrays.last_mut() else {
                return Ok(Some(value));
            };
            array.elements.push(value);
            array.missing -= 1;
            if array.missing > 0 {
                return Ok(None);
            }
            let array = self.arrays.pop().ok_or_else(protocol)?;
            value = Value::Array(array.elements);
        }
    }

    /// Counts an element with this many bytes.
    fn take_memory(&mut self, bytes: usize) -> Result<(), Error> {
        self.memory += bytes + size_of::<Value>();
        if self.memory > MAX_REPLY_MEMORY {
            return Err(protocol());
        }
        Ok(())
    }
}

impl OpenString {
    fn parse(&mut self, rest: &mut &[u8]) -> Result<Found, Error> {
        let kept = take(rest, &mut self.missing);
        self.bytes.extend(kept);
        take(rest, &mut self.cut);
        // Nothing is left while bytes of the string are missing.
        if rest.len() < CRLF.len() {
            return Ok(Found::Nothing);
        }
        *rest = rest.strip_prefix(CRLF).ok_or_else(protocol)?;
        let bytes = std::mem::take(&mut self.bytes);
        Ok(Found::Element(Value::BulkString(bytes)))
    }
}

/// Takes at most `missing` bytes, and subtracts them.
fn take<'b>(rest: &mut &'b [u8], missing: &mut usize) -> &'b [u8] {
    let (taken, left) = rest.split_at(rest.len().min(*missing));
    *missing -= taken.len();
    *rest = left;
    taken
}

/// Takes a line without its end. Returns `None` if the end has not arrived.
fn split_line<'b>(rest: &mut &'b [u8], searched: &mut usize) -> Result<Option<&'b [u8]>, Error> {
    let bytes = *rest;
    match bytes.first() {
        None | Some(b'+' | b'-' | b':' | b'$' | b'*') => {}
        // An alert: the server has expected a TLS handshake.
        Some(&TLS_ALERT) => return Err(ErrorKind::Tls(TlsProblem::TlsRequired).into()),
        Some(_) => return Err(protocol()),
    }
    let unsearched = bytes.get(*searched..).unwrap_or_default();
    let end = unsearched.windows(CRLF.len()).position(|pair| pair == CRLF);
    match end.map(|end| *searched + end) {
        Some(end) if end < MAX_LINE_LEN => {
            let (line, after) = bytes.split_at(end);
            *rest = after.get(CRLF.len()..).unwrap_or_default();
            *searched = 0;
            Ok(Some(line))
        }
        None if bytes.len() <= MAX_LINE_LEN => {
            // A carriage return at the end may be the first byte of the line's end.
            *searched = bytes.len().saturating_sub(1);
            Ok(None)
        }
        _ => Err(protocol()),
    }
}

fn number_of(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A length, or `None` for nil (-1).
fn size(text: &[u8]) -> Result<Option<usize>, Error> {
    match number_of(text) {
        Some(-1) => Ok(None),
        Some(number) => usize::try_from(number).map(Some).map_err(|_| protocol()),
        None => Err(protocol()),
    }
}

fn protocol() -> Error {
    ErrorKind::Protocol.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses bytes in portions. Returns the reply, or the error.
    fn parse(bytes: &[u8], portion: usize) -> (ReplyParser, Result<Option<Value>, Error>) {
        let mut parser = ReplyParser::default();
        let (mut start, mut end) = (0, 0);
        while end < bytes.len() {
            end = bytes.len().min(end + portion);
            match parser.parse(&bytes[start..end]) {
                Ok((parsed, None)) => start += parsed,
                Ok((_, Some(reply))) => return (parser, Ok(Some(reply))),
                Err(error) => return (parser, Err(error)),
            }
        }
        (parser, Ok(None))
    }

    fn string(length: usize) -> Vec<u8> {
        let mut bytes = format!("${length}\r\n").into_bytes();
        bytes.resize(bytes.len() + length, b'x');
        bytes.extend(CRLF);
        bytes
    }

    fn length_of(reply: &Value) -> usize {
        match reply {
            Value::BulkString(bytes) => bytes.len(),
            _ => panic!("{reply:?}"),
        }
    }

    #[test]
    fn cuts_a_string_that_is_longer_than_a_value() {
        for (length, kept) in [
            (MAX_TOP_LEVEL_LEN, MAX_TOP_LEVEL_LEN),
            (MAX_TOP_LEVEL_LEN + 1, MAX_TOP_LEVEL_LEN + 1),
            (MAX_TOP_LEVEL_LEN + 100, MAX_TOP_LEVEL_LEN + 1),
        ] {
            let (_, reply) = parse(&string(length), 1 << 20);
            assert_eq!(length_of(&reply.unwrap().unwrap()), kept);
        }
    }

    #[test]
    fn cuts_a_string_in_an_array_that_is_longer_than_a_key() {
        for (length, kept) in [
            (MAX_ITEM_LEN, MAX_ITEM_LEN),
            (MAX_ITEM_LEN + 1, MAX_ITEM_LEN + 1),
            (MAX_ITEM_LEN + 100, MAX_ITEM_LEN + 1),
        ] {
            let array = [b"*2\r\n", &string(length)[..], b":7\r\n"].concat();
            for portion in [1, 1_000, array.len()] {
                let (_, reply) = parse(&array, portion);
                let Ok(Some(Value::Array(elements))) = reply else {
                    panic!("{length}");
                };
                assert_eq!(length_of(&elements[0]), kept);
                assert_eq!(elements[1], Value::Int(7));
            }
        }
    }

    #[test]
    fn notices_the_depth_before_the_end() {
        let nested = |depth: usize| b"*1\r\n".repeat(depth);
        assert!(matches!(parse(&nested(MAX_DEPTH), 3), (_, Ok(None))));
        let (_, outcome) = parse(&nested(MAX_DEPTH + 1), 3);
        assert_eq!(outcome, Err(protocol()));
        let whole = [nested(MAX_DEPTH), b":1\r\n".to_vec()].concat();
        assert!(matches!(parse(&whole, 3), (_, Ok(Some(_)))));
    }

    #[test]
    fn limits_the_memory_of_a_reply() {
        let most = MAX_REPLY_MEMORY / (size_of::<Value>() + 2) - 1;
        let numbers = |number: usize| {
            let header = format!("*{number}\r\n").into_bytes();
            [header, b":1\r\n".repeat(number)].concat()
        };
        assert!(matches!(parse(&numbers(most), 1 << 20), (_, Ok(Some(_)))));
        let (_, outcome) = parse(&numbers(most + 1), 1 << 20);
        assert_eq!(outcome, Err(protocol()));

        // It is known from the announcement, also in an array.
        let announced = |number: usize| format!("*2\r\n:1\r\n*{number}\r\n").into_bytes();
        let most = MAX_REPLY_MEMORY / size_of::<Value>();
        assert_eq!(parse(&announced(most - 3), 5).1, Ok(None));
        assert_eq!(parse(&announced(most), 5).1, Err(protocol()));
        let strings = [b"*100000\r\n".to_vec(), string(MAX_ITEM_LEN).repeat(2_048)].concat();
        let (_, outcome) = parse(&strings, 1 << 20);
        assert_eq!(outcome, Err(protocol()));
    }

    #[test]
    fn counts_memory_up_to_the_limit() {
        let mut parser = ReplyParser::default();
        let rest = MAX_REPLY_MEMORY - size_of::<Value>();
        assert_eq!(parser.take_memory(rest), Ok(()));
        assert_eq!(parser.memory, MAX_REPLY_MEMORY);
        let mut parser = ReplyParser::default();
        assert_eq!(parser.take_memory(rest + 1), Err(protocol()));
    }

    #[test]
    fn knows_how_many_bytes_a_string_lacks() {
        let missing = |bytes: &[u8]| parse(bytes, bytes.len()).0.missing();
        assert_eq!(missing(b"$10"), 0);
        assert_eq!(missing(b"$10\r\nabc"), 7 + 2);
        assert_eq!(missing(b"$3\r\nabc"), 2);
        let long = format!("*1\r\n${}\r\nabc", MAX_ITEM_LEN + 100);
        assert_eq!(missing(long.as_bytes()), MAX_ITEM_LEN + 97 + 2);
    }

    #[test]
    fn allocates_nothing_for_announced_elements() {
        for bytes in [&b"*1000000\r\n"[..], b"$500000000\r\nabc"] {
            let (parser, outcome) = parse(bytes, 100);
            assert_eq!(outcome, Ok(None));
            let arrays: usize = parser
                .arrays
                .iter()
                .map(|array| array.elements.capacity())
                .sum();
            assert_eq!(arrays, 0);
            assert!(parser.has_begun());
        }
    }

    /// Bytes are not searched again when more arrive.
    #[test]
    fn searches_a_long_line_once() {
        let mut line = vec![b'+'; MAX_LINE_LEN];
        let mut parser = ReplyParser::default();
        for end in 1..=line.len() {
            assert_eq!(parser.parse(&line[..end]), Ok((0, None)));
            let State::Line { searched } = parser.state else {
                panic!("in a line");
            };
            assert_eq!(searched, end - 1);
        }
        line.push(b'+');
        assert_eq!(parser.parse(&line), Err(protocol()));
    }

    #[test]
    fn a_line_has_a_longest_length_in_any_portions() {
        for (length, is_valid) in [(MAX_LINE_LEN - 1, true), (MAX_LINE_LEN, false)] {
            let mut line = vec![b'+'; length];
            line.extend(CRLF);
            for portion in [1_000, line.len()] {
                let (_, reply) = parse(&line, portion);
                assert_eq!(
                    reply.is_ok_and(|reply| reply.is_some()),
                    is_valid,
                    "{length}"
                );
            }
        }
    }

    #[test]
    fn recognizes_a_tls_alert_by_its_first_byte() {
        let expected = Err(ErrorKind::Tls(TlsProblem::TlsRequired).into());
        for portion in [1, 7] {
            assert_eq!(parse(b"\x15\x03\x01\0\x02\x02\n", portion).1, expected);
        }
        assert_eq!(parse(b"\x16\x03\r\n", 9).1, Err(protocol()));
    }

    #[test]
    fn finds_the_end_of_a_line_that_arrives_in_two_portions() {
        for portion in 1..=5 {
            let (parser, reply) = parse(b"+\ra\r\n", portion);
            assert_eq!(reply, Ok(Some(Value::SimpleString("\ra".to_owned()))));
            assert!(!parser.has_begun());
        }
    }
}
