//! Where the keys come from that `all` looks at.

use std::sync::Arc;
use std::time::Duration;

use super::Round;
use super::repair::Stale;
use crate::commands::Replies;
use crate::error::Error;
use crate::key::Key;
use crate::path::{Path, count_parts};
use crate::pattern::Pattern;

/// About how many of all keys one round looks at: few enough that other operations in the same pipeline
/// hardly wait.
const SCAN_PAGE: u64 = 512;
/// About how many members of an index set one round looks at.
const MIN_PAGE: u64 = 64;
const MAX_PAGE: u64 = 512;
/// For how long Redis is busy with a member and its value, in microseconds.
const BUSY_US: u64 = 2;

/// About how many members of an index set one round looks at: Redis is busy with them for as long as the
/// way to it and back takes. So others hardly wait, and most of the time is not spent on the way.
fn page(round_trip: Duration) -> u64 {
    let round_trip_us = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX);
    (round_trip_us / BUSY_US).clamp(MIN_PAGE, MAX_PAGE)
}

/// Where paths of keys come from.
#[derive(Debug)]
pub(super) struct Source {
    /// What is listed.
    listing: Listing,
    /// Where to go on; nothing once all was read.
    cursor: Option<u64>,
}

/// What is listed.
#[derive(Debug)]
pub(super) enum Listing {
    /// An index set, and the path in front of its members.
    Index { set: Arc<[u8]>, prefix: Path },
    /// All keys that a glob matches.
    Scan { glob: Vec<u8> },
}

/// A key that matches, to be read.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) path: Vec<u8>,
    /// The canonical term of the key's parts.
    pub(super) key: Vec<u8>,
    /// In the form of Erlang/OTP 25 and earlier.
    pub(super) legacy: bool,
    pub(super) listed: Option<Listed>,
}

/// Where a candidate stands in the index.
#[derive(Debug)]
pub(super) struct Listed {
    set: Arc<[u8]>,
    /// Where in the path the member begins.
    member: usize,
    score: Vec<u8>,
}

impl Candidate {
    /// What is stale in the index, if the value is gone.
    pub(super) fn stale(self) -> Option<Stale> {
        let listed = self.listed?;
        Some(Stale {
            set: listed.set,
            member: self.path.get(listed.member..)?.to_vec(),
            path: self.path,
            score: listed.score,
        })
    }

    /// A key in the old form that is gone may have been renamed just now.
    pub(super) fn renamed(&self) -> Option<Self> {
        let key = Key::from_path(&self.path).filter(|_| self.legacy)?;
        Some(Self {
            path: key.path().as_bytes().to_vec(),
            key: self.key.clone(),
            legacy: false,
            listed: None,
        })
    }
}

impl Source {
    /// All of it is yet to be read.
    pub(super) const fn new(listing: Listing) -> Self {
        Self {
            listing,
            cursor: Some(0),
        }
    }

    /// Whether there is more to read.
    pub(super) const fn has_more(&self) -> bool {
        self.cursor.is_some()
    }

    /// Whether there is more to read behind a page that was read.
    pub(super) fn has_begun(&self) -> bool {
        self.cursor.is_some_and(|cursor| cursor > 0)
    }

    /// Appends the command that lists the next page.
    pub(super) fn write(&self, round: &mut Round<'_>) {
        let Some(cursor) = self.cursor else {
            return;
        };
        match &self.listing {
            Listing::Index { set, .. } => round.commands.push("ZSCAN", |command| {
                let page = page(round.round_trip);
                command.arg(&**set).arg(cursor).arg("COUNT").arg(page);
            }),
            Listing::Scan { glob } => round.commands.push("SCAN", |command| {
                command.arg(cursor).arg("MATCH").arg(glob);
                command.arg("COUNT").arg(SCAN_PAGE);
                command.arg("TYPE").arg("string");
            }),
        }
    }

    /// Takes the page: those of its keys that match.
    pub(super) fn read(
        &mut self,
        replies: &mut Replies,
        pattern: &Pattern,
    ) -> Result<Vec<Candidate>, Error> {
        let (cursor, page) = replies.next_page()?;
        self.cursor = (cursor != 0).then_some(cursor);
        Ok(self.candidates(page, pattern))
    }

    fn candidates(&self, page: Vec<Vec<u8>>, pattern: &Pattern) -> Vec<Candidate> {
        let candidate = |path: Vec<u8>, listed| {
            let found = Key::parts_of_path(&path)?;
            pattern.matches(&found.parts).then_some(Candidate {
                path,
                key: found.parts,
                legacy: found.legacy,
                listed,
            })
        };
        let mut items = page.into_iter();
        match &self.listing {
            Listing::Scan { .. } => items.filter_map(|path| candidate(path, None)).collect(),
            Listing::Index { set, prefix } => {
                let prefix_parts = count_parts(prefix.as_bytes());
                let mut candidates = Vec::new();
                while let (Some(member), Some(score)) = (items.next(), items.next()) {
                    if !pattern.fits(prefix_parts + count_parts(&member)) {
                        continue;
                    }
                    let listed = Listed {
                        set: Arc::clone(set),
                        member: prefix.as_bytes().len() + 1,
                        score,
                    };
                    let path = prefix.join(&member).into_bytes();
                    candidates.extend(candidate(path, Some(listed)));
                }
                candidates
            }
        }
    }
}
