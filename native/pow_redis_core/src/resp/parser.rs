//! Parsing replies from bytes that arrive in any portions.

use redis::{PushKind, Value};

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
/// What the push of one invalidated key begins with, up to the length of the key.
const ONE_KEY: &[u8] = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$";

/// A version of Redis's protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Protocol {
    #[default]
    Resp2,
    /// After `HELLO 3`: with pushes, and with types that RESP2 does not have.
    Resp3,
}

/// Parses replies, one after the other. Looks at each byte a constant number of times.
///
/// Replies of RESP3 get the shape that they have in RESP2: maps and sets become arrays, doubles and verbatim
/// strings become strings. Only pushes have a type of their own.
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
    protocol: Protocol,
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
    is_push: bool,
}

/// A string that is being parsed.
#[derive(Debug)]
struct OpenString {
    bytes: Vec<u8>,
    /// How many bytes are still to be kept.
    missing: usize,
    /// How many bytes after those are to be skipped.
    cut: usize,
    /// Whether it begins with its format, such as `txt:`.
    is_verbatim: bool,
}

/// How many bytes the format of a verbatim string takes.
const FORMAT_LEN: usize = 4;

/// What a step has found.
enum Found {
    /// More bytes are needed.
    Nothing,
    /// A line that only announces elements.
    Announcement,
    Element(Value),
}

impl ReplyParser {
    /// The replies that follow are of this protocol.
    pub(crate) fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
    }

    /// Whether what it has parsed a part of is a push.
    pub(crate) fn is_in_push(&self) -> bool {
        self.arrays.first().is_some_and(|array| array.is_push)
    }

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

    /// If what comes next is the push of one invalidated key, and has arrived as a whole, returns how many bytes
    /// it takes and the key. The replies to each deletion of a tracked key bring one, and parsing it as a value
    /// takes several times as long.
    pub(crate) fn changed_key<'b>(&mut self, bytes: &'b [u8]) -> Option<(usize, &'b [u8])> {
        if self.has_begun() {
            return None;
        }
        let rest = bytes.strip_prefix(ONE_KEY)?;
        let end = rest.iter().position(|byte| *byte == b'\r')?;
        let (number, rest) = rest.split_at_checked(end)?;
        let length = announced(number).ok()?;
        let (key, rest) = rest.strip_prefix(CRLF)?.split_at_checked(length)?;
        let rest = rest.strip_prefix(CRLF)?;
        // A part of its first line may have arrived before.
        self.state = State::default();
        Some((bytes.len() - rest.len(), key))
    }

    /// Parses up to the end of a reply. Returns how many bytes it has parsed. The others, and more, are to
    /// be given to it next.
    pub(crate) fn parse(&mut self, bytes: &[u8]) -> Result<(usize, Option<Value>), Error> {
        let mut rest = bytes;
        let parsed = |rest: &[u8]| bytes.len() - rest.len();
        loop {
            let found = match &mut self.state {
                State::Line { searched } => {
                    let Some(line) = split_line(&mut rest, searched, self.protocol)? else {
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
                Some(length) => return self.open_string(length, false),
            },
            [b'*', number @ ..] => match size(number)? {
                None => Value::Nil,
                Some(0) => Value::Array(Vec::new()),
                Some(elements) => return self.open_array(elements, false),
            },
            _ => return self.resp3_line(line),
        };
        self.take_memory(line.len())?;
        Ok(Found::Element(value))
    }

    /// Parses a line that only RESP3 has. Its big numbers, attributes and long errors are not expected.
    fn resp3_line(&mut self, line: &[u8]) -> Result<Found, Error> {
        let value = match line {
            b"_" => Value::Nil,
            b"#t" => Value::Int(1),
            b"#f" => Value::Int(0),
            [b',', double @ ..] => Value::BulkString(double.to_vec()),
            [b'=', number @ ..] => return self.open_string(announced(number)?, true),
            // A push arrives between replies, not in one.
            [b'>', number @ ..] if self.arrays.is_empty() => match announced(number)? {
                0 => return Err(protocol()),
                elements => return self.open_array(elements, true),
            },
            [b'%', number @ ..] => match announced(number)?.saturating_mul(2) {
                0 => Value::Array(Vec::new()),
                elements => return self.open_array(elements, false),
            },
            [b'~', number @ ..] => match announced(number)? {
                0 => Value::Array(Vec::new()),
                elements => return self.open_array(elements, false),
            },
            _ => return Err(protocol()),
        };
        self.take_memory(line.len())?;
        Ok(Found::Element(value))
    }

    fn open_string(&mut self, length: usize, is_verbatim: bool) -> Result<Found, Error> {
        if length > MAX_STRING_LEN {
            return Err(protocol());
        }
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
            is_verbatim,
        });
        Ok(Found::Announcement)
    }

    fn open_array(&mut self, elements: usize, is_push: bool) -> Result<Found, Error> {
        let least = elements.saturating_mul(size_of::<Value>());
        if self.arrays.len() == MAX_DEPTH || self.memory.saturating_add(least) > MAX_REPLY_MEMORY {
            return Err(protocol());
        }
        self.take_memory(0)?;
        self.arrays.push(OpenArray {
            elements: Vec::new(),
            missing: elements,
            is_push,
        });
        Ok(Found::Announcement)
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
            value = match array.is_push {
                true => push(array.elements)?,
                false => Value::Array(array.elements),
            };
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
        let mut bytes = std::mem::take(&mut self.bytes);
        if self.is_verbatim {
            bytes.drain(..FORMAT_LEN.min(bytes.len()));
        }
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
fn split_line<'b>(
    rest: &mut &'b [u8],
    searched: &mut usize,
    protocol_version: Protocol,
) -> Result<Option<&'b [u8]>, Error> {
    let bytes = *rest;
    match bytes.first() {
        None | Some(b'+' | b'-' | b':' | b'$' | b'*') => {}
        Some(b'_' | b'#' | b',' | b'=' | b'>' | b'%' | b'~')
            if protocol_version == Protocol::Resp3 => {}
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

/// A length that is not nil.
fn announced(text: &[u8]) -> Result<usize, Error> {
    size(text)?.ok_or_else(protocol)
}

/// The push of invalidated keys, the only one that a connection of this crate asks for.
fn push(elements: Vec<Value>) -> Result<Value, Error> {
    let mut elements = elements.into_iter();
    match elements.next() {
        Some(Value::BulkString(kind)) if kind == b"invalidate" => Ok(Value::Push {
            kind: PushKind::Invalidate,
            data: elements.collect(),
        }),
        _ => Err(protocol()),
    }
}

fn protocol() -> Error {
    ErrorKind::Protocol.into()
}

#[cfg(test)]
mod tests;
