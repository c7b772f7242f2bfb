//! The replies to a round of commands.

use redis::Value;

use crate::error::{Error, ErrorKind};

/// The most memory of the result of one operation: 512 MB.
pub(crate) const MAX_RESULT_MEMORY: usize = 512 << 20;

/// The replies to the commands of one round as they are received. Their memory is limited: what exceeds it is
/// dropped.
#[derive(Debug, Default)]
pub(crate) struct RoundReplies {
    values: Vec<Value>,
    memory: usize,
}

impl RoundReplies {
    /// The replies, up to the limit.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Value> {
        self.values.iter()
    }

    fn push(&mut self, value: Value) {
        self.memory = self.memory.saturating_add(memory(&value));
        if self.memory <= MAX_RESULT_MEMORY {
            self.values.push(value);
        }
    }
}

impl FromIterator<Value> for RoundReplies {
    fn from_iter<I: IntoIterator<Item = Value>>(values: I) -> Self {
        let mut replies = Self::default();
        values.into_iter().for_each(|value| replies.push(value));
        replies
    }
}

/// What a reply takes.
fn memory(value: &Value) -> usize {
    let inner = match value {
        Value::BulkString(bytes) => bytes.len(),
        Value::Array(values) => values.iter().map(memory).sum(),
        _ => 0,
    };
    size_of::<Value>() + inner
}

/// The replies to the commands of one round, read in order.
#[derive(Debug)]
pub struct Replies {
    values: std::vec::IntoIter<Value>,
    /// What to answer if there are none left.
    end: ErrorKind,
}

impl From<RoundReplies> for Replies {
    fn from(replies: RoundReplies) -> Self {
        let is_complete = replies.memory <= MAX_RESULT_MEMORY;
        Self {
            values: replies.values.into_iter(),
            end: if is_complete {
                ErrorKind::Protocol
            } else {
                ErrorKind::ResultTooLarge
            },
        }
    }
}

impl Replies {
    /// Replies in the order of the commands.
    pub fn new(values: Vec<Value>) -> Self {
        Self {
            values: values.into_iter(),
            end: ErrorKind::Protocol,
        }
    }

    /// Reads the next reply. Fails on an error reply.
    pub fn next_value(&mut self) -> Result<Value, Error> {
        match self.values.next() {
            Some(Value::ServerError(error)) => Err(Error::from_reply(&error)),
            Some(value) => Ok(value),
            None => Err(self.end.clone().into()),
        }
    }

    /// Reads a bulk string or nil.
    pub fn next_bytes(&mut self) -> Result<Option<Vec<u8>>, Error> {
        match self.next_value()? {
            Value::BulkString(bytes) => Ok(Some(bytes)),
            Value::Nil => Ok(None),
            _ => Err(ErrorKind::Protocol.into()),
        }
    }

    /// Reads an integer.
    pub fn next_integer(&mut self) -> Result<i64, Error> {
        match self.next_value()? {
            Value::Int(number) => Ok(number),
            _ => Err(ErrorKind::Protocol.into()),
        }
    }

    /// Reads a cursor and a page of strings, as `SCAN` and `ZSCAN` return.
    pub fn next_page(&mut self) -> Result<(u64, Vec<Vec<u8>>), Error> {
        let page = match self.next_value()? {
            Value::Array(page) => <[Value; 2]>::try_from(page).ok(),
            _ => None,
        };
        let Some([Value::BulkString(cursor), Value::Array(items)]) = page else {
            return Err(ErrorKind::Protocol.into());
        };
        let cursor = std::str::from_utf8(&cursor)
            .ok()
            .and_then(|text| text.parse().ok());
        let items = items
            .into_iter()
            .map(|item| match item {
                Value::BulkString(bytes) => Some(bytes),
                _ => None,
            })
            .collect::<Option<Vec<_>>>();
        cursor.zip(items).ok_or_else(|| ErrorKind::Protocol.into())
    }

    /// Checks that all remaining replies are statuses or integers, as writes return.
    pub fn finish(mut self) -> Result<(), Error> {
        while self.values.len() > 0 {
            match self.next_value()? {
                Value::Okay | Value::Int(_) | Value::SimpleString(_) => {}
                _ => return Err(ErrorKind::Protocol.into()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_replies_of_another_type() {
        let protocol = Err(ErrorKind::Protocol.into());
        let replies = |value| Replies::new(vec![value]);
        assert_eq!(replies(Value::Int(1)).next_bytes(), protocol);
        assert_eq!(replies(Value::Nil).next_integer().map(|_| None), protocol);
        assert_eq!(replies(Value::Okay).next_page().map(|_| None), protocol);
        assert_eq!(Replies::new(vec![]).next_bytes(), protocol);
    }

    #[test]
    fn drops_the_replies_of_a_round_beyond_a_limit() {
        let length = MAX_RESULT_MEMORY / 4 - size_of::<Value>();
        let bulk = |length: usize| Value::BulkString(vec![0; length]);
        for (last, end) in [(0, ErrorKind::Protocol), (1, ErrorKind::ResultTooLarge)] {
            let lengths = [length, length, length, length + last];
            let round: RoundReplies = lengths.into_iter().map(bulk).collect();
            assert_eq!(round.iter().count(), 4 - last);
            let mut replies = Replies::from(round);
            for _ in 0..4 - last {
                replies.next_bytes().unwrap().unwrap();
            }
            assert_eq!(replies.next_bytes(), Err(end.into()));
        }
    }

    #[test]
    fn counts_the_elements_of_arrays() {
        let bulk = Value::BulkString(vec![0; 7]);
        let pair = Value::Array(vec![bulk.clone(), Value::Nil]);
        assert_eq!(memory(&bulk), size_of::<Value>() + 7);
        assert_eq!(
            memory(&Value::Array(vec![pair])),
            4 * size_of::<Value>() + 7
        );
    }

    #[test]
    fn reads_a_page() {
        let items = vec![Value::BulkString(b"m".to_vec())];
        let page = Value::Array(vec![Value::BulkString(b"17".to_vec()), Value::Array(items)]);
        assert_eq!(
            Replies::new(vec![page]).next_page(),
            Ok((17, vec![b"m".to_vec()]))
        );
    }
}
