//! Properties of the reader of replies.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use redis::{Parser, Value};

use crate::error::Error;
use crate::near::Validity;
use crate::resp::reader::ReplyReader;

/// How many of the bytes are sizes of chunks.
const SIZES: usize = 4;
/// The most bytes that the first read may ask for.
const MAX_FIRST_READ: usize = 16 << 10;

/// The first bytes are the sizes of the chunks in which the others are read: the replies do not depend on the
/// chunks, and are those that the redis crate reads. In RESP3, neither do the pushes between them.
pub fn replies(bytes: &[u8]) {
    let (sizes, stream) = bytes.split_at_checked(SIZES).unwrap_or((&[], bytes));
    let (whole, error) = read(Chunks::new(stream, &[]));
    let chunked = read(Chunks::new(stream, sizes));
    assert_eq!((&whole, &error), (&chunked.0, &chunked.1));
    assert_eq!(
        read_resp3(Chunks::new(stream, &[])),
        read_resp3(Chunks::new(stream, sizes))
    );
    let mut parser = Parser::new();
    let mut rest = stream;
    for reply in whole {
        assert_eq!(parser.parse_value(&mut rest), Ok(reply));
    }
}

/// The first reply in these bytes.
pub(super) fn first_reply(bytes: &[u8]) -> Option<Value> {
    ReplyReader::default().next_reply(&mut &*bytes).ok()
}

/// All replies in RESP2, and the error after them.
fn read(chunks: Chunks<'_>) -> (Vec<Value>, Error) {
    read_all(ReplyReader::default(), chunks)
}

/// All replies in RESP3, the error after them, how many changed keys the pushes tell of, and how many times
/// all have changed.
fn read_resp3(chunks: Chunks<'_>) -> (Vec<Value>, Error, u64, u64) {
    let validity = Arc::new(Validity::new(Duration::ZERO));
    validity.begin();
    let mut reader = ReplyReader::default();
    reader.expect_pushes(&validity);
    let (replies, error) = read_all(reader, chunks);
    let is_push = |reply: &Value| matches!(reply, Value::Push { .. });
    assert!(!replies.iter().any(is_push));
    let flushes = validity.ends().iter().sum();
    (replies, error, validity.invalidations(), flushes)
}

fn read_all(mut reader: ReplyReader, mut chunks: Chunks<'_>) -> (Vec<Value>, Error) {
    let mut replies = Vec::new();
    loop {
        match reader.next_reply(&mut chunks) {
            Ok(reply) => replies.push(reply),
            Err(error) => return (replies, error),
        }
    }
}

/// A stream that returns bytes in chunks of these sizes in turn, or all that are asked for.
struct Chunks<'b> {
    rest: &'b [u8],
    sizes: &'b [u8],
    reads: usize,
    returned: usize,
}

impl<'b> Chunks<'b> {
    const fn new(rest: &'b [u8], sizes: &'b [u8]) -> Self {
        Self {
            rest,
            sizes,
            reads: 0,
            returned: 0,
        }
    }
}

impl Read for Chunks<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // An announced length alone allocates nothing.
        assert!(buffer.len() <= MAX_FIRST_READ + 3 * self.returned);
        let size = match self.sizes {
            [] => usize::MAX,
            sizes => usize::from(sizes[self.reads % sizes.len()]) + 1,
        };
        let length = size.min(self.rest.len()).min(buffer.len());
        let (now, later) = self.rest.split_at(length);
        buffer[..length].copy_from_slice(now);
        self.rest = later;
        self.reads += 1;
        self.returned += length;
        Ok(length)
    }
}
