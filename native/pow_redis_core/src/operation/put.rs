//! Writing records.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use super::{Outcome, Step, WriteContext};
use crate::error::{Error, ErrorKind};
use crate::etf;
use crate::keyspace::index::{IndexUpdates, Scores};
use crate::keyspace::key::Key;
use crate::keyspace::layout::Layout;
use crate::keyspace::redis_key::RedisKey;
use crate::keyspace::ttl::Ttl;
use crate::resp::replies::Replies;
use crate::seal::Keyring;

/// How many records a round writes: few enough to hardly delay other operations in the same pipeline.
const CHUNK_SIZE: usize = 512;
/// After how many bytes a round has no more records.
const CHUNK_BYTES: usize = 1 << 20;

/// Writes records: first their index entries, then their values, so that a crash in between leaves at worst
/// entries without a value, and never a value that `all` cannot find.
#[derive(Debug)]
pub struct Put {
    chunks: VecDeque<Chunk>,
    ttl: Ttl,
    keyring: Arc<Keyring>,
    byte_len: usize,
}

/// The records that a round writes.
#[derive(Debug, Default)]
struct Chunk {
    records: Vec<(RedisKey, Vec<u8>)>,
    index_updates: IndexUpdates,
    /// The bytes of the records and of their index entries.
    byte_len: usize,
}

impl Put {
    /// Writes records, whose values are external terms. Fails if a value is invalid.
    pub fn new(records: Vec<(Key, Vec<u8>)>, ttl: Ttl, layout: &Layout) -> Result<Self, Error> {
        for (_, value) in &records {
            etf::check(value).map_err(ErrorKind::Value)?;
        }
        let mut chunks = VecDeque::new();
        let mut chunk = Chunk::default();
        for (key, value) in records {
            chunk.push(&key, value, layout);
            if chunk.is_full() {
                chunks.push_back(std::mem::take(&mut chunk));
            }
        }
        if !chunk.records.is_empty() {
            chunks.push_back(chunk);
        }
        Ok(Self {
            byte_len: chunks.iter().map(|chunk| chunk.byte_len).sum(),
            chunks,
            ttl,
            keyring: Arc::clone(&layout.keyring),
        })
    }

    /// Seals the values now, at this time on the server's clock, instead of when they are sent: callers then
    /// do that side by side, and not the one worker that sends all writes.
    #[must_use]
    pub fn sealed_at(mut self, now_ms: i64) -> Self {
        let expires_ms = self.ttl.expires_ms(now_ms);
        for (redis_key, value) in self.chunks.iter_mut().flat_map(|chunk| &mut chunk.records) {
            let sealed = self.keyring.seal(redis_key.as_bytes(), expires_ms, value);
            if let Cow::Owned(sealed) = sealed {
                *value = sealed;
            }
        }
        // Nothing is left to seal.
        self.keyring = Arc::default();
        self
    }

    /// The bytes of all records. Those of written ones are counted until it is done.
    pub(super) const fn byte_len(&self) -> usize {
        self.byte_len
    }

    /// The keys that are still to be written.
    pub(super) fn redis_keys(&self) -> impl Iterator<Item = &[u8]> {
        let records = self.chunks.iter().flat_map(|chunk| &chunk.records);
        records.map(|(redis_key, _)| redis_key.as_bytes())
    }

    pub(super) fn is_long(&self) -> bool {
        self.chunks.len() > 1
    }

    pub(super) fn write(&self, context: &mut WriteContext<'_>) {
        if let Some(chunk) = self.chunks.front() {
            chunk.write(self.ttl, &self.keyring, context);
        }
    }

    pub(super) fn read(&mut self, replies: Replies) -> Result<Step, Error> {
        replies.finish()?;
        self.chunks.pop_front();
        Ok(if self.chunks.is_empty() {
            Step::Done(Outcome::Done)
        } else {
            Step::Again
        })
    }
}

impl Chunk {
    fn push(&mut self, key: &Key, value: Vec<u8>, layout: &Layout) {
        let redis_key = key.redis_key();
        self.byte_len += redis_key.as_bytes().len() + value.len();
        for entry in layout.index.entries(key, &redis_key) {
            self.byte_len += entry.len();
            self.index_updates.push(entry);
        }
        self.records.push((redis_key, value));
    }

    const fn is_full(&self) -> bool {
        self.records.len() >= CHUNK_SIZE || self.byte_len >= CHUNK_BYTES
    }

    /// Values that have not been sealed before are sealed here.
    fn write(&self, ttl: Ttl, keyring: &Keyring, context: &mut WriteContext<'_>) {
        self.index_updates
            .write(ttl, context.now_ms, Scores::Replace, context.commands);
        let expires_ms = ttl.expires_ms(context.now_ms);
        for (redis_key, value) in &self.records {
            let stored = keyring.seal(redis_key.as_bytes(), expires_ms, value);
            context
                .commands
                .push("SET", redis_key.as_bytes(), |command| {
                    command.arg(&*stored);
                    if let Ttl::Millis(ms) = ttl {
                        command.arg("PX").arg(ms);
                    }
                });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Operation;
    use super::super::testing::*;
    use super::*;
    use crate::keyspace::index::Index;
    use crate::seal::{self, Form};

    // The parts of a session's keys.
    const USER: &[u8] = &[119, 4, b'U', b's', b'e', b'r'];
    const USER_ATOM: &[u8] = &[119, 4, b'u', b's', b'e', b'r'];
    const SESSION: &[u8] = &[119, 7, b's', b'e', b's', b's', b'i', b'o', b'n'];
    const SID: &[u8] = &[109, 0, 0, 0, 3, b's', b'i', b'd'];

    fn put(keys: &[Key], ttl: Ttl, layout: &Layout) -> Driver {
        let records = keys.iter().map(|key| (key.clone(), VALUE.to_vec()));
        let put = Put::new(records.collect(), ttl, layout).unwrap();
        Driver::new(Operation::Put(put))
    }

    const MINUTE: Ttl = Ttl::Millis(60_000);

    #[test]
    fn writes_index_entries_before_the_value() {
        let mut driver = put(&[key(&[ATOM_A, INT_1])], MINUTE, &every_prefix());
        let commands = [
            format!("ZADD _index:{N} 1060000 {A}:{ONE}"),
            format!("PEXPIRE _index:{N} 120000 NX"),
            format!("PEXPIRE _index:{N} 120000 GT"),
            format!("ZREMRANGEBYSCORE _index:{N} -inf -85400000"),
            format!("ZADD _index:{N}:{A} 1060000 {ONE}"),
            format!("PEXPIRE _index:{N}:{A} 120000 NX"),
            format!("PEXPIRE _index:{N}:{A} 120000 GT"),
            format!("ZREMRANGEBYSCORE _index:{N}:{A} -inf -85400000"),
            format!("SET {N}:{A}:{ONE} \\x83a\\x07 PX 60000"),
        ];
        assert_eq!(driver.write(), commands);
        assert_eq!(driver.write(), commands, "written again");
        assert!(matches!(driver.done(okays(9)), Outcome::Done));
    }

    #[test]
    fn seals_values_anew_each_time_they_are_written() {
        for (ttl, expires_ms, arguments) in [
            (MINUTE, NOW_MS + 60_000, 5),
            (Ttl::Persistent, seal::NEVER, 3),
        ] {
            let mut driver = put(&[key(&[ATOM_A])], ttl, &sealed());
            let stored = [(); 2].map(|()| {
                let command = driver.write_words().remove(0);
                assert_eq!(command.len(), arguments);
                command[2].clone()
            });
            assert_ne!(stored[0], stored[1]);
            let redis_key = key(&[ATOM_A]).redis_key();
            for stored in stored {
                let form = sealed().keyring.form_of(&stored);
                let is_current = true;
                assert_eq!(
                    form,
                    Form::Sealed {
                        is_current,
                        expires_ms
                    }
                );
                let opened = sealed()
                    .keyring
                    .open(|| redis_key.as_bytes(), NOW_MS, stored);
                assert_eq!(opened, Ok(VALUE.to_vec()));
            }
        }
    }

    #[test]
    fn values_that_were_sealed_before_are_written_as_they_are() {
        let records = vec![(key(&[ATOM_A]), VALUE.to_vec())];
        let put = Put::new(records, MINUTE, &sealed())
            .unwrap()
            .sealed_at(NOW_MS);
        let mut driver = Driver::new(Operation::Put(put));
        driver.now_ms += 5;
        let command = driver.write_words().remove(0);
        assert_eq!(driver.write_words().remove(0), command, "written again");
        let (is_current, expires_ms) = (true, NOW_MS + 60_000);
        let form = sealed().keyring.form_of(&command[2]);
        assert_eq!(
            form,
            Form::Sealed {
                is_current,
                expires_ms
            }
        );
    }

    #[test]
    fn writes_persistent_records() {
        let mut driver = put(&[key(&[INT_1])], Ttl::Persistent, &every_prefix());
        assert_eq!(
            driver.write(),
            [
                format!("ZADD _index:{N} +inf {ONE}"),
                format!("PEXPIRE _index:{N} 10000000000000000 NX"),
                format!("PEXPIRE _index:{N} 10000000000000000 GT"),
                format!("ZREMRANGEBYSCORE _index:{N} -inf -9999999999000000"),
                format!("SET {N}:{ONE} \\x83a\\x07"),
            ]
        );
    }

    #[test]
    fn writes_only_values_in_the_plain_layout() {
        let keys = [key(&[INT_1]), key(&[ATOM_A, INT_2])];
        assert_eq!(
            put(&keys, MINUTE, &no_index()).write(),
            [
                format!("SET {N}:{ONE} \\x83a\\x07 PX 60000"),
                format!("SET {N}:{A}:{TWO} \\x83a\\x07 PX 60000"),
            ]
        );
    }

    #[test]
    fn a_sign_in_takes_7_commands() {
        let keys = [
            key(&[SID]),
            key(&[USER, USER_ATOM, INT_1]),
            key(&[USER, USER_ATOM, INT_1, SESSION, SID]),
        ];
        let sessions = index_pattern(&[ANY, USER_ATOM, ANY, SESSION, ANY]);
        let layout = Layout::standalone(Index::Patterns(vec![sessions]));
        let mut driver = put(&keys, MINUTE, &layout);
        let lines = driver.write();
        let names: Vec<_> = lines
            .iter()
            .map(|line| line.split(' ').next().unwrap())
            .collect();
        let index = ["ZADD", "PEXPIRE", "PEXPIRE", "ZREMRANGEBYSCORE"];
        assert_eq!(names, [&index[..], &["SET"; 3]].concat());
        assert!(matches!(driver.done(okays(7)), Outcome::Done));
    }

    #[test]
    fn many_records_take_several_rounds() {
        let numbered_key = |n: u32| key(&[&[&[98][..], &(n + 256).to_be_bytes()].concat()]);
        let keys: Vec<_> = (0..1_025).map(numbered_key).collect();
        let mut driver = put(&keys, MINUTE, &every_prefix());
        for _ in 0..2 {
            let lines = driver.write();
            assert_eq!(lines.len(), 4 + 512);
            driver.again(okays(lines.len()));
        }
        let last = format!("SET {} \\x83a\\x07 PX 60000", text(&keys[1_024]));
        assert_eq!(driver.write().last(), Some(&last));
        assert!(matches!(driver.done(okays(5)), Outcome::Done));
    }

    fn text(key: &Key) -> String {
        String::from_utf8(key.redis_key().as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn no_records_take_no_commands() {
        let mut driver = put(&[], MINUTE, &every_prefix());
        assert!(driver.write().is_empty());
        assert!(matches!(driver.done(vec![]), Outcome::Done));
    }

    #[test]
    fn fails_on_any_error_reply() {
        for position in 0..5 {
            let mut replies = okays(5);
            replies[position] = error("OOM command not allowed");
            let mut driver = put(&[key(&[INT_1])], MINUTE, &every_prefix());
            assert_eq!(driver.fails_with(replies), "redis returned OOM");
        }
    }

    #[test]
    fn rejects_invalid_values() {
        let records = vec![(key(&[INT_1]), FUNCTION.to_vec())];
        let error = Put::new(records, MINUTE, &every_prefix()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Value(_)));
    }

    fn put_values(lengths: &[u32], layout: &Layout) -> Put {
        let value = |length: u32| {
            let bytes = vec![0; length.try_into().unwrap()];
            [&[131, 109][..], &length.to_be_bytes(), &bytes].concat()
        };
        let records = lengths.iter().map(|length| (key(&[INT_1]), value(*length)));
        Put::new(records.collect(), MINUTE, layout).unwrap()
    }

    #[test]
    fn a_round_writes_about_a_megabyte_at_most() {
        for (lengths, commands) in [
            (&[400_000; 3][..], &[3][..]),
            (&[400_000; 4], &[3, 1]),
            (&[2_000_000, 1, 1], &[1, 2]),
            (&[1, 2_000_000, 1], &[2, 1]),
        ] {
            let put = put_values(lengths, &no_index());
            let mut driver = Driver::new(Operation::Put(put));
            for (position, number) in commands.iter().enumerate() {
                assert_eq!(driver.write().len(), *number, "{lengths:?}");
                match driver.read(okays(*number)).unwrap() {
                    Step::Again => assert!(position + 1 < commands.len()),
                    Step::Done(_) => assert_eq!(position + 1, commands.len()),
                }
            }
        }
    }

    #[test]
    fn counts_keys_values_and_index_entries() {
        let length = |layout: &Layout| put_values(&[1, 10], layout).byte_len();
        // Twice a key of 10 + 1 + 4 bytes, and 6 bytes more than each binary.
        let plain = 2 * 15 + (6 + 1) + (6 + 10);
        assert_eq!(length(&no_index()), plain);
        assert_eq!(length(&every_prefix()), plain + 2 * (7 + 10 + 4));
    }

    #[test]
    fn rejects_a_value_that_is_too_large() {
        let length = u32::try_from(etf::MAX_VALUE_LEN).unwrap() - 5;
        let value = [
            &[131, 109][..],
            &length.to_be_bytes(),
            &vec![0; length.try_into().unwrap()],
        ];
        let records = vec![(key(&[INT_1]), value.concat())];
        let error = Put::new(records, MINUTE, &no_index()).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Value(error) if error.kind() == etf::ErrorKind::Length)
        );
    }
}
