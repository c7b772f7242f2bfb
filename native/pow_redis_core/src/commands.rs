//! Commands, packed one behind the other, and the replies to them.

use redis::{Cmd, Value};

use crate::error::{Error, ErrorKind, ServerCode};

/// Commands in Redis's protocol, one behind the other.
#[derive(Debug, Default)]
pub struct Commands {
    bytes: Vec<u8>,
    /// Where each command ends.
    ends: Vec<usize>,
    command: Cmd,
}

impl Commands {
    /// No commands.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a command.
    pub fn push(&mut self, name: &str, arguments: impl FnOnce(&mut Cmd)) {
        self.command.clear();
        self.command.arg(name);
        arguments(&mut self.command);
        self.command.write_packed_command(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    /// The bytes to send.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes of each command.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(&0).chain(&self.ends);
        starts
            .zip(&self.ends)
            .filter_map(|(&start, &end)| self.bytes.get(start..end))
    }

    /// How many commands there are, and so how many replies will come.
    pub const fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Forgets all commands.
    pub fn clear(&mut self) {
        // One huge value must not keep its memory for good.
        self.bytes.clear();
        self.bytes.shrink_to(MAX_KEPT_BYTES);
        self.ends.clear();
    }
}

const MAX_KEPT_BYTES: usize = 1 << 20;

/// The replies to the commands that one operation wrote, in their order.
#[derive(Debug)]
pub struct Replies(std::vec::IntoIter<Value>);

impl Replies {
    /// Replies in the order of the commands.
    pub fn new(values: Vec<Value>) -> Self {
        Self(values.into_iter())
    }

    /// The next reply, an error reply as an error.
    pub fn next_value(&mut self) -> Result<Value, Error> {
        match self.0.next() {
            Some(Value::ServerError(error)) => {
                Err(ErrorKind::Server(ServerCode::new(error.code())).into())
            }
            Some(value) => Ok(value),
            None => Err(ErrorKind::Protocol.into()),
        }
    }

    /// The next reply, to a command that answers with a string or nothing.
    pub fn next_bytes(&mut self) -> Result<Option<Vec<u8>>, Error> {
        match self.next_value()? {
            Value::BulkString(bytes) => Ok(Some(bytes)),
            Value::Nil => Ok(None),
            _ => Err(ErrorKind::Protocol.into()),
        }
    }

    /// The next reply, to a command that answers with a number.
    pub fn next_integer(&mut self) -> Result<i64, Error> {
        match self.next_value()? {
            Value::Int(number) => Ok(number),
            _ => Err(ErrorKind::Protocol.into()),
        }
    }

    /// The next reply, to a command that answers with a cursor and a page of strings.
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

    /// Succeeds if all replies that are left are statuses or numbers, as writes answer.
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
    fn packs_commands_behind_each_other() {
        let mut commands = Commands::new();
        commands.push("GET", |command| {
            command.arg(b"k");
        });
        commands.push("TIME", |_| ());
        assert_eq!(commands.len(), 2);
        assert_eq!(
            commands.as_bytes(),
            b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n$4\r\nTIME\r\n"
        );
        let names: Vec<_> = commands.iter().map(<[u8]>::len).collect();
        assert_eq!(names, [20, 14]);
        commands.clear();
        assert!(commands.is_empty() && commands.as_bytes().is_empty());
    }

    #[test]
    fn replies_of_another_kind_are_protocol_errors() {
        let protocol = Err(ErrorKind::Protocol.into());
        let replies = |value| Replies::new(vec![value]);
        assert_eq!(replies(Value::Int(1)).next_bytes(), protocol);
        assert_eq!(replies(Value::Nil).next_integer().map(|_| None), protocol);
        assert_eq!(replies(Value::Okay).next_page().map(|_| None), protocol);
        assert_eq!(Replies::new(vec![]).next_bytes(), protocol);
    }

    #[test]
    fn a_page() {
        let items = vec![Value::BulkString(b"m".to_vec())];
        let page = Value::Array(vec![Value::BulkString(b"17".to_vec()), Value::Array(items)]);
        assert_eq!(
            Replies::new(vec![page]).next_page(),
            Ok((17, vec![b"m".to_vec()]))
        );
    }
}
