//! A key on a page that is reindexed.

use super::WriteContext;
use crate::error::Error;
use crate::keyspace::key::Key;
use crate::keyspace::layout::Layout;
use crate::keyspace::redis_key::RedisKey;
use crate::keyspace::ttl::{PEXPIRE_COMMANDS, Ttl};
use crate::resp::replies::Replies;

/// A key on a page that is reindexed.
#[derive(Debug)]
pub(super) struct ReindexKey {
    /// The canonical Redis key.
    redis_key: RedisKey,
    /// The Redis key of a legacy key.
    legacy: Option<RedisKey>,
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
        let redis_key = Key::from_redis_key(stored)?.redis_key();
        let is_legacy = redis_key.as_bytes() != stored;
        Some(Self {
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

    /// The canonical index entries. The plain layout has none.
    pub(super) fn index_entries(&self, layout: Layout) -> impl Iterator<Item = (Vec<u8>, &[u8])> {
        let is_indexed = layout == Layout::Indexed;
        self.redis_key.index_entries().filter(move |_| is_indexed)
    }

    /// At most how many bytes its index entries have in all, canonical and legacy.
    pub(super) fn index_len(&self, layout: Layout) -> usize {
        let canonical = match layout {
            Layout::Indexed => self.redis_key.index_len(),
            Layout::Plain => 0,
        };
        canonical + self.legacy.as_ref().map_or(0, RedisKey::index_len)
    }

    /// Adds the index entries, then renames the value, then removes the legacy index entries: `all` finds
    /// the value at any time.
    pub(super) fn write(&self, layout: Layout, context: &mut WriteContext<'_>) {
        for (set, member) in self.index_entries(layout) {
            context.commands.push("ZADD", &set, |command| {
                command.arg("GT");
                self.ttl.write_score(context.now_ms, command);
                command.arg(member);
            });
            self.ttl.write_pexpire(&set, context.commands);
        }
        if let Some(legacy) = &self.legacy {
            context
                .commands
                .push("RENAMENX", legacy.as_bytes(), |command| {
                    command.arg(self.redis_key.as_bytes());
                });
            for (set, member) in legacy.index_entries() {
                context.commands.push("ZREM", &set, |command| {
                    command.arg(member);
                });
            }
        }
    }

    /// Reads the replies to [`write`](Self::write).
    pub(super) fn read(&mut self, layout: Layout, replies: &mut Replies) -> Result<Written, Error> {
        let mut added = 0;
        for _ in self.index_entries(layout) {
            added += replies.next_integer()?;
            for _ in 0..PEXPIRE_COMMANDS {
                replies.next_value()?;
            }
        }
        let mut written = Written {
            indexed: added > 0,
            renamed: false,
        };
        let Some(legacy) = &self.legacy else {
            return Ok(written);
        };
        match replies.next_integer() {
            Ok(renamed) => {
                written.renamed = true;
                self.both_exist = renamed == 0;
            }
            // "ERR no such key": it has expired or was deleted meanwhile.
            Err(error) if error.is_generic() => {}
            Err(error) => return Err(error),
        }
        for _ in legacy.index_entries() {
            replies.next_value()?;
        }
        Ok(written)
    }
}
