//! Renaming legacy keys on a cluster, where the canonical key has another slot.

use super::WriteContext;
use super::reindex_key::ReindexKey;
use crate::error::Error;
use crate::keyspace::redis_key::RedisKey;
use crate::keyspace::ttl::Ttl;
use crate::resp::replies::Replies;

/// How long a copy lives until it is confirmed, in milliseconds.
const UNCONFIRMED_MS: i64 = 10_000;

/// Copies values to their canonical keys with their remaining time, then deletes the legacy keys.
///
/// It may be interrupted at any command, and other clients may write and delete meanwhile. A copy is
/// confirmed only if the legacy key still has the same value after the copy was made: a client that deletes
/// the legacy key later deletes the canonical one after it. A copy that is not confirmed expires by itself.
/// It is never deleted, since the key may have been put meanwhile.
#[derive(Debug)]
pub(super) struct RenameAcrossSlots {
    renames: Vec<Rename>,
    stage: RenameStage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RenameStage {
    Read,
    Copy,
    Compare,
    Confirm,
    Delete,
}

#[derive(Debug)]
struct Rename {
    legacy: RedisKey,
    canonical: RedisKey,
    /// The legacy index entries: names of sets, and members.
    entries: Vec<(Vec<u8>, Vec<u8>)>,
    value: Vec<u8>,
    ttl: Ttl,
    /// Whether the canonical key has another, newer value.
    is_superseded: bool,
}

impl RenameAcrossSlots {
    /// Renames the legacy ones of these keys. Returns `None` if there are none.
    pub(super) fn new(keys: &[ReindexKey]) -> Option<Self> {
        let renames: Vec<_> = keys
            .iter()
            .filter_map(|key| {
                Some(Rename {
                    legacy: key.legacy.clone()?,
                    canonical: key.redis_key.clone(),
                    entries: key.legacy_entries(),
                    value: Vec::new(),
                    ttl: key.ttl,
                    is_superseded: false,
                })
            })
            .collect();
        (!renames.is_empty()).then_some(Self {
            renames,
            stage: RenameStage::Read,
        })
    }

    pub(super) fn write(&self, context: &mut WriteContext<'_>) {
        for rename in &self.renames {
            rename.write(self.stage, context);
        }
    }

    /// Reads the replies of a round. Returns the number of renamed keys, in the last round.
    pub(super) fn read(&mut self, replies: &mut Replies) -> Result<Option<u64>, Error> {
        let mut renames = Vec::new();
        for mut rename in std::mem::take(&mut self.renames) {
            if rename.read(self.stage, replies)? {
                renames.push(rename);
            }
        }
        self.renames = renames;
        self.stage = match self.stage {
            _ if self.renames.is_empty() => return Ok(Some(0)),
            RenameStage::Read => RenameStage::Copy,
            RenameStage::Copy => RenameStage::Compare,
            RenameStage::Compare => RenameStage::Confirm,
            RenameStage::Confirm => RenameStage::Delete,
            RenameStage::Delete => {
                let renamed = self.renames.len();
                return Ok(Some(u64::try_from(renamed).unwrap_or(u64::MAX)));
            }
        };
        Ok(None)
    }
}

impl Rename {
    fn write(&self, stage: RenameStage, context: &mut WriteContext<'_>) {
        let commands = &mut *context.commands;
        let (legacy, canonical) = (self.legacy.as_bytes(), self.canonical.as_bytes());
        match stage {
            RenameStage::Read => {
                commands.push("GET", legacy, |_| ());
                commands.push("PTTL", legacy, |_| ());
            }
            RenameStage::Copy => commands.push("SET", canonical, |command| {
                let ms = self.ttl.min_ms(UNCONFIRMED_MS);
                command.arg(&self.value).arg("PX").arg(ms).arg("NX");
            }),
            RenameStage::Compare => {
                commands.push("GET", legacy, |_| ());
                commands.push("GET", canonical, |_| ());
            }
            RenameStage::Confirm => {
                if !self.is_superseded {
                    self.ttl.write_lengthen(canonical, commands);
                }
                commands.push("PTTL", canonical, |_| ());
            }
            RenameStage::Delete => {
                commands.push("DEL", legacy, |_| ());
                for (set, member) in &self.entries {
                    commands.push("ZREM", set, |command| {
                        command.arg(member);
                    });
                }
            }
        }
    }

    /// Reads the replies to [`write`](Self::write). Returns whether to go on with the key.
    fn read(&mut self, stage: RenameStage, replies: &mut Replies) -> Result<bool, Error> {
        match stage {
            RenameStage::Read => {
                let value = replies.next_bytes()?;
                let ttl = Ttl::from_pttl(replies.next_integer()?);
                let Some((value, ttl)) = value.zip(ttl) else {
                    return Ok(false);
                };
                (self.value, self.ttl) = (value, ttl);
                Ok(true)
            }
            RenameStage::Copy => replies.next_value().map(|_| true),
            RenameStage::Compare => {
                let legacy = replies.next_bytes()?;
                let canonical = replies.next_bytes()?;
                self.is_superseded = canonical.as_ref().is_some_and(|own| *own != self.value);
                Ok(legacy.as_ref() == Some(&self.value) && canonical.is_some())
            }
            RenameStage::Confirm => {
                let is_longer = !self.is_superseded && replies.next_integer()? == 1;
                let left = Ttl::from_pttl(replies.next_integer()?);
                let is_confirmed = |ttl: Ttl| ttl.min_ms(UNCONFIRMED_MS) == UNCONFIRMED_MS;
                let is_short = !is_confirmed(self.ttl);
                Ok(left.is_some_and(|left| {
                    self.is_superseded || is_longer || is_short || is_confirmed(left)
                }))
            }
            RenameStage::Delete => {
                replies.next_integer()?;
                for _ in &self.entries {
                    replies.next_value()?;
                }
                Ok(true)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use redis::Value;

    const MINUTE: i64 = 60_000;

    /// The rename of the legacy key `[a]`.
    fn rename() -> RenameAcrossSlots {
        let stored = format!("{N}:{LEGACY_A}");
        let keys = [ReindexKey::from_redis_key(stored.as_bytes()).unwrap()];
        RenameAcrossSlots::new(&keys).unwrap()
    }

    fn written(renames: &RenameAcrossSlots) -> Vec<String> {
        commands_of(|context| renames.write(context))
    }

    /// Reads the replies of each round. Returns the number of renamed keys after the last.
    fn run(renames: &mut RenameAcrossSlots, rounds: Vec<Vec<Value>>) -> Option<u64> {
        let last = rounds.len() - 1;
        for (number, replies) in rounds.into_iter().enumerate() {
            let renamed = renames.read(&mut Replies::new(replies)).unwrap();
            if number == last {
                return renamed;
            }
            assert_eq!(renamed, None, "round {number}");
        }
        None
    }

    /// Rounds up to the comparison: the legacy key has a minute, and both have these values then.
    fn copied(ttl_ms: i64, legacy: Value, canonical: Value) -> Vec<Vec<Value>> {
        vec![
            vec![bulk(VALUE), Value::Int(ttl_ms)],
            vec![Value::Okay],
            vec![legacy, canonical],
        ]
    }

    #[test]
    fn copies_confirms_and_then_deletes() {
        let mut renames = rename();
        let (legacy, canonical) = (format!("{N}:{LEGACY_A}"), format!("{N}:{A}"));
        let rounds = [
            (
                vec![format!("GET {legacy}"), format!("PTTL {legacy}")],
                vec![bulk(VALUE), Value::Int(MINUTE)],
            ),
            (
                vec![format!("SET {canonical} \\x83a\\x07 PX 10000 NX")],
                vec![Value::Okay],
            ),
            (
                vec![format!("GET {legacy}"), format!("GET {canonical}")],
                vec![bulk(VALUE), bulk(VALUE)],
            ),
            (
                vec![
                    format!("PEXPIRE {canonical} 60000 GT"),
                    format!("PTTL {canonical}"),
                ],
                vec![Value::Int(1), Value::Int(MINUTE)],
            ),
        ];
        for (commands, replies) in rounds {
            assert_eq!(written(&renames), commands);
            assert_eq!(written(&renames), commands, "written again");
            assert_eq!(renames.read(&mut Replies::new(replies)), Ok(None));
        }
        assert_eq!(
            written(&renames),
            [
                format!("DEL {legacy}"),
                format!("ZREM _index:{N} {LEGACY_A}")
            ]
        );
        assert_eq!(
            renames.read(&mut Replies::new(vec![Value::Int(1); 2])),
            Ok(Some(1))
        );
    }

    #[test]
    fn a_key_that_is_deleted_meanwhile_stays_deleted() {
        let gone = vec![vec![Value::Nil, Value::Int(-2)]];
        assert_eq!(run(&mut rename(), gone), Some(0));
        // After it was read: the copy expires.
        let deleted = copied(MINUTE, Value::Nil, bulk(VALUE));
        assert_eq!(run(&mut rename(), deleted), Some(0));
        let changed = copied(MINUTE, bulk(FUNCTION), bulk(VALUE));
        assert_eq!(run(&mut rename(), changed), Some(0));
        let canonical_deleted = copied(MINUTE, bulk(VALUE), Value::Nil);
        assert_eq!(run(&mut rename(), canonical_deleted), Some(0));
    }

    #[test]
    fn only_a_copy_that_lives_long_enough_replaces_the_key() {
        for (ttl_ms, is_longer, left_ms, is_confirmed) in [
            (MINUTE, 1, MINUTE, true),
            // It has expired, or was made by a run that was interrupted and may still expire.
            (MINUTE, 0, -2, false),
            (MINUTE, 0, UNCONFIRMED_MS - 1, false),
            // It has no TTL, or a longer one.
            (MINUTE, 0, -1, true),
            (MINUTE, 0, MINUTE + 1, true),
            // The key itself expires sooner.
            (1_000, 0, 900, true),
        ] {
            let mut renames = rename();
            run(&mut renames, copied(ttl_ms, bulk(VALUE), bulk(VALUE)));
            let replies = vec![Value::Int(is_longer), Value::Int(left_ms)];
            let renamed = renames.read(&mut Replies::new(replies)).unwrap();
            let expected = if is_confirmed { None } else { Some(0) };
            assert_eq!(renamed, expected, "{ttl_ms} {is_longer} {left_ms}");
        }
    }

    #[test]
    fn a_newer_value_stays() {
        let mut renames = rename();
        run(&mut renames, copied(MINUTE, bulk(VALUE), bulk(FUNCTION)));
        assert_eq!(written(&renames), [format!("PTTL {N}:{A}")]);
        let replies = vec![Value::Int(5)];
        assert_eq!(renames.read(&mut Replies::new(replies)), Ok(None));
        assert_eq!(written(&renames)[0], format!("DEL {N}:{LEGACY_A}"));
    }

    #[test]
    fn keys_in_canonical_form_are_not_renamed() {
        let keys = [ReindexKey::from_redis_key(format!("{N}:{A}").as_bytes()).unwrap()];
        assert!(RenameAcrossSlots::new(&keys).is_none());
    }
}
