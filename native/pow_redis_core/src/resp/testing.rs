//! Test support: commands as text, and replies written by hand.

#![cfg(test)]

use redis::{Value, parse_redis_value};

/// The commands, one line each. Bytes other than ASCII are escaped.
pub(crate) fn lines(packed: &[u8]) -> Vec<String> {
    let line = |words: &Vec<&[u8]>| {
        let words = words.iter().map(|word| word.escape_ascii().to_string());
        words.collect::<Vec<_>>().join(" ")
    };
    words(packed).iter().map(line).collect()
}

/// The words of each command.
pub(crate) fn words(mut packed: &[u8]) -> Vec<Vec<&[u8]>> {
    let mut commands = Vec::new();
    while !packed.is_empty() {
        let mut words = Vec::new();
        for _ in 0..number(&mut packed, b'*') {
            let (word, rest) = packed_word(packed);
            words.push(word);
            packed = rest;
        }
        commands.push(words);
    }
    commands
}

fn packed_word(mut packed: &[u8]) -> (&[u8], &[u8]) {
    let length = number(&mut packed, b'$');
    let (word, rest) = packed.split_at(length);
    (word, rest.strip_prefix(b"\r\n").unwrap())
}

fn number(packed: &mut &[u8], sign: u8) -> usize {
    let end = packed.windows(2).position(|pair| pair == b"\r\n").unwrap();
    let (line, rest) = packed.split_at(end);
    *packed = &rest[2..];
    assert_eq!(line[0], sign);
    std::str::from_utf8(&line[1..]).unwrap().parse().unwrap()
}

/// A bulk string.
pub(crate) fn bulk(bytes: impl AsRef<[u8]>) -> Value {
    Value::BulkString(bytes.as_ref().to_vec())
}

/// A page of a scan.
pub(crate) fn page(cursor: u64, items: &[&str]) -> Value {
    let items = items.iter().map(bulk).collect();
    Value::Array(vec![bulk(cursor.to_string()), Value::Array(items)])
}

/// An error reply.
pub(crate) fn error(line: &str) -> Value {
    parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap()
}

/// This many `OK` replies.
pub(crate) fn okays(number: usize) -> Vec<Value> {
    vec![Value::Okay; number]
}
