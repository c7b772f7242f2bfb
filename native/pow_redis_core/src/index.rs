//! The index sets: which keys lie under which first parts.
//!
//! For a key of n parts, the sorted set `_index:` + path of the first i parts (1 ≤ i < n) holds the
//! path of the others as member, the time of expiry in Unix milliseconds as score. The layout is
//! that of the current edition of Pow's guide.

use std::collections::HashMap;

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

/// How long a member lives.
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

    /// When it ends, in Unix milliseconds.
    pub(crate) const fn end_ms(self, now_ms: i64) -> i64 {
        match self {
            Self::Milliseconds(ms) => now_ms.saturating_add(ms),
            Self::Infinite => FOREVER_MS,
        }
    }

    /// The life that ends then.
    pub(crate) fn until_ms(end_ms: i64, now_ms: i64) -> Self {
        if end_ms >= FOREVER_MS {
            Self::Infinite
        } else {
            Self::Milliseconds(end_ms.saturating_sub(now_ms).max(0))
        }
    }

    /// When a set with such a member ends, in Unix milliseconds.
    pub(crate) const fn end_of_set_ms(self, now_ms: i64) -> i64 {
        now_ms.saturating_add(self.of_set())
    }
}

impl Addition {
    /// The set that is added to.
    pub(crate) fn set(&self) -> &[u8] {
        &self.set
    }

    /// Appends the command that adds the members.
    pub fn write(&self, life: Life, now_ms: i64, commands: &mut Commands) {
        commands.push("ZADD", |command| {
            command.arg(&self.set);
            for member in &self.members {
                life.write_score(now_ms, command);
                command.arg(member);
            }
        });
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::script::lines;

    fn path(text: &str) -> Path {
        Path::from_parts(text.split(' ').map(str::as_bytes))
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
            lines(commands.as_bytes()),
            [
                "ZADD _index:bg 1500 eA 1500 eQ:eg",
                "ZADD _index:bg:eQ 1500 eg"
            ]
        );
    }

    #[test]
    fn without_expiry() {
        let mut commands = Commands::new();
        for addition in additions([&path("n x")]) {
            addition.write(Life::Infinite, 500, &mut commands);
        }
        assert_eq!(lines(commands.as_bytes()), ["ZADD _index:bg +inf eA"]);
    }

    #[test]
    fn a_set_lives_longer_than_its_members() {
        for (life, text) in [
            (Life::Milliseconds(1_000), "61000"),
            (Life::Infinite, "10000000000000000"),
        ] {
            let mut commands = Commands::new();
            write_life(b"s", life, &mut commands);
            let expected = ["NX", "GT"].map(|condition| format!("PEXPIRE s {text} {condition}"));
            assert_eq!(lines(commands.as_bytes()), expected);
            assert!(life.end_of_set_ms(5) > life.end_ms(5));
        }
    }

    #[test]
    fn the_life_that_ends_at_a_time() {
        for life in [Life::Milliseconds(1_000), Life::Infinite] {
            assert_eq!(Life::until_ms(life.end_ms(5), 5), life);
        }
        assert_eq!(Life::until_ms(5, 7), Life::Milliseconds(0));
    }

    #[test]
    fn drops_what_expired_a_while_ago() {
        let mut commands = Commands::new();
        write_purge(b"s", 10_000, &mut commands);
        assert_eq!(lines(commands.as_bytes()), ["ZREMRANGEBYSCORE s -inf 5000"]);
    }
}
