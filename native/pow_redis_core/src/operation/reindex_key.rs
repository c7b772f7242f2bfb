//! A key on a page that is reindexed.

use super::WriteContext;
use crate::error::Error;
use crate::keyspace::index::Index;
use crate::keyspace::key::Key;
use crate::keyspace::layout::Layout;
use crate::keyspace::redis_key::{RedisKey, index_set};
use crate::keyspace::ttl::{PEXPIRE_COMMANDS, Ttl};
use crate::resp::replies::Replies;

/// A key on a page that is reindexed.
#[derive(Debug)]
pub(super) struct ReindexKey {
    key: Key,
    /// The canonical Redis key.
    pub(super) redis_key: RedisKey,
    /// The Redis key of a legacy key.
    pub(super) legacy: Option<RedisKey>,
    pub(super) ttl: Ttl,
    /// Whether the canonical key exists as well, so that the legacy one could not be renamed.
    both_exist: bool,
}

/// What was missing before a key was written.
pub(super) struct Written {
    pub(super) indexed: bool,
    pub(super) renamed: bool,
}

impl ReindexKey {
    /// Returns `None` for Redis keys that are not of the store.
    pub(super) fn from_redis_key(stored: &[u8]) -> Option<Self> {
        let key = Key::from_redis_key(stored)?;
        let redis_key = key.redis_key();
        let is_legacy = redis_key.as_bytes() != stored;
        Some(Self {
            key,
            redis_key,
            legacy: is_legacy.then(|| RedisKey::from_bytes(stored)),
            ttl: Ttl::Persistent,
            both_exist: false,
        })
    }

    /// The Redis key under which the key was found.
    pub(super) fn stored_redis_key(&self) -> &RedisKey {
        self.legacy.as_ref().unwrap_or(&self.redis_key)
    }

    pub(super) const fn is_legacy(&self) -> bool {
        self.legacy.is_some()
    }

    /// The legacy Redis key, if the canonical one exists as well.
    pub(super) fn redundant(&self) -> Option<&RedisKey> {
        self.legacy.as_ref().filter(|_| self.both_exist)
    }

    /// The canonical index entries: names of sets, and members.
    pub(super) fn entries(&self, index: &Index) -> Vec<(Vec<u8>, Vec<u8>)> {
        let entries = index.entries(&self.key, &self.redis_key);
        entries
            .map(|entry| (entry.set, entry.member.to_vec()))
            .collect()
    }

    /// The entries that any client may have made for the legacy key.
    pub(super) fn legacy_entries(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let splits = self.legacy.iter().flat_map(RedisKey::splits);
        splits
            .map(|(prefix, member)| (index_set(prefix), member.to_vec()))
            .collect()
    }

    /// How many bytes its index entries have in all, canonical and legacy.
    pub(super) fn entries_len(&self, index: &Index) -> usize {
        let entries = self.entries(index).into_iter().chain(self.legacy_entries());
        entries.map(|(set, member)| set.len() + member.len()).sum()
    }

    /// Adds the index entries, then renames the value, then removes the legacy index entries: `all` finds
    /// the value at any time. On a cluster, only adds the index entries.
    pub(super) fn write(&self, layout: &Layout, context: &mut WriteContext<'_>) {
        for (set, member) in self.entries(&layout.index) {
            context.commands.push("ZADD", &set, |command| {
                command.arg("GT");
                self.ttl.write_score(context.now_ms, command);
                command.arg(member);
            });
            self.ttl.write_pexpire(&set, context.commands);
        }
        if let Some(legacy) = self.renamed_at_once(layout) {
            context
                .commands
                .push("RENAMENX", legacy.as_bytes(), |command| {
                    command.arg(self.redis_key.as_bytes());
                });
            for (set, member) in self.legacy_entries() {
                context.commands.push("ZREM", &set, |command| {
                    command.arg(member);
                });
            }
        }
    }

    fn renamed_at_once(&self, layout: &Layout) -> Option<&RedisKey> {
        self.legacy.as_ref().filter(|_| !layout.is_cluster)
    }

    /// Reads the replies to [`write`](Self::write).
    pub(super) fn read(
        &mut self,
        layout: &Layout,
        replies: &mut Replies,
    ) -> Result<Written, Error> {
        let mut added = 0;
        for _ in self.entries(&layout.index) {
            added += replies.next_integer()?;
            for _ in 0..PEXPIRE_COMMANDS {
                replies.next_value()?;
            }
        }
        let mut written = Written {
            indexed: added > 0,
            renamed: false,
        };
        if self.renamed_at_once(layout).is_none() {
            return Ok(written);
        }
        match replies.next_integer() {
            Ok(renamed) => {
                written.renamed = true;
                self.both_exist = renamed == 0;
            }
            // "ERR no such key": it has expired or was deleted meanwhile.
            Err(error) if error.is_generic() => {}
            Err(error) => return Err(error),
        }
        for _ in self.legacy_entries() {
            replies.next_value()?;
        }
        Ok(written)
    }
}
