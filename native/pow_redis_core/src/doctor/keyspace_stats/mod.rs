//! Counting what lies in a database, without a write.
//!
//! Like an operation, a [`KeyspaceStats`] takes rounds: it writes commands and reads exactly their replies.
//! Keys are looked at a page at a time, so that the server is held up no longer than by any call.

mod index_set;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::keyspace::key::Key;
use crate::keyspace::redis_key::RedisKey;
use crate::net::client::Client;
use crate::resp::commands::Commands;
use crate::resp::replies::Replies;

use self::index_set::{Expiry, Set, next_end, unless_wrong_type, write_end};

/// About how many keys, and members of a set, one round looks at.
const PAGE: u32 = 256;
/// How many index sets one round looks at.
const SETS: usize = 32;
/// For how many namespaces keys are counted apart; those of others count as no keys of ours.
const MAX_NAMESPACES: usize = 1_000;

/// What lies in a database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Keys that were looked at, whatever they are.
    pub keys: u64,
    /// Our keys, by namespace, which is an external term.
    pub namespaces: HashMap<Vec<u8>, Namespace>,
    /// Those of them with atoms in the form of Erlang/OTP 25 and earlier.
    pub legacy: u64,
    /// Index sets.
    pub sets: u64,
    /// Their members.
    pub members: u64,
    /// Members without a value whose time is over, which is as it should be.
    pub expired: u64,
    /// Members without a value whose time is not over.
    pub stale: u64,
    /// Index sets that end before a value that they list does.
    pub expires_early: u64,
}

/// The keys of a namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Those that all their index sets list.
    pub indexed: u64,
    /// The others.
    pub plain: u64,
}

/// How a count ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// All was counted.
    Complete,
    /// Its time was over.
    Stopped,
    /// It failed.
    Failed(Error),
}

/// Counts until there is nothing left or the time is over; each round may take so long.
pub(crate) fn count(route: &mut Client, patience: Duration, until: Instant) -> (Counts, End) {
    let mut stats = KeyspaceStats::new();
    while !stats.is_done() {
        if Instant::now() >= until {
            return (stats.counts, End::Stopped);
        }
        if let Err(error) = run_round(&mut stats, route, patience) {
            return (stats.counts, End::Failed(error));
        }
    }
    (stats.counts, End::Complete)
}

fn run_round(
    stats: &mut KeyspaceStats,
    route: &mut Client,
    patience: Duration,
) -> Result<(), Error> {
    let deadline = Instant::now() + patience;
    let mut commands = Commands::new();
    stats.write(&mut commands);
    route.send(&commands, deadline)?;
    let replies = (0..commands.len())
        .map(|_| route.receive(deadline))
        .collect::<Result<_, _>>()?;
    stats.read(Replies::new(replies), route.clock().now_ms())
}

/// A count under way.
#[derive(Debug)]
struct KeyspaceStats {
    cursor: u64,
    stage: Stage,
    /// Of the page.
    keys: Vec<Entry>,
    /// Of the page, those that are not done.
    sets: Vec<Set>,
    counts: Counts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The next page of keys.
    Scan,
    /// Whether the page's keys are in the index.
    Keys,
    /// The next members of its index sets.
    Sets,
    /// Their values.
    Members,
    Done,
}

/// A key of ours.
#[derive(Debug)]
struct Entry {
    redis_key: RedisKey,
    namespace: Vec<u8>,
    legacy: bool,
}

impl KeyspaceStats {
    fn new() -> Self {
        Self {
            cursor: 0,
            stage: Stage::Scan,
            keys: Vec::new(),
            sets: Vec::new(),
            counts: Counts::default(),
        }
    }

    fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    fn write(&self, commands: &mut Commands) {
        match self.stage {
            Stage::Scan => commands.push_keyless("SCAN", |command| {
                command.arg(self.cursor).arg("COUNT").arg(PAGE);
            }),
            Stage::Keys => {
                for key in &self.keys {
                    for (set, member) in key.redis_key.index_entries() {
                        commands.push("ZSCORE", &set, |command| {
                            command.arg(member);
                        });
                    }
                    // Last: what lives now was in the index before, if it ever was.
                    write_end(key.redis_key.as_bytes(), commands);
                }
            }
            Stage::Sets => {
                for set in self.sets.iter().take(SETS) {
                    write_end(&set.name, commands);
                    commands.push("ZSCAN", &set.name, |command| {
                        command.arg(set.cursor.unwrap_or(0));
                        command.arg("COUNT").arg(PAGE);
                    });
                }
            }
            Stage::Members => {
                for (redis_key, _) in self.sets.iter().take(SETS).flat_map(|set| &set.members) {
                    write_end(redis_key.as_bytes(), commands);
                }
            }
            Stage::Done => {}
        }
    }

    fn read(&mut self, mut replies: Replies, now_ms: i64) -> Result<(), Error> {
        match self.stage {
            Stage::Scan => self.read_page(&mut replies)?,
            Stage::Keys => {
                for key in std::mem::take(&mut self.keys) {
                    self.read_key(key, &mut replies)?;
                }
            }
            Stage::Sets => {
                for set in self.sets.iter_mut().take(SETS) {
                    set.read(&mut replies, now_ms)?;
                }
                self.drop_done();
            }
            Stage::Members => {
                for set in self.sets.iter_mut().take(SETS) {
                    set.read_members(&mut self.counts, &mut replies)?;
                }
                self.drop_done();
            }
            Stage::Done => {}
        }
        self.stage = self.next_stage();
        Ok(())
    }

    fn next_stage(&self) -> Stage {
        match self.stage {
            Stage::Sets if self.sets.iter().any(|set| !set.members.is_empty()) => Stage::Members,
            Stage::Scan if !self.keys.is_empty() => Stage::Keys,
            _ if !self.sets.is_empty() => Stage::Sets,
            _ if self.cursor == 0 => Stage::Done,
            _ => Stage::Scan,
        }
    }

    fn read_page(&mut self, replies: &mut Replies) -> Result<(), Error> {
        let (cursor, names) = replies.next_page()?;
        self.cursor = cursor;
        for name in names {
            self.counts.keys += 1;
            if let Some(set) = Set::found(&name) {
                self.sets.push(set);
            } else if let Some(key) = Entry::found(&name) {
                self.keys.push(key);
            }
        }
        Ok(())
    }

    fn read_key(&mut self, key: Entry, replies: &mut Replies) -> Result<(), Error> {
        let mut indexed = true;
        for _ in key.redis_key.index_entries() {
            indexed &= unless_wrong_type(replies.next_bytes())?.flatten().is_some();
        }
        if next_end(replies)? == Expiry::Gone {
            return Ok(());
        }
        let namespaces = &mut self.counts.namespaces;
        if namespaces.len() >= MAX_NAMESPACES && !namespaces.contains_key(&key.namespace) {
            return Ok(());
        }
        let namespace = namespaces.entry(key.namespace).or_default();
        if indexed {
            namespace.indexed += 1;
        } else {
            namespace.plain += 1;
        }
        self.counts.legacy += u64::from(key.legacy);
        Ok(())
    }

    /// Drops the sets of which nothing is left to read.
    fn drop_done(&mut self) {
        let counts = &mut self.counts;
        self.sets.retain(|set| {
            let done = set.cursor.is_none() && set.members.is_empty();
            if done && set.ends != Expiry::Gone {
                counts.sets += 1;
                counts.expires_early += u64::from(set.expires_early);
            }
            !done
        });
    }
}

impl Entry {
    fn found(name: &[u8]) -> Option<Self> {
        let key = Key::from_redis_key(name)?;
        Some(Self {
            namespace: key.namespace()?.to_vec(),
            legacy: key.redis_key().as_bytes() != name,
            redis_key: RedisKey::found(name),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::testing::*;
    use crate::resp::testing::*;
    use redis::Value;

    /// What the server's clock shows.
    const NOW_MS: i64 = 1_000_000;

    /// A stats, and what a server answers to its commands.
    struct Play {
        stats: KeyspaceStats,
        commands: Vec<String>,
    }

    impl Play {
        fn new() -> Self {
            let stats = KeyspaceStats::new();
            let commands = written(&stats);
            Self { stats, commands }
        }

        /// Checks the commands of the round and answers them.
        fn round(&mut self, exchange: Vec<(String, Value)>) -> &mut Self {
            let (expected, replies): (Vec<_>, Vec<_>) = exchange.into_iter().unzip();
            assert_eq!(self.commands, expected);
            let replies = Replies::new(replies);
            self.stats.read(replies, NOW_MS).unwrap();
            self.commands = written(&self.stats);
            self
        }

        fn counts(&self) -> &Counts {
            assert!(self.stats.is_done() && self.commands.is_empty());
            &self.stats.counts
        }
    }

    fn written(stats: &KeyspaceStats) -> Vec<String> {
        let mut commands = Commands::new();
        stats.write(&mut commands);
        lines(commands.as_bytes())
    }

    fn scan(cursor: u64, next: u64, names: &[&str]) -> (String, Value) {
        (format!("SCAN {cursor} COUNT 256"), page(next, names))
    }

    fn end(key: &str, ms: i64) -> (String, Value) {
        (format!("PTTL {key}"), Value::Int(ms))
    }

    fn score(set: &str, member: &str, score: Value) -> (String, Value) {
        (format!("ZSCORE {set} {member}"), score)
    }

    fn members(set: &str, cursor: u64, next: u64, items: &[&str]) -> (String, Value) {
        let command = format!("ZSCAN {set} {cursor} COUNT 256");
        (command, page(next, items))
    }

    fn namespace(indexed: u64, plain: u64) -> HashMap<Vec<u8>, Namespace> {
        let namespace = vec![131, 109, 0, 0, 0, 1, b'n'];
        HashMap::from([(namespace, Namespace { indexed, plain })])
    }

    #[test]
    fn keys_in_the_index_and_others() {
        let (first, second, old) = (
            format!("{N}:{ONE}"),
            format!("{N}:{TWO}"),
            format!("{N}:{OLD_A}:{ONE}"),
        );
        let set = format!("_index:{N}");
        let mut play = Play::new();
        // A key that is no redis_key, a namespace alone, and a page without keys of ours.
        play.round(vec![scan(0, 7, &["session:7", N])]);
        play.round(vec![scan(7, 0, &[&first, &second, &old])]);
        play.round(vec![
            score(&set, ONE, bulk("1")),
            end(&first, 5_000),
            score(&set, TWO, Value::Nil),
            end(&second, 5_000),
            // Half of it.
            score(&set, &format!("{OLD_A}:{ONE}"), bulk("1")),
            score(&format!("{set}:{OLD_A}"), ONE, Value::Nil),
            end(&old, -1),
        ]);
        let expected = Counts {
            keys: 5,
            namespaces: namespace(1, 2),
            legacy: 1,
            ..Counts::default()
        };
        assert_eq!(play.counts(), &expected);
    }

    #[test]
    fn keys_that_vanish_do_not_count() {
        let key = format!("{N}:{ONE}");
        let mut play = Play::new();
        play.round(vec![scan(0, 0, &[&key])]);
        play.round(vec![
            score(&format!("_index:{N}"), ONE, Value::Nil),
            end(&key, -2),
        ]);
        assert_eq!(play.counts().namespaces, HashMap::new());
    }

    #[test]
    fn members_without_value() {
        let set = format!("_index:{N}");
        let mut play = Play::new();
        play.round(vec![scan(0, 0, &[&set, "_index:session"])]);
        let (over, ahead) = (NOW_MS.to_string(), (NOW_MS + 1).to_string());
        let items = [ONE, &over, TWO, &ahead, A, "inf", OLD_A, &ahead];
        play.round(vec![end(&set, 90_000), members(&set, 0, 0, &items)]);
        play.round(vec![
            end(&format!("{N}:{ONE}"), -2),
            end(&format!("{N}:{TWO}"), -2),
            end(&format!("{N}:{A}"), -2),
            end(&format!("{N}:{OLD_A}"), 80_000),
        ]);
        let expected = Counts {
            keys: 2,
            sets: 1,
            members: 4,
            expired: 1,
            stale: 2,
            ..Counts::default()
        };
        assert_eq!(play.counts(), &expected);
    }

    #[test]
    fn a_set_that_ends_before_several_of_its_members_counts_once() {
        let set = format!("_index:{N}");
        let mut play = Play::new();
        play.round(vec![scan(0, 0, &[&set])]);
        for (cursor, next, member, ms) in [(0, 9, ONE, 20_000), (9, 3, A, -1), (3, 0, TWO, 5_000)] {
            play.round(vec![
                end(&set, 10_000),
                members(&set, cursor, next, &[member, "inf"]),
            ]);
            play.round(vec![end(&format!("{N}:{member}"), ms)]);
        }
        assert_eq!((play.counts().sets, play.counts().expires_early), (1, 1));
        assert_eq!(play.counts().members, 3);
    }

    #[test]
    fn sets_of_a_page_are_read_some_at_a_time() {
        let names: Vec<_> = (0..70)
            .map(|number| format!("_index:{}", path_of(number)))
            .collect();
        let page: Vec<_> = names.iter().map(String::as_str).collect();
        let mut play = Play::new();
        play.round(vec![scan(0, 5, &page)]);
        for batch in page.chunks(SETS) {
            // None has a member: two are gone, or something else.
            let replies = batch.iter().flat_map(|set| {
                let (command, _) = members(set, 0, 0, &[]);
                let wrong = (command, error("WRONGTYPE Operation against a key"));
                [end(set, -2), wrong]
            });
            play.round(replies.collect());
        }
        play.round(vec![scan(5, 0, &[])]);
        assert_eq!((play.counts().keys, play.counts().sets), (70, 0));
    }

    fn path_of(number: u8) -> String {
        let redis_key = RedisKey::from_parts([&[131, 97, number][..]]);
        String::from_utf8(redis_key.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn an_error_reply_ends_it() {
        let mut stats = KeyspaceStats::new();
        let replies = Replies::new(vec![error("NOPERM no")]);
        let outcome = stats.read(replies, NOW_MS);
        assert_eq!(outcome.unwrap_err().to_string(), "redis answered NOPERM");
    }
}
