//! Bringing what lies in Redis into our form.

use super::{Outcome, Step, WriteContext};
use crate::error::{Error, ErrorKind};
use crate::keyspace::key::Key;
use crate::keyspace::layout::Layout;
use crate::keyspace::redis_key::RedisKey;
use crate::keyspace::ttl::{PEXPIRE_COMMANDS, Ttl};
use crate::resp::replies::Replies;

/// About how many keys one round looks at.
const PAGE: u32 = 512;

/// Looks at one page of all keys: puts into the index what is missing there, and renames keys whose
/// atoms are in the form of Erlang/OTP 25 and earlier.
#[derive(Debug)]
pub struct Reindex {
    start: u64,
    layout: Layout,
    mode: Mode,
    next: u64,
    stage: Stage,
    entries: Vec<Entry>,
    indexed: u64,
    renamed: u64,
}

/// Whether a reindex writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It writes what is missing.
    Write,
    /// It counts what is missing.
    DryRun,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Scan,
    Measure,
    /// Of a dry run, which ends with it.
    Count,
    Write,
    /// A key was there in both forms: the old one goes.
    DropOld,
}

#[derive(Debug)]
struct Entry {
    redis_key: RedisKey,
    /// Where the key was found, if not there.
    old: Option<RedisKey>,
    ttl: Ttl,
    drop_old: bool,
}

impl Reindex {
    /// Looks at the page at `cursor`, 0 for the first.
    pub const fn new(cursor: u64, layout: Layout, mode: Mode) -> Self {
        Self {
            start: cursor,
            layout,
            mode,
            next: 0,
            stage: Stage::Scan,
            entries: Vec::new(),
            indexed: 0,
            renamed: 0,
        }
    }

    pub(super) fn reset(&mut self) {
        *self = Self::new(self.start, self.layout, self.mode);
    }

    pub(super) fn write(&self, context: &mut WriteContext<'_>) {
        match self.stage {
            Stage::Scan => context.commands.push_keyless("SCAN", |command| {
                command.arg(self.start).arg("COUNT").arg(PAGE);
                command.arg("TYPE").arg("string");
            }),
            Stage::Measure => {
                for entry in &self.entries {
                    let found = entry.old.as_ref().unwrap_or(&entry.redis_key);
                    context.commands.push("PTTL", found.as_bytes(), |_| ());
                }
            }
            Stage::Count => {
                for entry in &self.entries {
                    for (set, member) in entry.index_entries(self.layout) {
                        context.commands.push("ZSCORE", &set, |command| {
                            command.arg(member);
                        });
                    }
                }
            }
            Stage::Write => {
                for entry in &self.entries {
                    self.write_entry(entry, context);
                }
            }
            Stage::DropOld => {
                for old in self.entries.iter().filter_map(Entry::dropped) {
                    context.commands.push("DEL", old.as_bytes(), |_| ());
                }
            }
        }
    }

    /// Index, value, and only then the old place in the index.
    fn write_entry(&self, entry: &Entry, context: &mut WriteContext<'_>) {
        for (set, member) in entry.index_entries(self.layout) {
            context.commands.push("ZADD", &set, |command| {
                command.arg("GT");
                entry.ttl.write_score(context.now_ms, command);
                command.arg(member);
            });
            entry.ttl.write_pexpire(&set, context.commands);
        }
        if let Some(old) = &entry.old {
            context
                .commands
                .push("RENAMENX", old.as_bytes(), |command| {
                    command.arg(entry.redis_key.as_bytes());
                });
            for (set, member) in old.index_entries() {
                context.commands.push("ZREM", &set, |command| {
                    command.arg(member);
                });
            }
        }
    }

    pub(super) fn read(&mut self, mut replies: Replies) -> Result<Step, Error> {
        match self.stage {
            Stage::Scan => {
                let (next, keys) = replies.next_page()?;
                self.next = next;
                self.entries = keys.iter().filter_map(|key| Entry::found(key)).collect();
                self.stage = Stage::Measure;
            }
            Stage::Measure => {
                let mut entries = std::mem::take(&mut self.entries);
                for entry in &mut entries {
                    entry.ttl = match replies.next_integer()? {
                        -1 => Ttl::Persistent,
                        ms => Ttl::Millis(ms),
                    };
                }
                entries.retain(|entry| entry.ttl != GONE);
                self.entries = entries;
                self.stage = match self.mode {
                    Mode::Write => Stage::Write,
                    Mode::DryRun => Stage::Count,
                };
            }
            Stage::Count => {
                for entry in &self.entries {
                    let mut missing = false;
                    for _ in entry.index_entries(self.layout) {
                        missing |= replies.next_bytes()?.is_none();
                    }
                    self.indexed += u64::from(missing);
                    self.renamed += u64::from(entry.old.is_some());
                }
                return Ok(Step::Done(self.outcome()));
            }
            Stage::Write => {
                let mut entries = std::mem::take(&mut self.entries);
                for entry in &mut entries {
                    self.read_entry(entry, &mut replies)?;
                }
                self.entries = entries;
                self.stage = Stage::DropOld;
            }
            Stage::DropOld => {
                replies.finish()?;
                return Ok(Step::Done(self.outcome()));
            }
        }
        let nothing_left = match self.stage {
            Stage::DropOld => self.entries.iter().all(|entry| entry.dropped().is_none()),
            _ => self.entries.is_empty(),
        };
        Ok(if nothing_left {
            Step::Done(self.outcome())
        } else {
            Step::Again
        })
    }

    fn read_entry(&mut self, entry: &mut Entry, replies: &mut Replies) -> Result<(), Error> {
        let mut added = 0;
        for _ in entry.index_entries(self.layout) {
            added += replies.next_integer()?;
            for _ in 0..PEXPIRE_COMMANDS {
                replies.next_value()?;
            }
        }
        self.indexed += u64::from(added > 0);
        let Some(old) = &entry.old else {
            return Ok(());
        };
        match replies.next_integer() {
            Ok(renamed) => {
                self.renamed += 1;
                entry.drop_old = renamed == 0;
            }
            // It expired or was deleted meanwhile.
            Err(error) if is_plain(&error) => {}
            Err(error) => return Err(error),
        }
        for _ in old.index_entries() {
            replies.next_value()?;
        }
        Ok(())
    }

    fn outcome(&self) -> Outcome {
        Outcome::Page {
            cursor: self.next,
            keys: u64::try_from(self.entries.len()).unwrap_or(u64::MAX),
            indexed: self.indexed,
            renamed: self.renamed,
        }
    }
}

/// What `PTTL` answers for a key that is not there.
const GONE: Ttl = Ttl::Millis(-2);

impl Entry {
    fn found(found: &[u8]) -> Option<Self> {
        let key = Key::from_redis_key(found)?;
        let redis_key = key.redis_key();
        let old = (redis_key.as_bytes() != found).then(|| RedisKey::found(found));
        Some(Self {
            redis_key,
            old,
            ttl: GONE,
            drop_old: false,
        })
    }

    fn index_entries(&self, layout: Layout) -> impl Iterator<Item = (Vec<u8>, &[u8])> {
        let indexed = layout == Layout::Indexed;
        self.redis_key.index_entries().filter(move |_| indexed)
    }

    fn dropped(&self) -> Option<&RedisKey> {
        self.old.as_ref().filter(|_| self.drop_old)
    }
}

fn is_plain(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Server(code) if code.as_str() == "ERR")
}

#[cfg(test)]
mod tests {
    use super::super::Operation;
    use super::super::testing::*;
    use super::*;
    use redis::Value;

    fn reindex(layout: Layout) -> Script {
        Script::new(Operation::Reindex(Reindex::new(0, layout, Mode::Write)))
    }

    fn dry_run(layout: Layout) -> Script {
        Script::new(Operation::Reindex(Reindex::new(0, layout, Mode::DryRun)))
    }

    /// Cursor, keys, indexed and renamed.
    fn numbers(outcome: Outcome) -> [u64; 4] {
        match outcome {
            Outcome::Page {
                cursor,
                keys,
                indexed,
                renamed,
            } => [cursor, keys, indexed, renamed],
            _ => panic!("{outcome:?}"),
        }
    }

    fn integers<const N: usize>(numbers: [i64; N]) -> Vec<Value> {
        numbers.map(Value::Int).to_vec()
    }

    /// The commands that index `[a, 1]`.
    fn index_of_a_1() -> [String; 6] {
        [
            format!("ZADD _index:{N} GT 1060000 {A}:{ONE}"),
            format!("PEXPIRE _index:{N} 120000 NX"),
            format!("PEXPIRE _index:{N} 120000 GT"),
            format!("ZADD _index:{N}:{A} GT 1060000 {ONE}"),
            format!("PEXPIRE _index:{N}:{A} 120000 NX"),
            format!("PEXPIRE _index:{N}:{A} 120000 GT"),
        ]
    }

    fn rename_of_a_1() -> [String; 3] {
        [
            format!("RENAMENX {N}:{OLD_A}:{ONE} {N}:{A}:{ONE}"),
            format!("ZREM _index:{N} {OLD_A}:{ONE}"),
            format!("ZREM _index:{N}:{OLD_A} {ONE}"),
        ]
    }

    #[test]
    fn indexes_what_has_no_index() {
        let mut script = reindex(Layout::Indexed);
        assert_eq!(script.write(), ["SCAN 0 COUNT 512 TYPE string"]);
        let (first, second) = (format!("{N}:{ONE}"), format!("{N}:{TWO}"));
        script.again(vec![page(17, &[&first, "session:7", &second, ""])]);

        assert_eq!(
            script.write(),
            [format!("PTTL {first}"), format!("PTTL {second}")]
        );
        script.again(integers([60_000, -1]));

        let commands = [
            format!("ZADD _index:{N} GT 1060000 {ONE}"),
            format!("PEXPIRE _index:{N} 120000 NX"),
            format!("PEXPIRE _index:{N} 120000 GT"),
            format!("ZADD _index:{N} GT +inf {TWO}"),
            format!("PEXPIRE _index:{N} 10000000000000000 NX"),
            format!("PEXPIRE _index:{N} 10000000000000000 GT"),
        ];
        assert_eq!(script.write(), commands);
        assert_eq!(script.write(), commands, "written again");
        // The second one was in the index already.
        let outcome = script.done(integers([1, 1, 0, 0, 0, 0]));
        assert_eq!(numbers(outcome), [17, 2, 1, 0]);
    }

    #[test]
    fn renames_keys_in_the_old_form() {
        let mut script = reindex(Layout::Indexed);
        let old = format!("{N}:{OLD_A}:{ONE}");
        script.again(vec![page(0, &[&old])]);
        assert_eq!(script.write(), [format!("PTTL {old}")]);
        script.again(integers([60_000]));
        let commands = [&index_of_a_1()[..], &rename_of_a_1()].concat();
        assert_eq!(script.write(), commands);
        let outcome = script.done(integers([1, 1, 0, 1, 1, 0, 1, 1, 1]));
        assert_eq!(numbers(outcome), [0, 1, 1, 1]);
    }

    #[test]
    fn the_old_form_goes_where_both_are_there() {
        let mut script = reindex(Layout::Indexed);
        let old = format!("{N}:{OLD_A}:{ONE}");
        script.again(vec![page(0, &[&old])]);
        script.again(integers([60_000]));
        script.again(integers([0, 0, 0, 0, 0, 0, 0, 1, 1]));
        assert_eq!(script.write(), [format!("DEL {old}")]);
        assert_eq!(numbers(script.done(integers([1]))), [0, 1, 0, 1]);
    }

    #[test]
    fn the_plain_layout_is_renamed_alone() {
        let mut script = reindex(Layout::Plain);
        let old = format!("{N}:{OLD_A}:{ONE}");
        script.again(vec![page(0, &[&format!("{N}:{ONE}"), &old])]);
        script.again(integers([60_000, 60_000]));
        assert_eq!(script.write(), rename_of_a_1());
        assert_eq!(numbers(script.done(integers([1, 0, 0]))), [0, 2, 0, 1]);
    }

    #[test]
    fn a_dry_run_counts_what_is_missing_and_writes_nothing() {
        let mut script = dry_run(Layout::Indexed);
        let old = format!("{N}:{OLD_A}:{ONE}");
        let (listed, gone) = (format!("{N}:{ONE}"), format!("{N}:{TWO}"));
        script.again(vec![page(17, &[&old, &listed, &gone])]);
        assert_eq!(
            script.write(),
            [&old, &listed, &gone].map(|redis_key| format!("PTTL {redis_key}"))
        );
        script.again(integers([60_000, -1, -2]));
        let commands = [
            format!("ZSCORE _index:{N} {A}:{ONE}"),
            format!("ZSCORE _index:{N}:{A} {ONE}"),
            format!("ZSCORE _index:{N} {ONE}"),
        ];
        assert_eq!(script.write(), commands);
        assert_eq!(script.write(), commands, "written again");
        // Missing in one of two sets is missing.
        let outcome = script.done(vec![bulk("5"), Value::Nil, bulk("inf")]);
        assert_eq!(numbers(outcome), [17, 2, 1, 1]);
    }

    #[test]
    fn a_dry_run_of_the_plain_layout_counts_renames_alone() {
        let mut script = dry_run(Layout::Plain);
        let old = format!("{N}:{OLD_A}:{ONE}");
        script.again(vec![page(0, &[&format!("{N}:{ONE}"), &old])]);
        script.again(integers([60_000, 60_000]));
        assert!(script.write().is_empty());
        assert_eq!(numbers(script.done(Vec::new())), [0, 2, 0, 1]);
    }

    #[test]
    fn a_dry_run_starts_again_as_one() {
        let mut script = dry_run(Layout::Indexed);
        script.again(vec![page(5, &[&format!("{N}:{ONE}")])]);
        script.operation.reset();
        script.again(vec![page(5, &[&format!("{N}:{ONE}")])]);
        script.again(integers([60_000]));
        assert_eq!(script.write(), [format!("ZSCORE _index:{N} {ONE}")]);
        let refused = script.refused(vec![error("NOPERM no permission")]);
        assert_eq!(refused, "redis answered NOPERM");
    }

    #[test]
    fn keys_that_vanish_are_left_alone() {
        let mut script = reindex(Layout::Indexed);
        let old = format!("{N}:{OLD_A}:{ONE}");
        script.again(vec![page(5, &[&old])]);
        assert_eq!(numbers(script.done(integers([-2]))), [5, 0, 0, 0]);

        let mut script = reindex(Layout::Indexed);
        script.again(vec![page(5, &[&old])]);
        script.again(integers([60_000]));
        let mut replies = integers([1, 1, 0, 1, 1, 0, 0, 1, 1]);
        replies[6] = error("ERR no such key");
        assert_eq!(numbers(script.done(replies)), [5, 1, 1, 0]);
    }

    #[test]
    fn a_page_without_our_keys() {
        let outcome = reindex(Layout::Indexed).done(vec![page(9, &["session:7", "_index:x"])]);
        assert_eq!(numbers(outcome), [9, 0, 0, 0]);
    }

    #[test]
    fn starts_its_page_again_on_another_connection() {
        let reindex = Reindex::new(40, Layout::Indexed, Mode::Write);
        let mut script = Script::new(Operation::Reindex(reindex));
        let first = script.write();
        assert_eq!(first, ["SCAN 40 COUNT 512 TYPE string"]);
        script.again(vec![page(41, &[&format!("{N}:{ONE}")])]);
        script.again(integers([60_000]));
        script.operation.reset();
        assert_eq!(script.write(), first);
        assert_eq!(numbers(script.done(vec![page(0, &[])])), [0, 0, 0, 0]);
    }

    #[test]
    fn an_error_reply_ends_it_at_each_stage() {
        let full = || error("OOM command not allowed");
        let mut script = reindex(Layout::Indexed);
        assert_eq!(script.refused(vec![full()]), "redis answered OOM");
        let old = format!("{N}:{OLD_A}:{ONE}");
        script.again(vec![page(0, &[&old])]);
        assert_eq!(script.refused(vec![full()]), "redis answered OOM");

        for position in 0..9 {
            let mut script = reindex(Layout::Indexed);
            script.again(vec![page(0, &[&old])]);
            script.again(integers([60_000]));
            let mut replies = integers([1; 9]);
            replies[position] = full();
            assert_eq!(script.refused(replies), "redis answered OOM");
        }
    }
}
