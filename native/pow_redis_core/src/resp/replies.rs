//! The replies to a round of commands.

use redis::Value;

use crate::error::{Error, ErrorKind};

/// The replies to the commands of one round, read in order.
#[derive(Debug)]
pub struct Replies(std::vec::IntoIter<Value>);

impl Replies {
    /// Replies in the order of the commands.
    pub fn new(values: Vec<Value>) -> Self {
        Self(values.into_iter())
    }

    /// Reads the next reply. Fails on an error reply.
    pub fn next_value(&mut self) -> Result<Value, Error> {
        match self.0.next() {
            Some(Value::ServerError(error)) => Err(Error::from_reply(&error)),
            Some(value) => Ok(value),
            None => Err(ErrorKind::Protocol.into()),
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
        while self.0.len() > 0 {
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
    fn reads_a_page() {
        let items = vec![Value::BulkString(b"m".to_vec())];
        let page = Value::Array(vec![Value::BulkString(b"17".to_vec()), Value::Array(items)]);
        assert_eq!(
            Replies::new(vec![page]).next_page(),
            Ok((17, vec![b"m".to_vec()]))
        );
    }
}
