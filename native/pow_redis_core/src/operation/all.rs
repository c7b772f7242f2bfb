//! All records whose keys match a pattern.

use std::collections::HashMap;

use super::{Layout, Outcome, Repair, Round, Step};
use crate::commands::Replies;
use crate::error::{Error, ErrorKind};
use crate::etf;
use crate::key::Key;
use crate::operation::repair::Stale;
use crate::path::Path;
use crate::pattern::Pattern;
use crate::records::Records;

/// About how many keys one round looks at: few enough that other operations in the same pipeline
/// hardly wait.
const PAGE: u32 = 512;

/// Reads the records that match: pages of the index (or of all keys, in the plain layout), and the
/// values of what matched on the page before, in the same round.
#[derive(Debug)]
pub struct All {
    pattern: Pattern,
    layout: Layout,
    sources: Vec<Source>,
    /// What matched and is to be read in the next round.
    candidates: Vec<Candidate>,
    /// The records found, by the canonical term of their key's parts.
    found: HashMap<Vec<u8>, Found>,
    stale: Vec<Stale>,
    refused: usize,
}

/// Where paths of keys come from.
#[derive(Debug)]
struct Source {
    listing: Listing,
    legacy: bool,
    /// Where to go on; nothing once all was read.
    cursor: Option<u64>,
}

#[derive(Debug)]
enum Listing {
    /// An index set, and the path in front of its members.
    Index { set: Vec<u8>, prefix: Path },
    /// All keys that a glob matches.
    Scan { glob: Vec<u8> },
}

#[derive(Debug)]
struct Candidate {
    path: Vec<u8>,
    key: Vec<u8>,
    legacy: bool,
    /// Index set, member and score.
    listed: Option<(Vec<u8>, Vec<u8>, Vec<u8>)>,
}

#[derive(Debug)]
struct Found {
    value: Vec<u8>,
    legacy: bool,
}

impl All {
    /// Reads the records that match `pattern`.
    pub fn new(pattern: Pattern, layout: Layout) -> Self {
        let mut all = Self {
            pattern,
            layout,
            sources: Vec::new(),
            candidates: Vec::new(),
            found: HashMap::new(),
            stale: Vec::new(),
            refused: 0,
        };
        all.restart();
        all
    }

    /// Cursors mean nothing to another server.
    pub(super) fn restart(&mut self) {
        let prefix = self.pattern.prefix();
        let paths = [
            Some((prefix.path(), false)),
            prefix.legacy_path().map(|path| (path, true)),
        ];
        let paths = || paths.iter().flatten();
        let parts = prefix.parts_term();
        self.candidates = if self.pattern.matches(&parts) {
            paths()
                .map(|(path, legacy)| Candidate {
                    path: path.as_bytes().to_vec(),
                    key: parts.clone(),
                    legacy: *legacy,
                    listed: None,
                })
                .collect()
        } else {
            Vec::new()
        };
        let source = |listing, legacy| Source {
            listing,
            legacy,
            cursor: Some(0),
        };
        self.sources = match self.layout {
            _ if self.pattern.is_exact() => Vec::new(),
            Layout::Plain => {
                let glob = self.pattern.glob();
                vec![source(Listing::Scan { glob }, false)]
            }
            Layout::Indexed => paths()
                .map(|(path, legacy)| {
                    let set = path.index_set();
                    let prefix = path.clone();
                    source(Listing::Index { set, prefix }, *legacy)
                })
                .collect(),
        };
        self.found.clear();
        self.stale.clear();
        self.refused = 0;
    }

    pub(super) fn write(&self, round: &mut Round<'_>) {
        for candidate in &self.candidates {
            round.commands.push("GET", |command| {
                command.arg(&candidate.path);
            });
        }
        for source in &self.sources {
            source.write(round);
        }
    }

    pub(super) fn read(&mut self, mut replies: Replies) -> Result<Step, Error> {
        for candidate in std::mem::take(&mut self.candidates) {
            let value = replies.next_bytes();
            self.take_value(candidate, value)?;
        }
        for source in &mut self.sources {
            if source.cursor.is_some() {
                let (cursor, items) = replies.next_page()?;
                source.cursor = (cursor != 0).then_some(cursor);
                let matching = source.candidates(items, &self.pattern);
                self.candidates.extend(matching);
            }
        }
        let finished =
            self.candidates.is_empty() && self.sources.iter().all(|s| s.cursor.is_none());
        Ok(if finished {
            Step::Done(self.outcome())
        } else {
            Step::Again
        })
    }

    fn take_value(
        &mut self,
        candidate: Candidate,
        value: Result<Option<Vec<u8>>, Error>,
    ) -> Result<(), Error> {
        match value {
            Ok(Some(value)) if etf::check(&value).is_ok() => {
                let found = Found {
                    value,
                    legacy: candidate.legacy,
                };
                let known = self.found.get(&candidate.key);
                if known.is_none_or(|known| known.legacy) {
                    self.found.insert(candidate.key, found);
                }
            }
            Ok(Some(_)) => self.refused += 1,
            Ok(None) => {
                if let Some((set, member, score)) = candidate.listed {
                    self.stale.push(Stale {
                        set,
                        member,
                        path: candidate.path,
                        score,
                    });
                }
            }
            // Something of another kind lies there: it is no record.
            Err(error) if is_wrong_type(&error) => self.refused += 1,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn outcome(&mut self) -> Outcome {
        let mut records = Records::default();
        for (key, found) in self.found.drain() {
            records.push(&key, &found.value);
        }
        Outcome::Records {
            records,
            refused: self.refused,
            repair: Repair::new(std::mem::take(&mut self.stale)),
        }
    }
}

impl Source {
    fn write(&self, round: &mut Round<'_>) {
        let Some(cursor) = self.cursor else {
            return;
        };
        match &self.listing {
            Listing::Index { set, .. } => round.commands.push("ZSCAN", |command| {
                command.arg(set).arg(cursor).arg("COUNT").arg(PAGE);
            }),
            Listing::Scan { glob } => round.commands.push("SCAN", |command| {
                command.arg(cursor).arg("MATCH").arg(glob);
                command.arg("COUNT").arg(PAGE).arg("TYPE").arg("string");
            }),
        }
    }

    /// Those items of a page that match.
    fn candidates(&self, items: Vec<Vec<u8>>, pattern: &Pattern) -> Vec<Candidate> {
        let candidate = |path: Vec<u8>, listed| {
            let key = Key::from_path(&path)?.parts_term();
            pattern.matches(&key).then_some(Candidate {
                path,
                key,
                legacy: self.legacy,
                listed,
            })
        };
        let mut items = items.into_iter();
        match &self.listing {
            Listing::Scan { .. } => items.filter_map(|path| candidate(path, None)).collect(),
            Listing::Index { set, prefix } => {
                let mut candidates = Vec::new();
                while let (Some(member), Some(score)) = (items.next(), items.next()) {
                    let path = prefix.join(&member).as_bytes().to_vec();
                    candidates.extend(candidate(path, Some((set.clone(), member, score))));
                }
                candidates
            }
        }
    }
}

fn is_wrong_type(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Server(code) if code.as_str() == "WRONGTYPE")
}
