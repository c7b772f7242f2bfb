//! The index sets: which keys lie under which first parts.
//!
//! For a key of n parts, the sorted set `_index:` + path of the first i parts (1 ≤ i < n) holds the
//! path of the others as member, the time of expiry in Unix milliseconds as score. The layout is
//! that of the current edition of Pow's guide.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

use redis::Cmd;

use crate::commands::Commands;
use crate::path::Path;

/// How many commands make a set live long enough.
pub(crate) const LIFE_COMMANDS: usize = 2;
/// How much longer an index set lives than the members just added, in milliseconds: a value is set
/// after its index, and must not outlive it.
const LIFE_MARGIN_MS: i64 = 60_000;
/// How long an index set lives that has a member without expiry, in milliseconds: 300,000 years. With
/// no expiry at all, the `NX` of the next put would give it one.
const FOREVER_MS: i64 = 10_000_000_000_000_000;
/// How long after its score a member is dropped, in milliseconds: a value set after its index, or by
/// a host whose clock is behind, outlives the score a little.
pub(crate) const PURGE_MARGIN_MS: i64 = 5_000;
/// A set is purged at most this often, in milliseconds.
const PURGE_INTERVAL_MS: i64 = 1_000;
/// For how many sets the next purge is remembered.
const MAX_REMEMBERED: usize = 65_536;

/// What to add to one index set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addition {
    set: Vec<u8>,
    members: Vec<Vec<u8>>,
}

/// What paths add to the index, everything for one set together.
pub fn additions<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Vec<Addition> {
    let mut additions: Vec<Addition> = Vec::new();
    let mut positions = HashMap::new();
    for path in paths {
        for (set, member) in path.memberships() {
            let position = *positions.entry(set.clone()).or_insert(additions.len());
            match additions.get_mut(position) {
                Some(addition) => addition.members.push(member.to_vec()),
                None => additions.push(Addition {
                    set,
                    members: vec![member.to_vec()],
                }),
            }
        }
    }
    additions
}

/// How long members live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Until this many milliseconds have passed.
    Milliseconds(i64),
    /// Until they are deleted.
    Infinite,
}

impl Life {
    /// Appends the time of expiry, as scores have it.
    pub(crate) fn write_score(self, now_ms: i64, command: &mut Cmd) {
        match self {
            Self::Milliseconds(ms) => command.arg(now_ms.saturating_add(ms)),
            Self::Infinite => command.arg("+inf"),
        };
    }

    /// How long a set with such a member lives.
    const fn of_set(self) -> i64 {
        match self {
            Self::Milliseconds(ms) => ms.saturating_add(LIFE_MARGIN_MS),
            Self::Infinite => FOREVER_MS,
        }
    }
}

impl Addition {
    /// Appends the commands that add the members; a set never lives shorter than before.
    pub fn write(&self, life: Life, now_ms: i64, commands: &mut Commands) {
        commands.push("ZADD", |command| {
            command.arg(&self.set);
            for member in &self.members {
                life.write_score(now_ms, command);
                command.arg(member);
            }
        });
        write_life(&self.set, life, commands);
    }

    /// Appends the command that drops members which expired, if that is due.
    pub fn write_purge(&self, life: Life, now_ms: i64, purges: &Purges, commands: &mut Commands) {
        if purges.is_due(&self.set, life, now_ms) {
            write_purge(&self.set, now_ms, commands);
        }
    }
}

/// Appends the commands that make a set live at least as long as a member: [`LIFE_COMMANDS`] of them.
pub(crate) fn write_life(set: &[u8], life: Life, commands: &mut Commands) {
    // GT takes a set without expiry for one that lives for ever, so NX has to come first.
    for condition in ["NX", "GT"] {
        commands.push("PEXPIRE", |command| {
            command.arg(set).arg(life.of_set()).arg(condition);
        });
    }
}

/// Appends the command that drops members which expired.
pub(crate) fn write_purge(set: &[u8], now_ms: i64, commands: &mut Commands) {
    commands.push("ZREMRANGEBYSCORE", |command| {
        command
            .arg(set)
            .arg("-inf")
            .arg(now_ms.saturating_sub(PURGE_MARGIN_MS));
    });
}

/// When each index set is to be purged next.
///
/// A set that is met for the first time is left alone, so that a sign-in costs no command more than
/// it needs; one that is met again is purged, at most once a second.
#[derive(Debug, Default)]
pub struct Purges {
    next: Mutex<HashMap<u64, i64>>,
}

impl Purges {
    fn is_due(&self, set: &[u8], life: Life, now_ms: i64) -> bool {
        let interval = match life {
            Life::Milliseconds(ms) => ms.min(PURGE_INTERVAL_MS),
            Life::Infinite => PURGE_INTERVAL_MS,
        };
        let mut hasher = DefaultHasher::new();
        set.hash(&mut hasher);
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if next.len() >= MAX_REMEMBERED {
            next.clear();
        }
        match next.get_mut(&hasher.finish()) {
            Some(due) if *due <= now_ms => {
                *due = now_ms.saturating_add(interval);
                true
            }
            Some(_) => false,
            None => {
                next.insert(hasher.finish(), now_ms.saturating_add(interval));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Path {
        Path::from_parts(text.split(' ').map(str::as_bytes))
    }

    fn text(commands: &Commands) -> String {
        let lines: Vec<_> = std::str::from_utf8(commands.as_bytes())
            .unwrap()
            .lines()
            .filter(|line| !line.starts_with('$'))
            .map(|line| if line.starts_with('*') { "\n" } else { line })
            .collect();
        lines.join(" ").trim().replace(" \n ", "\n")
    }

    #[test]
    fn members_of_one_set_are_added_together() {
        let paths = [path("n x"), path("n y z")];
        let additions = additions(&paths);
        let sets: Vec<_> = additions.iter().map(|a| a.members.len()).collect();
        assert_eq!(sets, [2, 1]);

        let mut commands = Commands::new();
        for addition in &additions {
            addition.write(Life::Milliseconds(1_000), 500, &mut commands);
        }
        assert_eq!(
            text(&commands),
            "ZADD _index:bg 1500 eA 1500 eQ:eg\n\
             PEXPIRE _index:bg 61000 NX\n\
             PEXPIRE _index:bg 61000 GT\n\
             ZADD _index:bg:eQ 1500 eg\n\
             PEXPIRE _index:bg:eQ 61000 NX\n\
             PEXPIRE _index:bg:eQ 61000 GT"
        );
    }

    #[test]
    fn without_expiry() {
        let mut commands = Commands::new();
        for addition in additions([&path("n x")]) {
            addition.write(Life::Infinite, 500, &mut commands);
        }
        assert_eq!(
            text(&commands),
            "ZADD _index:bg +inf eA\n\
             PEXPIRE _index:bg 10000000000000000 NX\n\
             PEXPIRE _index:bg 10000000000000000 GT"
        );
    }

    #[test]
    fn purges_a_set_that_is_met_again_at_most_once_a_second() {
        let purges = Purges::default();
        let life = Life::Milliseconds(60_000);
        let due = [0, 999, 1_000, 1_500, 2_000].map(|now| purges.is_due(b"s", life, now));
        assert_eq!(due, [false, false, true, false, true]);
        assert!(!purges.is_due(b"t", life, 2_000));
    }

    #[test]
    fn drops_what_expired_a_while_ago() {
        let mut commands = Commands::new();
        write_purge(b"s", 10_000, &mut commands);
        assert_eq!(text(&commands), "ZREMRANGEBYSCORE s -inf 5000");
    }
}
